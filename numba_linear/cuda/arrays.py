"""Arrays on the GPU: from whatever holds them, without a copy.

Anything with `__cuda_array_interface__` (CuPy, PyTorch, Numba) or DLPack. Only their addresses,
shapes and strides are used; no element is ever touched here.
"""

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numba import cuda
from numba.cuda.core import config

from numba_linear import checks
from numba_linear.checks import Given

#: DLPack's device types that kernels can read: CUDA and CUDA's managed memory.
DLPACK_CUDA = (2, 13)


class Operand(NamedTuple):
    """An array on the GPU; strides are in bytes."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]
    writable: bool
    #: Keeps the memory alive.
    owner: Any

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def given(self) -> Given:
        return Given("CUDA array", self.dtype, self.ndim, self.writable)

    def place(self) -> np.ndarray:
        """NumPy's idea of the array, for checks that only need to know where it lies.

        Its numbers are not in the host's memory: to look at one would end the process.
        """

        interface = {
            "version": 3,
            "shape": self.shape,
            "strides": self.strides,
            "typestr": self.dtype.str,
            "data": (self.address, not self.writable),
        }
        return np.asarray(SimpleNamespace(__array_interface__=interface))


def strides_of(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """The strides of an array in C order."""
    strides = []
    for extent in reversed(shape):
        strides.append(size)
        size *= extent
    return tuple(reversed(strides))


def wait_for(producer: Any, stream: Any) -> None:
    """Let the stream wait for what the producer's stream is still to write."""
    if producer is None or not config.CUDA_ARRAY_INTERFACE_SYNC or config.ENABLE_CUDASIM:
        return
    if producer != int(stream):
        event = cuda.event(timing=False)
        event.record(cuda.external_stream(producer))
        event.wait(stream)


def operand(operation: str, name: str, letters: str, value: Any, stream: Any) -> Operand:
    """An argument as an operand.

    Raises
    ------
    TypeError
        If it is no array on a GPU.
    """
    if getattr(value, "requires_grad", False) is True:  # PyTorch hands on no address of such
        raise TypeError(
            f"{operation}: {name} is a tensor that requires a gradient; wanted one that does not:"
            f" pass {name}.detach()"
        )
    if config.ENABLE_CUDASIM and isinstance(value, cuda.cudadrv.devicearray.FakeCUDAArray):
        a = value._ary
        return Operand(a.ctypes.data, a.shape, a.strides, a.dtype, a.flags.writeable, value)
    interface = getattr(value, "__cuda_array_interface__", None)
    if interface is not None:
        if interface.get("mask") is not None:
            raise TypeError(f"{operation}: {name} is a masked array; wanted one without a mask")
        address, read_only = interface["data"]
        shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
        strides = interface.get("strides") or strides_of(shape, dtype.itemsize)
        wait_for(interface.get("stream"), stream)
        return Operand(address or 0, shape, tuple(strides), dtype, not read_only, value)
    device = getattr(value, "__dlpack_device__", None)
    if device is not None and device()[0] in DLPACK_CUDA:
        from cuda.core.utils import StridedMemoryView

        # 1 is DLPack's word for CUDA's default stream.
        view = StridedMemoryView.from_dlpack(value, stream_ptr=int(stream) or 1)
        size = view.dtype.itemsize
        strides = strides_of(view.shape, size)
        if view.strides is not None:
            strides = tuple(size * step for step in view.strides)
        return Operand(view.ptr, view.shape, strides, view.dtype, not view.readonly, view)
    kind = type(value).__name__
    if isinstance(value, np.ndarray) or device is not None:
        kind += ", in the host's memory"
    raise TypeError(
        f"{operation}: {name} is of type {kind}; wanted a CUDA array of shape"
        f" {checks.wanted(letters)}: copy with numba.cuda.to_device({name})"
    )


def check_aligned(operation: str, name: str, a: Operand) -> None:
    size = a.dtype.itemsize
    steps = (s for s, extent in zip(a.strides, a.shape, strict=True) if extent > 1)
    if any(step % size for step in (a.address, *steps)):
        raise ValueError(
            f"{operation}: {name} lies at address {a.address:#x} with strides {a.strides};"
            f" wanted multiples of the {size} bytes of a {a.dtype}"
        )


def empty(shape: tuple[int, ...], dtype: np.dtype[Any] | str, stream: Any) -> Any:
    """A new array of Numba's, whose consumers wait for the stream."""
    return cuda.device_array(shape, dtype, stream=stream)


def as_stream(stream: Any) -> Any:
    """Numba's stream from one of Numba, CuPy or PyTorch, or from the handle of one."""
    if hasattr(stream, "__cuda_stream__"):
        stream = int(stream.__cuda_stream__()[1])
    elif hasattr(stream, "cuda_stream"):
        stream = stream.cuda_stream
    elif hasattr(stream, "ptr"):
        stream = stream.ptr
    return cuda.external_stream(stream) if isinstance(stream, int) and stream else stream

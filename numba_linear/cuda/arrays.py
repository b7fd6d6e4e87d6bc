"""Arrays on the GPU, from any library, without a copy.

Anything with DLPack or `__cuda_array_interface__` will do (PyTorch, CuPy, Numba, JAX). Only
addresses, shapes and strides are used; no element is touched here.
"""

import functools
import importlib
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numba import cuda
from numba.cuda.core import config

from numba_linear import checks
from numba_linear.checks import Given

#: The driver, or Numba's simulator in its place.
device: Any = importlib.import_module(
    "numba_linear.cuda." + ("simulated_device" if config.ENABLE_CUDASIM else "device")
)
Place = device.Place

SIMULATED = config.ENABLE_CUDASIM

#: DLPack's device types that kernels can read: CUDA, and CUDA's managed memory, which belongs to
#: no GPU.
DLPACK_CUDA, DLPACK_MANAGED = 2, 13


class Operand(NamedTuple):
    """An array on the GPU; strides are in bytes."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]
    writable: bool
    #: The number of the GPU that has it; None if any can read it.
    ordinal: int | None
    #: Keeps the memory alive.
    owner: Any

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def given(self) -> Given:
        return Given("CUDA array", self.dtype, self.ndim, self.writable)

    def place(self) -> np.ndarray:
        """The array as NumPy's, for checks of where it lies.

        Its numbers are not in the host's memory: reading one would crash the process.
        """

        interface = {
            "version": 3,
            "shape": self.shape,
            "strides": self.strides,
            "typestr": self.dtype.str,
            "data": (self.address, not self.writable),
        }
        return np.asarray(SimpleNamespace(__array_interface__=interface))


dtype_of = functools.cache(np.dtype)


@functools.lru_cache(1024)
def strides_of(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """The strides of an array in C order."""
    strides = []
    for extent in reversed(shape):
        strides.append(size)
        size *= extent
    return tuple(reversed(strides))


def operand(operation: str, reduction: str, name: str, value: Any, place: Any) -> Operand:
    """An argument as an operand; the place's stream waits for it.

    Raises
    ------
    TypeError
        If it is not an array on a GPU.
    """
    if SIMULATED and isinstance(value, cuda.cudadrv.devicearray.FakeCUDAArray):
        a = value._ary
        return Operand(a.ctypes.data, a.shape, a.strides, a.dtype, a.flags.writeable, None, value)
    # DLPack first: PyTorch's other interface does not say which stream is still writing.
    dlpack = getattr(value, "__dlpack_device__", None)
    if dlpack is not None:
        if getattr(value, "requires_grad", False) is True:  # autograd would not see the call
            raise TypeError(
                f"{operation}: {name} is a tensor that requires a gradient; wanted one that does"
                f" not: pass {name}.detach()"
            )
        if dlpack()[0] in (DLPACK_CUDA, DLPACK_MANAGED):
            try:
                return by_dlpack(value, place.stream)
            except BufferError:  # its library does not export this array by DLPack
                if not hasattr(value, "__cuda_array_interface__"):
                    raise
    interface = getattr(value, "__cuda_array_interface__", None)
    if interface is not None:
        if interface.get("mask") is not None:
            raise TypeError(f"{operation}: {name} is a masked array; wanted one without a mask")
        address, read_only = interface["data"]
        address = address or 0
        shape, dtype = tuple(interface["shape"]), dtype_of(interface["typestr"])
        strides = interface.get("strides")
        strides = strides_of(shape, dtype.itemsize) if strides is None else tuple(strides)
        producer = interface.get("stream")
        if producer != place.stream.handle:
            device.wait_for(producer, place.stream)
        ordinal = device.owner_of(address, place.ordinal)
        return Operand(address, shape, strides, dtype, not read_only, ordinal, value)
    kind = type(value).__name__
    if isinstance(value, np.ndarray) or dlpack is not None:
        kind += ", in the host's memory"
    letters = checks.LETTERS[operation] | checks.out_letters(operation, reduction)
    raise TypeError(
        f"{operation}: {name} is of type {kind}; wanted a CUDA array of shape"
        f" {checks.wanted(letters[name])}: copy with numba.cuda.to_device({name})"
    )


def by_dlpack(value: Any, stream: Any) -> Operand:
    from cuda.core.utils import StridedMemoryView

    handle = stream.handle
    if handle == device.LEGACY and hasattr(value, "requires_grad"):
        handle = 0  # PyTorch's name of it, or cuda.core takes one stream for two
    view = StridedMemoryView.from_dlpack(value, stream_ptr=handle)
    shape, dtype, strides = view.shape, view.dtype, view.strides
    if strides is None:
        strides = strides_of(shape, dtype.itemsize)
    else:
        strides = tuple(dtype.itemsize * step for step in strides)
    kind, ordinal = value.__dlpack_device__()
    ordinal = None if kind == DLPACK_MANAGED else ordinal
    return Operand(view.ptr, shape, strides, dtype, not view.readonly, ordinal, view)


def check_aligned(operation: str, name: str, a: Operand) -> None:
    size = a.dtype.itemsize
    steps = (s for s, extent in zip(a.strides, a.shape, strict=True) if extent > 1)
    if any(step % size for step in (a.address, *steps)):
        raise ValueError(
            f"{operation}: {name} lies at address {a.address:#x} with strides {a.strides};"
            f" wanted multiples of the {size} bytes of a {a.dtype}"
        )


def check_devices(operation: str, arrays: dict[str, Operand], current: int) -> None:
    """Raise for arrays on several GPUs, or on another than the current one.

    If a kernel on one GPU gets an address on another, some later call fails.
    """
    owners = {name: a.ordinal for name, a in arrays.items() if a.ordinal is not None}
    for name, ordinal in owners.items():
        first = next(iter(owners))
        if ordinal != owners[first]:
            raise ValueError(
                f"{operation}: {first} lies on GPU {owners[first]} and {name} on GPU {ordinal};"
                " wanted all arrays on one"
            )
    for name, ordinal in owners.items():
        if ordinal != current:
            raise ValueError(
                f"{operation}: {name} lies on GPU {ordinal}; wanted GPU {current}, the current"
                f" one: call inside `with numba.cuda.gpus[{ordinal}]:`"
            )

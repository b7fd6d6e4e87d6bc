"""The GPU by its driver, through NVIDIA's cuda.core: streams, memory, launches.

Nothing here waits for the GPU. `simulated_device.py` has the same names for Numba's simulator.
"""

import functools
import math
from collections.abc import Iterable
from itertools import chain
from typing import Any, NamedTuple

import cuda.core
import numpy as np
from cuda.bindings import driver
from numba import cuda as numba_cuda
from numba.cuda.core import config

from numba_linear.cuda.compiled import Kernel, entry_of

#: CUDA's handles of the default streams. They mean the same to every library; 0 does not.
LEGACY, PER_THREAD = 1, 2


class Stream(NamedTuple):
    """The stream of a call."""

    handle: int
    #: cuda.core's stream.
    core: Any
    #: The call's argument, kept until its memory is freed in stream order.
    owner: Any = None


class Place(NamedTuple):
    """Where and in what order a call's kernels run: a device number and a stream."""

    ordinal: int
    stream: Stream


@functools.cache
def default_stream() -> Stream:
    """Numba's default stream: the legacy one, unless Numba is told to have one per thread."""
    if config.CUDA_PER_THREAD_DEFAULT_STREAM:
        return Stream(PER_THREAD, cuda.core.PER_THREAD_DEFAULT_STREAM)
    return Stream(LEGACY, cuda.core.LEGACY_DEFAULT_STREAM)


def stream_of(operation: str, stream: Any) -> Stream:
    """A call's stream, from one of Numba, CuPy, PyTorch or cuda.core, or from a handle.

    Raises
    ------
    TypeError
        If it is not a stream.
    """
    if stream is None or (type(stream) is int and stream == 0):
        return default_stream()
    if hasattr(stream, "cuda_stream"):  # PyTorch, whose 0 is the legacy default stream
        handle = stream.cuda_stream or LEGACY
    elif hasattr(stream, "ptr"):  # CuPy, whose 0 is the same
        handle = stream.ptr or LEGACY
    elif hasattr(stream, "__cuda_stream__"):
        handle = int(stream.__cuda_stream__()[1])
    else:
        handle = stream
    if type(handle) is not int or handle < 0:
        raise TypeError(
            f"{operation}: stream is {stream!r}; wanted a stream of Numba, CuPy, PyTorch or"
            " cuda.core, the handle of one, or 0 for the default stream"
        )
    if handle == 0:
        return default_stream()
    if handle == LEGACY:
        return Stream(LEGACY, cuda.core.LEGACY_DEFAULT_STREAM)
    return Stream(handle, cuda.core.Stream.from_handle(handle), stream)


def wait_for(producer: int | None, stream: Stream) -> None:
    """Let the stream wait for the work of another, given by its handle."""
    if producer and producer != stream.handle and config.CUDA_ARRAY_INTERFACE_SYNC:
        stream.core.wait(cuda.core.Stream.from_handle(producer))


# --------------------------------------------------------------------------------------
# Devices
# --------------------------------------------------------------------------------------


def current() -> int:
    """The current device's number; the first device, if the thread has none yet."""
    error, ordinal = driver.cuCtxGetDevice()
    if error:
        cuda.core.Device().set_current()
        return int(cuda.core.Device().device_id)
    return int(ordinal)


ASKED = driver.CUpointer_attribute
DEVICE_OF = ASKED.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL


def owner_of(address: int, current: int) -> int | None:
    """The number of the GPU that memory belongs to; None if any may read it, or if unknown."""
    if not address:
        return None
    error, ordinal = driver.cuPointerGetAttribute(DEVICE_OF, address)
    if error or ordinal == current:
        return None if error else current
    _, kind = driver.cuPointerGetAttribute(ASKED.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address)
    _, managed = driver.cuPointerGetAttribute(ASKED.CU_POINTER_ATTRIBUTE_IS_MANAGED, address)
    on_device = int(kind) == driver.CUmemorytype.CU_MEMORYTYPE_DEVICE
    return int(ordinal) if on_device and not managed else None


@functools.cache
def processors(ordinal: int) -> int:
    """Multiprocessors of a device."""
    return int(cuda.core.Device(ordinal).properties.multiprocessor_count)


@functools.cache
def capability(ordinal: int) -> tuple[int, int]:
    major, minor = cuda.core.Device(ordinal).compute_capability
    return major, minor


# --------------------------------------------------------------------------------------
# Launches
# --------------------------------------------------------------------------------------


SHARED = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


@functools.cache
def loaded(kernel: Kernel, ordinal: int) -> Any:
    """A kernel's machine code, loaded on a device."""
    code = kernel.machine_code(capability(ordinal))
    found = cuda.core.ObjectCode.from_cubin(code).get_kernel(entry_of(code))
    if kernel.shared_bytes:
        of_device = (found.handle, driver.CUdevice(ordinal))
        (error,) = driver.cuKernelSetAttribute(SHARED, kernel.shared_bytes, *of_device)
        if error:
            raise RuntimeError(f"numba_linear.cuda: {kernel.name}: {error}")
    return found


@functools.lru_cache(1024)
def configured(blocks: int, threads: int, shared_bytes: int) -> Any:
    return cuda.core.LaunchConfig(grid=blocks, block=threads, shmem_size=shared_bytes)


def launch(
    kernel: Kernel, blocks: int, place: Place, groups: Iterable[Any], *numbers: float
) -> None:
    """Launch a kernel; its arguments are groups of integers, such as matrices, then numbers."""
    code = loaded(kernel, place.ordinal)
    grid = configured(blocks, kernel.threads, kernel.shared_bytes)
    cuda.core.launch(place.stream.core, grid, code, *chain.from_iterable(groups), *numbers)


# --------------------------------------------------------------------------------------
# Memory
# --------------------------------------------------------------------------------------


class Memory:
    """Memory in stream order: neither allocating nor freeing it waits for the GPU."""

    buffer: Any = None
    interface: dict[str, Any]
    __cuda_array_interface__ = property(lambda self: self.interface)

    def __init__(self, place: Place, bytes_: int) -> None:
        self.stream, self.address = place.stream, 0
        if bytes_:
            _, capturing = driver.cuStreamIsCapturing(place.stream.handle)
            if capturing == driver.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_ACTIVE:
                resource = cuda.core.GraphMemoryResource(place.ordinal)  # a node of the graph
            else:
                resource = cuda.core.Device(place.ordinal).memory_resource
            self.buffer = resource.allocate(bytes_, stream=place.stream.core)
            self.address = int(self.buffer.handle)

    def __del__(self) -> None:
        self.buffer = None  # before the stream


def empty(place: Place, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Any, int]:
    """A new Numba array, and its address."""
    memory = Memory(place, math.prod(shape) * dtype.itemsize)
    memory.interface = {
        "version": 3,
        "shape": shape,
        "typestr": dtype.str,
        "data": (memory.address, False),
        # The default stream is named too, so that a reader on another stream waits.
        "stream": place.stream.handle,
    }
    return numba_cuda.as_cuda_array(memory, sync=False), memory.address

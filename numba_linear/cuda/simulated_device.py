"""The names of `device.py` for Numba's simulator, which has one device and never defers work."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from numba_linear.cuda.compiled import Kernel

LEGACY = 1


class Stream(NamedTuple):
    handle: int
    core: Any
    owner: Any = None


class Place(NamedTuple):
    ordinal: int
    stream: Stream


def stream_of(operation: str, stream: Any) -> Stream:
    return Stream(LEGACY, stream or 0)


def wait_for(producer: int | None, stream: Stream) -> None:
    pass


def current() -> int:
    return 0


def owner_of(address: int, current: int) -> None:
    return None


def processors(ordinal: int) -> int:
    return 1


def launch(
    kernel: Kernel, blocks: int, place: Place, groups: Iterable[Any], *numbers: float
) -> None:
    kernel.function[blocks, kernel.threads](*groups, *numbers)


class Memory:
    def __init__(self, place: Place, bytes_: int) -> None:
        self.bytes = np.empty(bytes_, np.uint8)
        self.address = self.bytes.ctypes.data


def empty(place: Place, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Any, int]:
    array = cuda.device_array(shape, dtype, stream=place.stream.core)
    return array, array._ary.ctypes.data

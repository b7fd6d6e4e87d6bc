"""A simulated GPU: the calls of `numba_linear.cuda`, whose launches are interpreted.

Everything but the hardware is as on a GPU: arrays with `__cuda_array_interface__`, the arguments
of every launch, and the PTX that NVVM compiles for them.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from itertools import chain
from types import SimpleNamespace
from typing import Any

import numpy as np
import ptx
from layouts import Layout
from numba import cuda
from numba.cuda import dispatcher

from numba_linear.cuda import device
from numba_linear.cuda.compiled import linker as linker_of


@functools.cache
def intermediate(kernel: Any, capability: Any) -> bytes:
    """A kernel's intermediate code, compiled as a launch would."""
    device = SimpleNamespace(compute_capability=capability)
    asked, dispatcher.get_current_device = dispatcher.get_current_device, lambda: device
    try:
        return kernel.intermediate(capability)
    finally:
        dispatcher.get_current_device = asked


@functools.cache
def compiled(kernel: Any, capability: Any) -> str:
    """The PTX of a launch's machine code."""
    linker = linker_of(intermediate(kernel, capability), capability, ptx=True)
    return linker.link("ptx").code.decode()


def unfused(text: str) -> str:
    """PTX in which each float32 multiply-add is rounded twice."""
    text = text.replace("\t.reg .pred", "\t.reg .f32 %product<1>;\n\t.reg .pred", 1)
    return re.sub(
        r"fma\.rn\.f32\s+(%\w+), (%\w+), (%\w+), (%\w+);",
        r"mul.rn.f32 %product0, \2, \3; add.f32 \1, %product0, \4;",
        text,
    )


class Array:
    """An array in the interpreted GPU's memory."""

    def __init__(self, view: np.ndarray, interface: dict[str, Any]) -> None:
        self.view, self.__cuda_array_interface__ = view, interface

    @property
    def shape(self) -> tuple[int, ...]:
        return self.view.shape

    def __len__(self) -> int:
        return len(self.view)

    def __getitem__(self, i: int) -> Array:
        """A sample of a batch."""
        view, (address, read_only) = self.view[i], self.__cuda_array_interface__["data"]
        interface = self.__cuda_array_interface__ | {
            "shape": view.shape,
            "strides": view.strides,
            "data": (address + view.ctypes.data - self.view.ctypes.data, read_only),
        }
        return Array(view, interface)

    def copy_to_host(self) -> np.ndarray:
        return self.view.copy()


class Gpu:
    """Memory, and launches into it, instead of the driver."""

    def __init__(self, monkeypatch: Any, processors: int = 1, change: Any = None) -> None:
        self.memory, self.launches = ptx.Memory(), Counter()
        self.change = change or (lambda text: text)
        self.parsed: dict[str, ptx.Kernel] = {}
        monkeypatch.setattr(cuda, "is_available", lambda: True)
        replaced = {
            "current": lambda: 0,
            "owner_of": lambda address, current: None,
            "processors": lambda ordinal: processors,
            "launch": self.launch,
            "Memory": self.work,
            "empty": self.empty,
        }
        for name, function in replaced.items():
            monkeypatch.setattr(device, name, function)

    def launch(self, kernel: Any, blocks: int, place: Any, groups: Any, *numbers: Any) -> None:
        text = self.change(compiled(kernel, (9, 0)))
        if text not in self.parsed:
            self.parsed[text] = ptx.parse(text)
        self.launches[kernel.name.split()[0]] += 1
        arguments = [*chain.from_iterable(groups), *numbers]
        kernel_ = self.parsed[text]
        ptx.run(kernel_, blocks, kernel.threads, arguments, self.memory, kernel.shared_bytes)

    def to_device(self, a: np.ndarray, layout: Layout | None = None) -> Array:
        """A copy of an array in this memory, in any layout."""
        buffer, view = (layout or Layout()).buffer(a.shape, a.dtype.type)
        view[...] = a
        start = self.memory.place(buffer)
        offset = view.ctypes.data - buffer.ctypes.data
        return Array(
            view,
            {
                "version": 3,
                "shape": a.shape,
                "strides": view.strides,
                "typestr": a.dtype.str,
                "data": (start + offset, not a.flags.writeable),
            },
        )

    def empty(self, place: Any, shape: tuple[int, ...], dtype: Any) -> tuple[Array, int]:
        """A new array, filled with NaN, and its address."""
        array = self.to_device(np.full(shape, np.nan, dtype))
        return array, array.__cuda_array_interface__["data"][0]

    def work(self, place: Any, bytes_: int) -> Any:
        return SimpleNamespace(address=self.memory.place(np.full(bytes_, 0xFF, np.uint8)))

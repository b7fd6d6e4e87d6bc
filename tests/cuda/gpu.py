"""A GPU that is not there: the calls of `numba_linear.cuda`, whose launches are interpreted.

Everything but the silicon is as on a GPU: arrays with `__cuda_array_interface__`, the arguments of
every launch, and the PTX that NVVM compiles for them.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import ptx
from layouts import Layout
from numba import cuda
from numba.cuda import dispatcher, types

from numba_linear.cpu.matrix import Matrix
from numba_linear.cuda import arrays, contract


def signature(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The Numba types of a launch's arguments."""

    def of(value: Any) -> Any:
        if isinstance(value, Matrix):
            return types.NamedUniTuple(types.int64, len(value), Matrix)
        if isinstance(value, tuple):
            return types.UniTuple(types.int64, len(value))
        return types.float64 if isinstance(value, float) else types.int64

    return tuple(of(value) for value in arguments)


@functools.cache
def compiled(kernel: Any, types_: tuple[Any, ...], capability: tuple[int, int]) -> str:
    """The PTX of a kernel, compiled as a launch would."""
    options = kernel.targetoptions
    device = SimpleNamespace(compute_capability=capability)
    asked, dispatcher.get_current_device = dispatcher.get_current_device, lambda: device
    try:
        text, _ = cuda.compile(
            kernel.py_func,
            types_,
            device=False,
            abi="numba",
            cc=capability,
            fastmath=options["fastmath"],
            opt=options["opt"],
            launch_bounds=options["launch_bounds"],
        )
    finally:
        dispatcher.get_current_device = asked
    return text


def flat(arguments: Any) -> list[Any]:
    """A launch's arguments as the kernel's parameters."""
    return [y for x in arguments for y in (flat(x) if isinstance(x, tuple) else [x])]


def unfused(text: str) -> str:
    """PTX with each multiply-add of float32 rounded twice."""
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
    """Memory, and launches into it."""

    def __init__(self, monkeypatch: Any, processors: int = 1, change: Any = None) -> None:
        self.memory, self.launches = ptx.Memory(), Counter()
        self.change = change or (lambda text: text)
        self.parsed: dict[str, ptx.Kernel] = {}
        gpu = self

        def launch(kernel: Any, configuration: Any) -> Any:
            grid, block, *_ = configuration
            return lambda *arguments: gpu.launch(kernel, grid, block, arguments)

        monkeypatch.setattr(dispatcher.CUDADispatcher, "__getitem__", launch)
        monkeypatch.setattr(cuda, "is_available", lambda: True)
        monkeypatch.setattr(contract, "processors", lambda: processors)
        for module in (arrays, contract):
            monkeypatch.setattr(module, "empty", self.empty)

    def launch(self, kernel: Any, grid: int, block: int, arguments: tuple[Any, ...]) -> None:
        text = self.change(compiled(kernel, signature(arguments), (9, 0)))
        if text not in self.parsed:
            self.parsed[text] = ptx.parse(text)
        self.launches[kernel.py_func.__name__] += 1
        ptx.run(self.parsed[text], grid, block, flat(arguments), self.memory)

    def to_device(self, a: np.ndarray, layout: Layout | None = None) -> Array:
        """An array's copy in this memory, of any layout."""
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

    def empty(self, shape: tuple[int, ...], dtype: Any, stream: Any) -> Array:
        """A new array, of NaN."""
        return self.to_device(np.full(shape, np.nan, dtype))

"""Arrays of every memory layout, each inside a larger buffer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Layout(NamedTuple):
    """The places of an array's items in its buffer."""

    order: str = "C"
    gap: int = 0  # bytes left between neighbours along the fastest axis
    pad: int = 0  # items left at the end of every row (column, for order F)
    sign: int = 1  # -1: both axes run backwards
    shift: int = 0  # bytes off the dtype's alignment

    def buffer(self, shape: tuple[int, ...], dtype: type) -> tuple[np.ndarray, np.ndarray]:
        """A buffer of bytes 0xFF (as floats, NaN) and the view of this layout in its middle."""
        step = np.dtype(dtype).itemsize + self.gap
        strides = [0] * len(shape)
        axes = range(len(shape)) if self.order == "F" else reversed(range(len(shape)))
        extent = step
        for fastest, axis in enumerate(axes):
            strides[axis] = extent
            extent *= shape[axis]
            if fastest == 0:
                extent += self.pad * step
        guard = 128
        buffer = np.full(guard + 64 + self.shift + extent + guard, 0xFF, np.uint8)
        start = guard + -buffer.ctypes.data % 64 + self.shift
        if self.sign < 0 and 0 not in shape:
            start += sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        steps = [self.sign * stride for stride in strides]
        return buffer, np.ndarray(shape, dtype, buffer.data, start, steps)

    def of(self, a: np.ndarray) -> np.ndarray:
        """The values of a in this layout."""
        _, view = self.buffer(a.shape, a.dtype.type)
        view[...] = a
        return view


LAYOUTS = {
    "C": Layout(),
    "Fortran": Layout(order="F"),
    "rows apart": Layout(pad=3),
    "columns apart": Layout(order="F", pad=5),
    "strided": Layout(gap=8, pad=1),
    "strided Fortran": Layout(order="F", gap=16, pad=1),
    "backwards": Layout(sign=-1),
    "backwards strided Fortran": Layout(order="F", gap=8, sign=-1),
    "unaligned": Layout(shift=1),
    "packed records": Layout(gap=1, shift=3),
}

"""The operations of `fragment.py` for Numba's CUDA simulator, in NumPy.

The simulator runs each thread of a block as a Python thread. Addresses are the process's own.
"""

import ctypes
import functools
from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from numba_linear.cuda.machine import Tile

NUMBERS: dict[str, Any] = {"float32": ctypes.c_float, "float64": ctypes.c_double}
ONES = {dtype: np.ones(1, dtype) for dtype in NUMBERS}


class Fragment(NamedTuple):
    """A thread's sums, rows × columns."""

    tile: Tile
    numbers: np.ndarray


def get(number, at):
    return np.dtype(number.dtype).type(NUMBERS[number.dtype].from_address(at).value)


def give(number, at, value):
    NUMBERS[number.dtype].from_address(at).value = float(value)


@cuda.jit(device=True)
def thread_again():
    return cuda.threadIdx.x


def one(panel):
    return ONES[panel.dtype].ctypes.data


@cuda.jit(device=True)
def shared(tile):
    return cuda.shared.array(tile.panels, np.dtype(tile.dtype))


def partials(tile):
    return np.full((tile.levels, tile.rows, tile.columns), np.nan, tile.dtype)


def zero(tile):
    return Fragment(tile, np.zeros((tile.rows, tile.columns), tile.dtype))


@functools.cache
def places(tile):
    """The first thread's rows and columns of each term, as places in two panels."""
    terms = np.arange(tile.turn)[:, None]
    rows = [tile.row(r) for r in range(tile.rows)]
    columns = [tile.column(c) for c in range(tile.columns)]
    return terms * tile.a.pitch + rows, terms * tile.b.pitch + columns


@cuda.jit(device=True)
def outer(acc, panels, a, b):
    tile, numbers = acc
    rows, columns = places(tile)
    for x, y in zip(panels[a + rows], panels[b + columns], strict=True):
        numbers = cuda.fma(x[:, None], y, numbers)
    return Fragment(tile, numbers)


def add(left, right):
    return Fragment(left.tile, left.numbers + right.numbers)


def keep(acc, partials, level):
    partials[level] = acc.numbers


def kept(tile, partials, level):
    return Fragment(tile, partials[level].copy())


def inside(tile, rows, cols):
    """The fragment's places in a tile of which only rows × cols exists."""
    for r in range(tile.rows):
        for c in range(tile.columns):
            if tile.row(r) < rows and tile.column(c) < cols:
                yield r, c


def finish(acc, bias, row_stride, col_stride, rows, cols, divisor):
    tile, numbers = acc
    if bias:
        for r, c in inside(tile, rows, cols):
            at = bias + tile.row(r) * row_stride + tile.column(c) * col_stride
            numbers[r, c] += get(tile, at)
    if divisor:
        numbers = numbers / numbers.dtype.type(divisor)
    return Fragment(tile, numbers)


def put(acc, c, row_stride, col_stride, rows, cols):
    tile, numbers = acc
    for i, j in inside(tile, rows, cols):
        give(tile, c + tile.row(i) * row_stride + tile.column(j) * col_stride, numbers[i, j])


def share_of(panel):
    """Row, term and bytes within its unit, for each number of a thread's share."""
    for v in range(panel.units):
        for n, (i, p) in enumerate(panel.within):
            yield v * panel.rows_at_once, i, p, n * np.dtype(panel.dtype).itemsize


def fetch(panel, at, row_stride):
    return fetch_part(panel, at, row_stride, panel.width, panel.depth)


def fetch_part(panel, at, row_stride, rows, terms):
    return [
        get(panel, at + row * row_stride + beside) if row + i < rows and p < terms else panel.pad
        for row, i, p, beside in share_of(panel)
    ]


def stash(panel, panels, at, share):
    for (row, i, p, _), number in zip(share_of(panel), share, strict=True):
        panels[at + p * panel.pitch + row + i] = number

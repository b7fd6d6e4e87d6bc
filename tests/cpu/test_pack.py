"""Packing alone: every number of a panel, against NumPy, for every layout of A and B."""

import numpy as np
import pytest
from numba import njit

from numba_linear.cpu.fragment import columns_of
from numba_linear.cpu.machine import heights, tiling_of
from numba_linear.cpu.matrix import Matrix
from numba_linear.cpu.pack import pack_a, pack_b
from numba_linear.cpu.plan import tile_height
from numba_linear.cpu.rule import LEAF
from numba_linear.cpu.tuning import PACK_TERMS

DTYPES = (np.float32, np.float64)
TERMS = (1, 7, PACK_TERMS + 1, LEAF, LEAF + 3)

#: Bytes of a cache line, and of a page.
LINE, PAGE = 64, 4096


def laid(shape, layout, dtype):
    """Numbers 1, 2, … as a matrix with contiguous terms, contiguous columns, or neither."""
    numbers = np.arange(1, 1 + shape[0] * shape[1], dtype=dtype).reshape(shape)
    if layout == "pages apart":
        return np.pad(numbers.T, ((0, 0), (0, PAGE // numbers.itemsize - shape[0]))).T[: shape[0]]
    if layout == "strided":
        return np.repeat(np.repeat(numbers, 2, 0), 3, 1)[::2, ::3]
    return np.array(numbers, order={"terms": "C", "columns": "F"}[layout])


@njit
def columns(like):
    return columns_of(tiling_of(like))


@njit
def packed_b(b, width, panel):
    matrix = Matrix(np.intp(b.ctypes.data), b.strides[0], b.strides[1])
    pack_b(tiling_of(b), matrix, b.shape[0], b.shape[1], width, np.intp(panel.ctypes.data), 1, 0)


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("layout", ["terms", "columns", "strided"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_panel_of_b(dtype, layout, terms):
    """Term after term; columns beyond B's hold 0 or a number of B's."""
    most = columns(np.empty(0, dtype))
    for width in (most, most // 2):
        for cols in range(1, width + 1):
            b = laid((cols, terms), layout, dtype)
            panel = np.full((terms + LEAF, width), np.nan, dtype)
            packed_b(b, width, panel)
            assert (panel[:terms, :cols] == b.T).all()
            assert np.isin(panel[:terms, cols:], [0, *b.ravel()]).all()


@njit
def packed_together(b, count, panels):
    matrix = Matrix(np.intp(b.ctypes.data), b.strides[0], b.strides[1])
    width, to, apart = panels.shape[2], np.intp(panels.ctypes.data), panels.strides[0]
    pack_b(tiling_of(b), matrix, width, b.shape[1], width, to, count, apart)


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_panels_of_contiguous_columns_together(dtype, terms):
    width = columns(np.empty(0, dtype))
    for count in (1, 2, 4):
        b = laid((count * width, terms), "columns", dtype)
        panels = np.full((count, terms + 3, width), np.nan, dtype)
        packed_together(b, count, panels)
        assert (panels[:, :terms] == b.T.reshape(terms, count, width).swapaxes(0, 1)).all()
        assert np.isnan(panels[:, terms:]).all()


@njit
def packed_a(a, tall, panels):
    matrix = Matrix(np.intp(a.ctypes.data), a.strides[0], a.strides[1])
    pack_a(tiling_of(a), matrix, a.shape[0], tall, a.shape[1], np.intp(panels.ctypes.data))


@njit
def next_height(like, left, rows):
    return heights(tiling_of(like))[tile_height(tiling_of(like), left, rows)]


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("layout", ["terms", "columns", "pages apart", "strided"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_panels_of_a(dtype, layout, terms):
    """One per tile: if the terms are contiguous, line by line, the rows side by side; else term
    after term."""
    least = min(HEIGHTS)
    for rows in range(1, 3 * max(HEIGHTS)):
        a, tall = laid((rows, terms), layout, dtype), max(rows, least)
        line = LINE // a.itemsize
        panels = np.full((rows + 2 * max(HEIGHTS)) * (terms + 2 * line), np.nan, dtype)
        packed_a(a, tall, panels)
        row = at = 0
        while row < rows:
            height = next_height(a, rows - row, tall)
            row = max(0, min(row, rows - height))
            tile = a[np.minimum(np.arange(row, row + height), rows - 1)]
            panel = panels[at : at + height * (terms + line)]
            if a.strides[1] == a.itemsize:
                for q in range(0, terms, line):
                    lines = panel[q * height :][: height * line].reshape(height, line)
                    some = min(line, terms - q)
                    assert (lines[:, :some] == tile[:, q : q + some]).all()
            else:
                got, inside = panel[: terms * height].reshape(terms, height), min(height, rows)
                assert (got[:, :inside] == tile[:inside].T).all()
                assert ((got == 0) | (got == tile.T)).all()  # rows beyond A's
            row, at = row + height, at + height * (terms + line)


@njit
def heights_of(like):
    return heights(tiling_of(like))


HEIGHTS = heights_of(np.empty(0, np.float32))

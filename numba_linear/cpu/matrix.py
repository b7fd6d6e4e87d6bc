"""A matrix of numbers anywhere in memory."""

from typing import NamedTuple

from numba_linear.jit.compiler import inlined


class Matrix(NamedTuple):
    """Number [i, j] is at the address `at + i * row + j * col`; strides are in bytes."""

    at: int
    row: int
    col: int


@inlined
def from_number(m, i, j):
    """The matrix that begins at number [i, j] of m."""
    return Matrix(m.at + i * m.row + j * m.col, m.row, m.col)


@inlined
def transposed(m):
    return Matrix(m.at, m.col, m.row)

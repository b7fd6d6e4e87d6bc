"""Few multiply-adds: the contraction as its equation stands, without packing, blocks or threads.

Planned where preparing for anything quicker would take longer than the sums themselves.
"""

from numba_linear.cpu.compiler import inlined
from numba_linear.cpu.fragment import (
    add,
    columns_of,
    finish,
    item_bytes,
    load,
    outer,
    rows_of,
    scratch,
    store,
    zero,
)
from numba_linear.cpu.machine import column, tile
from numba_linear.cpu.matrix import Matrix, from_number
from numba_linear.cpu.panels import pack_b
from numba_linear.cpu.problem import Problem
from numba_linear.cpu.resident import resident
from numba_linear.cpu.rule import LEAF

#: Multiply-adds up to which it pays, each sum counting as two more; where vectors are filled; and
#: bytes of B's columns that are transposed on the stack.
FEW_WORK, VECTOR_WORK, PACKED = 1000, 140000, 16384


@inlined
def fills_vectors(tiling, problem, bias_step):
    """Whether C's columns lie side by side, and so do they in B or in B's transpose."""
    _, b, c, rows, cols, terms, bias, _, _ = problem
    size, lanes = item_bytes(tiling), columns_of(tiling) // 2
    if c.col != size or 2 * cols < lanes or (bias and bias_step != size):
        return False
    if b.row == size:
        return rows >= 4 or cols >= lanes
    pays = rows * cols * (terms + 2) > FEW_WORK and rows >= 4 and cols >= lanes
    return pays and b.col == size and terms * 2 * lanes * size <= PACKED


@inlined
def is_small(tiling, problem, bias_step):
    """Whether it pays; a sum is then of one leaf."""
    _, _, _, rows, cols, terms, _, _, sums = problem
    work = rows * cols * (terms + 2)
    if terms > LEAF or sums or work > VECTOR_WORK:
        return False
    return work <= FEW_WORK or fills_vectors(tiling, problem, bias_step)


@resident
def contract_small(tiling, problem: Problem, bias_step):
    """The problem, with A, B, C and the bias, whose numbers lie `bias_step` bytes apart, of any
    strides."""
    a, b, c, rows, cols, terms, bias, divisor, _ = problem
    lanes, packed = columns_of(tiling) // 2, scratch(PACKED)
    if fills_vectors(tiling, problem, bias_step):
        if b.row != item_bytes(tiling):
            if cols >= 2 * lanes:
                in_packed_vectors(tiling, tile(tiling, 4, 2), problem, packed)
            else:
                in_packed_vectors(tiling, tile(tiling, 4, 1), problem, packed)
        elif rows < 4 and cols >= 2 * lanes:
            in_vectors(tile(tiling, 1, 2), problem)
        elif rows < 4:
            in_vectors(tile(tiling, 1, 1), problem)
        elif cols >= 2 * lanes:
            in_vectors(tile(tiling, 4, 2), problem)
        elif cols >= lanes:
            in_vectors(tile(tiling, 4, 1), problem)
        else:
            in_vectors(tile(tiling, 4, -2), problem)
        return
    bias_row = 0
    if cols < 8 and cols < rows:  # Cᵀ = B · Aᵀ, for the longer side to lie in the lanes
        turned = Matrix(c.at, c.col, c.row)
        problem = Problem(b, a, turned, cols, rows, terms, bias, divisor, 0)
        bias_row, bias_step = bias_step, 0
    if problem.cols >= 8:
        in_columns(column(tiling, 8), problem, bias_row, bias_step)
    elif problem.cols >= 4:
        in_columns(column(tiling, 4), problem, bias_row, bias_step)
    elif problem.cols >= 2:
        in_columns(column(tiling, 2), problem, bias_row, bias_step)
    else:
        in_columns(column(tiling, 1), problem, bias_row, bias_step)


@inlined
def in_packed_vectors(tiling, shape, problem, packed):
    """As `in_vectors`, of a B that is transposed before, as many columns as the shape has."""
    a, b, c, rows, cols, terms, bias, divisor, _ = problem
    width, size = columns_of(shape), item_bytes(shape)
    for next_column in range(0, cols, width):
        j = min(next_column, cols - width)
        pack_b(tiling, from_number(b, j, 0), width, terms, width, packed)
        part, c_part = Matrix(packed, size, width * size), from_number(c, 0, j)
        bias_at = bias + j * size if bias else 0
        in_vectors(shape, Problem(a, part, c_part, rows, width, terms, bias_at, divisor, 0))


@inlined
def in_vectors(shape, problem):
    """Some rows of C at a time, in vectors of its columns. The last begin early, and compute some
    numbers again, the same bits."""
    a, b, c, rows, cols, terms, bias, divisor, _ = problem
    height, width, size = rows_of(shape), columns_of(shape), item_bytes(shape)
    for next_row in range(0, rows, height):
        r = min(next_row, rows - height)
        for next_column in range(0, cols, width):
            j = min(next_column, cols - width)
            acc = zero(shape)
            at, bt = a.at + r * a.row, b.at + j * size
            for p in range(terms):
                acc = outer(acc, at + p * a.col, a.row, bt + p * b.col)
            acc = finish(acc, bias + j * size if bias else 0, divisor)
            store(acc, c.at + r * c.row + j * size, c.row)


@inlined
def in_columns(shape, problem, bias_row, bias_col):
    """One row of C at a time, several of its columns side by side, wherever their numbers lie; so
    does the bias for row r and column j."""
    a, b, c, rows, cols, terms, bias, divisor, _ = problem
    height = rows_of(shape)
    for r in range(rows):
        for next_column in range(0, cols, height):
            j = min(next_column, cols - height)
            acc = zero(shape)
            at, bt = a.at + r * a.row, b.at + j * b.row
            for p in range(terms):
                acc = outer(acc, bt + p * b.col, b.row, at + p * a.col)
            if bias:
                acc = add(acc, load(shape, bias + r * bias_row + j * bias_col, bias_col))
            store(finish(acc, 0, divisor), c.at + r * c.row + j * c.col, c.col)

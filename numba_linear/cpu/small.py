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
from numba_linear.cpu.machine import block, column, two_vectors, vectors
from numba_linear.cpu.matrix import Matrix, from_number
from numba_linear.cpu.panels import pack_b
from numba_linear.cpu.problem import Problem
from numba_linear.cpu.resident import resident
from numba_linear.cpu.rule import LEAF

#: Multiply-adds up to which it pays, each sum counting as two more; and where vectors are filled.
FEW_WORK, VECTOR_WORK = 1000, 140000


@inlined
def is_small(tiling, problem):
    """Whether it pays; a sum is then of one leaf."""
    _, b, c, rows, cols, terms, _, _, sums = problem
    work = rows * cols * (terms + 2)
    few = work <= FEW_WORK or (work <= VECTOR_WORK and fills_vectors(tiling, b, c, cols))
    few = few or (work <= VECTOR_WORK and can_pack(tiling, problem, item_bytes(tiling)))
    return few and terms <= LEAF and not sums


@inlined
def fills_vectors(tiling, b, c, cols):
    """Whether the columns lie side by side in B and in C, and fill 16 bytes."""
    size = item_bytes(tiling)
    return b.row == size and c.col == size and cols * size >= 16


@resident
def contract_small(tiling, problem: Problem, bias_step):
    """The problem, with A, B, C and the bias, whose numbers lie `bias_step` bytes apart, of any
    strides."""
    a, b, c, rows, cols, terms, bias, divisor, _ = problem
    size, lanes = item_bytes(tiling), columns_of(tiling) // 2
    if rows * cols * (terms + 2) > FEW_WORK and can_pack(tiling, problem, bias_step):
        if cols >= 2 * lanes:
            by_packed_columns(tiling, two_vectors(tiling, 4), problem)
        else:
            by_packed_columns(tiling, block(tiling, 4, 1), problem)
        return
    if fills_vectors(tiling, b, c, cols) and (bias == 0 or bias_step == size):
        if cols >= 2 * lanes and rows >= 4:
            along_vectors(two_vectors(tiling, 4), problem)
        elif cols >= 2 * lanes:
            along_vectors(vectors(tiling), problem)
        elif rows >= 4:
            if cols >= lanes:
                along_vectors(block(tiling, 4, 1), problem)
            elif 2 * cols >= lanes:
                along_vectors(block(tiling, 4, 2), problem)
            else:
                along_vectors(block(tiling, 4, 4), problem)
        elif cols >= lanes:
            along_vectors(block(tiling, 1, 1), problem)
        elif 2 * cols >= lanes:
            along_vectors(block(tiling, 1, 2), problem)
        else:
            along_vectors(block(tiling, 1, 4), problem)
        return
    bias_row = 0
    if cols < 8 and cols < rows:  # Cᵀ = B · Aᵀ, for the longer side to lie in the lanes
        turned = Matrix(c.at, c.col, c.row)
        problem = Problem(b, a, turned, cols, rows, terms, bias, divisor, 0)
        bias_row, bias_step = bias_step, 0
    if problem.cols >= 8:
        along_columns(column(tiling, 8), problem, bias_row, bias_step)
    elif problem.cols >= 4:
        along_columns(column(tiling, 4), problem, bias_row, bias_step)
    elif problem.cols >= 2:
        along_columns(column(tiling, 2), problem, bias_row, bias_step)
    else:
        along_columns(column(tiling, 1), problem, bias_row, bias_step)


@inlined
def along_vectors(shape, problem):
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
def along_columns(shape, problem, bias_row, bias_col):
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


@inlined
def can_pack(tiling, problem, bias_step):
    """Whether the terms lie side by side in B, and B's transpose fits the stack, by vectors."""
    _, b, c, rows, cols, terms, bias, _, _ = problem
    size, lanes = item_bytes(tiling), columns_of(tiling) // 2
    side_by_side = b.col == size and c.col == size and (bias == 0 or bias_step == size)
    return side_by_side and rows >= 4 and cols >= lanes and terms <= 128


@inlined
def by_packed_columns(tiling, shape, problem):
    """As `along_vectors`, with B transposed before, a vector of its columns at a time."""
    a, b, c, rows, cols, terms, bias, divisor, _ = problem
    width, size, work = columns_of(shape), item_bytes(shape), scratch(16384)
    for next_column in range(0, cols, width):
        j = min(next_column, cols - width)
        pack_b(tiling, from_number(b, j, 0), width, terms, width, work)
        part, c_part = Matrix(work, size, width * size), from_number(c, 0, j)
        bias_at = bias + j * size if bias else 0
        along_vectors(shape, Problem(a, part, c_part, rows, width, terms, bias_at, divisor, 0))

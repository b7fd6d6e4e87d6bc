"""Few multiply-adds: the equation's own loops, without blocks or threads.

Planned by `small_path`: preparing for a faster path would take longer than the sums.
"""

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
from numba_linear.cpu.ger import contract_outer
from numba_linear.cpu.machine import column, short_vectors, tile, tiling_for
from numba_linear.cpu.matrix import Matrix, from_number
from numba_linear.cpu.pack import pack_b, pack_b_short
from numba_linear.cpu.plan import (
    COLUMNS,
    EIGHT_HALVES,
    FOUR_BY_TWO,
    FOUR_HALVES,
    FOUR_SHORT,
    FOUR_WHOLE,
    columns_for,
)
from numba_linear.cpu.problem import Epilogue, Problem, of_transpose
from numba_linear.cpu.short import contract_short
from numba_linear.cpu.tuning import SMALL_PACKED
from numba_linear.jit.compiler import inlined
from numba_linear.jit.resident import one_of, resident


@resident(late=tiling_for)
def contract_in_row_vectors(tiling, problem: Problem):
    """Up to three rows of C, one at a time; B's columns are contiguous."""
    if problem.cols >= columns_of(tiling):
        across(tile(tiling, 1, 2), problem)
    else:
        across(tile(tiling, 1, 1), problem)


@resident(late=tiling_for)
def contract_in_vectors(tiling, problem: Problem):
    a, b, c, rows, cols, terms, epilogue = problem
    size = item_bytes(tiling)
    packed = 0 if b.row == size else scratch(SMALL_PACKED)
    first = 0
    while first < cols:
        some, shape = columns_for(tiling, problem, first)
        bias = epilogue.bias + first * size if epilogue.bias else 0
        after = Epilogue(bias, epilogue.step, epilogue.divisor)
        b_part, c_part = from_number(b, first, 0), from_number(c, 0, first)
        part = Problem(a, b_part, c_part, rows, some, terms, after)
        if shape == FOUR_BY_TWO:
            in_vectors(tiling, tile(tiling, 4, 2), part, packed)
        elif shape == FOUR_WHOLE:
            in_vectors(tiling, tile(tiling, 4, 1), part, packed)
        elif shape == FOUR_HALVES:
            in_vectors(tiling, tile(tiling, 4, -2), part, packed)
        elif shape == EIGHT_HALVES:
            in_vectors(tiling, tile(tiling, 8, -2), part, packed)
        elif shape == FOUR_SHORT:
            in_vectors(tiling, short_vectors(tiling, 4, 16), part, packed)
        else:
            in_vectors(tiling, short_vectors(tiling, 8, 16), part, packed)
        first += some


@resident(late=tiling_for)
def contract_in_pairs(tiling, problem: Problem):
    if problem.cols >= 4:
        in_pairs(column(tiling, 4), problem)
    elif problem.cols == 3:
        in_pairs(column(tiling, 3), problem)
    else:
        in_pairs(column(tiling, 2), problem)


@resident(late=tiling_for)
def contract_in_columns(tiling, problem: Problem):
    bias_row, bias_col = 0, problem.epilogue.step
    if problem.cols < 8 and problem.cols < problem.rows:  # so that the longer side fills the lanes
        problem = of_transpose(problem)
        bias_row, bias_col = bias_col, 0
    if problem.cols >= 8:
        in_columns(column(tiling, 8), problem, bias_row, bias_col)
    elif problem.cols >= 4:
        in_columns(column(tiling, 4), problem, bias_row, bias_col)
    elif problem.cols == 3:
        in_columns(column(tiling, 3), problem, bias_row, bias_col)
    elif problem.cols == 2:
        in_columns(column(tiling, 2), problem, bias_row, bias_col)
    else:
        in_columns(column(tiling, 1), problem, bias_row, bias_col)


by_path = one_of(
    contract_outer,
    contract_short,
    contract_in_row_vectors,
    contract_in_vectors,
    contract_in_pairs,
    contract_in_columns,
)


@inlined
def contract_small(tiling, problem, path):
    """C from A and B; they and the bias may have any strides. LARGE goes by columns too.

    Returns FINE or a code from WANTS on.
    """
    return by_path(min(path, COLUMNS), tiling, problem)


@inlined
def across(shape, problem):
    """Vectors of C's columns; the last begin early and compute some again, to the same bits."""
    width = columns_of(shape)
    for next_column in range(0, problem.cols, width):
        j = min(next_column, problem.cols - width)
        down(shape, problem, j, from_number(problem.b, j, 0))


@inlined
def in_vectors(tiling, shape, problem, packed):
    """The same. If `packed` is an address, a strip of B, whose terms are contiguous, is transposed
    to it first."""
    b, cols, terms = problem.b, problem.cols, problem.terms
    width, size = columns_of(shape), item_bytes(shape)
    for next_column in range(0, cols, width):
        j = min(next_column, cols - width)
        part = from_number(b, j, 0)
        if packed:
            # 128 bits hold only two terms of float64, so whole squares are faster
            if size == 4 and terms >= 4 and width >= columns_of(short_vectors(tiling, 1, 32)):
                pack_b_short(tiling, part, terms, width, packed)
            else:
                pack_b(tiling, part, width, terms, width, packed, 1, 0)
            part = Matrix(packed, size, width * size)
        down(shape, problem, j, part)


@inlined
def down(shape, problem, j, b):
    """A vector of C's columns from j on, some rows at a time; B's columns begin there. The last
    rows begin early, too."""
    a, _, c, rows, _, terms, epilogue = problem
    height, size = rows_of(shape), item_bytes(shape)
    bias = epilogue.bias + j * size if epilogue.bias else 0
    for next_row in range(0, rows, height):
        r = min(next_row, rows - height)
        acc, at = zero(shape), a.at + r * a.row
        for p in range(terms):
            acc = outer(acc, at + p * a.col, a.row, b.at + p * b.col)
        acc = finish(acc, bias, epilogue.divisor)
        store(acc, c.at + r * c.row + j * size, c.row)


@inlined
def in_columns(shape, problem, bias_row, bias_col):
    """One row of C at a time, several columns side by side, of any strides. The bias of row r and
    column j is r · bias_row + j · bias_col bytes after the first."""
    a, b, _, rows, cols, terms, _ = problem
    height = rows_of(shape)
    for r in range(rows):
        for next_column in range(0, cols, height):
            j = min(next_column, cols - height)
            acc, at, bt = zero(shape), a.at + r * a.row, b.at + j * b.row
            for p in range(terms):
                acc = outer(acc, bt + p * b.col, b.row, at + p * a.col)
            store_column(acc, problem, r, j, bias_row, bias_col)


@inlined
def in_pairs(shape, problem):
    """The same for two rows at a time: a few columns alone do not hide the latency of a
    multiply-add. The last rows begin early and compute one again, to the same bits."""
    a, b, _, rows, cols, terms, _ = problem
    height = rows_of(shape)
    for next_row in range(0, rows, 2):
        r = min(next_row, rows - 2)
        for next_column in range(0, cols, height):
            j = min(next_column, cols - height)
            one, two = zero(shape), zero(shape)
            at, bt = a.at + r * a.row, b.at + j * b.row
            for p in range(terms):
                one = outer(one, bt + p * b.col, b.row, at + p * a.col)
                two = outer(two, bt + p * b.col, b.row, at + a.row + p * a.col)
            store_column(one, problem, r, j, 0, problem.epilogue.step)
            store_column(two, problem, r + 1, j, 0, problem.epilogue.step)


@inlined
def store_column(acc, problem, r, j, bias_row, bias_col):
    _, _, c, _, _, _, epilogue = problem
    if epilogue.bias:
        bias = epilogue.bias + r * bias_row + j * bias_col
        acc = add(acc, load(acc, bias, bias_col))
    store(finish(acc, 0, epilogue.divisor), c.at + r * c.row + j * c.col, c.col)

"""One term: the outer product of a column of A and a row of B.

Planned where `by_outer`. Most of the work is writing C, along its rows, or along its columns if
the rows are short. Vectors have 256 bits at most: arrays begin at multiples of 16 bytes, so most
stores of 512 bits would straddle two cache lines.
"""

from numba_linear.cpu.fragment import (
    add,
    columns_of,
    finish,
    item_bytes,
    load_apart,
    outer,
    outer_apart,
    row_bytes,
    rows_of,
    store,
    store_apart,
    zero,
)
from numba_linear.cpu.machine import short_vectors, tiling_for
from numba_linear.cpu.plan import ROW_QUADS, ROW_VECTOR, outer_along, outer_by_columns
from numba_linear.cpu.problem import Problem, of_transpose
from numba_linear.jit.compiler import inlined
from numba_linear.jit.resident import resident


@resident(late=tiling_for)
def contract_outer(tiling, problem: Problem):
    four, one = short_vectors(tiling, 4, 32), short_vectors(tiling, 1, 32)
    if outer_by_columns(tiling, problem):
        problem = of_transpose(problem)
    way = outer_along(tiling, problem)
    if way == ROW_QUADS:
        long_rows(four, one, problem)
    elif way == ROW_VECTOR:
        short_rows(four, one, problem)
    else:
        short_rows(short_vectors(tiling, 4, 16), short_vectors(tiling, 1, 16), problem)


@inlined
def long_rows(four, one, problem):
    """Four vectors of a row at a time."""
    a, b, c, rows, cols, _, epilogue = problem
    width, apart, bias = rows_of(four) * columns_of(four), row_bytes(four), epilogue.bias
    whole, size = cols - cols % width, item_bytes(four)
    for r in range(rows):
        at, row = a.at + r * a.row, c.at + r * c.row
        for j in range(0, whole * size, width * size):
            acc = outer_apart(four, zero(four), at, 0, b.at + j, apart)
            if bias:
                acc = add(acc, load_apart(four, four, bias + j, 0, apart))
            store_apart(four, acc, row + j, 0, apart)
        along(one, at, 0, b.at, row, 0, whole, cols, epilogue)


@inlined
def short_rows(four, one, problem):
    """Four rows at a time, and the last ones by themselves."""
    a, b, c, rows, cols, _, epilogue = problem
    whole = rows - rows % rows_of(four)
    for r in range(0, whole, rows_of(four)):
        along(four, a.at + r * a.row, a.row, b.at, c.at + r * c.row, c.row, 0, cols, epilogue)
    for r in range(whole, rows):
        along(one, a.at + r * a.row, 0, b.at, c.at + r * c.row, 0, 0, cols, epilogue)


@inlined
def along(shape, a, a_row, b, c, c_row, begin, cols, epilogue):
    """Vectors from column `begin` on; the last begins early, and computes some columns again, to
    the same bits."""
    width, size = columns_of(shape), item_bytes(shape)
    for next_column in range(begin, cols, width):
        j = min(next_column, cols - width) * size
        acc = outer(zero(shape), a, a_row, b + j)
        bias = epilogue.bias + j if epilogue.bias else 0
        store(finish(acc, bias, 0.0), c + j, c_row)

"""One term: the outer product of a column of A and a row of B, along C's rows.

Planned where `by_outer`. C is written and little else is done, so vectors have 256 bits at most:
arrays begin at multiples of 16 bytes, and a wider store would always straddle two cache lines.
"""

from numba_linear.cpu.fragment import columns_of, finish, item_bytes, outer, rows_of, store, zero
from numba_linear.cpu.machine import short_vectors
from numba_linear.cpu.problem import Problem
from numba_linear.jit.compiler import inlined
from numba_linear.jit.resident import resident


@resident
def contract_outer(tiling, problem: Problem):
    if problem.cols >= columns_of(short_vectors(tiling, 1, 32)):
        in_rows(short_vectors(tiling, 4, 32), short_vectors(tiling, 1, 32), problem)
    else:
        in_rows(short_vectors(tiling, 4, 16), short_vectors(tiling, 1, 16), problem)


@inlined
def in_rows(shape, last, problem):
    """Four rows at a time, and the last ones by themselves."""
    whole = problem.rows - problem.rows % rows_of(shape)
    some_rows(shape, problem, 0, whole)
    some_rows(last, problem, whole, problem.rows)


@inlined
def some_rows(shape, problem, begin, end):
    """Vectors of C's columns; the last begins early, and computes some again, the same bits."""
    a, b, c, _, cols, _, epilogue = problem
    width, size = columns_of(shape), item_bytes(shape)
    for r in range(begin, end, rows_of(shape)):
        at, row = a.at + r * a.row, c.at + r * c.row
        for next_column in range(0, cols, width):
            j = min(next_column, cols - width) * size
            acc = outer(zero(shape), at, a.row, b.at + j)
            bias = epilogue.bias + j if epilogue.bias else 0
            store(finish(acc, bias, epilogue.divisor), row + j, c.row)

"""A single row of C from short rows of B: their terms are transposed 128 bits at a time.

Planned where `by_short`: so many rows of B stay in L1 that a block need not take whole cache lines
of them, as `gemv_dot` does. It takes four vectors of columns at a time, chains enough to hide the
latency of a multiply-add, of 256 bits at most: wider ones need another shuffle for each.
"""

from numba_linear.cpu.fragment import (
    add,
    chain_columns,
    chain_last_columns,
    columns_of,
    item_bytes,
    load,
    rows_of,
    store,
    terms_of,
    zero,
)
from numba_linear.cpu.machine import short_vectors
from numba_linear.cpu.problem import Problem
from numba_linear.jit.compiler import inlined
from numba_linear.jit.resident import resident


@resident
def contract_short(tiling, problem: Problem):
    lanes = columns_of(short_vectors(tiling, 1))
    if problem.cols >= 4 * lanes:
        short_columns(short_vectors(tiling, 4), problem, lanes)
    else:  # of one vector of columns, the same twice
        short_columns(short_vectors(tiling, 2), problem, min(lanes, problem.cols - lanes))


@inlined
def short_columns(shape, problem, apart):
    """Vectors of C's columns, `apart` from one to the next. The last begin early, and compute some
    columns again, the same bits."""
    a, b, c, _, cols, terms, epilogue = problem
    size, step = item_bytes(shape), terms_of(shape)
    taken = (rows_of(shape) - 1) * apart + columns_of(shape)
    whole = terms // step * step
    for column in range(0, cols, taken):
        j = min(column, cols - taken)
        acc, bt = zero(shape), b.at + j * b.row
        for p in range(0, whole, step):
            acc = chain_columns(acc, a.at + p * size, bt + p * size, b.row, apart)
        if whole < terms:
            p = (terms - step) * size
            acc = chain_last_columns(acc, a.at + p, bt + p, b.row, apart, terms - whole)
        if epilogue.bias:
            acc = add(acc, load(shape, epilogue.bias + j * size, apart * size))
        store(acc, c.at + j * size, apart * size)

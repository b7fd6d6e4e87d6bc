"""A few rows of C from short rows of B, whose terms are transposed 128 bits at a time.

Planned where `by_short`: B's rows stay in L1, so a block need not take whole cache lines of them,
as `gemv_dot` does. Vectors have 256 bits at most, since wider ones need another shuffle each, and
128 if C is narrower. Several are summed at a time, to hide the latency of a multiply-add. Two or
three terms of float32 are less than 128 bits and have operations of their own.
"""

from numba_linear.cpu.fragment import (
    add,
    chain_columns,
    chain_few,
    columns_of,
    item_bytes,
    load_apart,
    rows_of,
    store_apart,
    terms_of,
    zero,
)
from numba_linear.cpu.machine import short_vectors, tiling_for
from numba_linear.cpu.plan import (
    EIGHT_NARROW,
    EIGHT_SINGLE,
    FOUR_NARROW,
    FOUR_PAIRS,
    ONE_QUAD,
    block_for,
    has_few_terms,
)
from numba_linear.cpu.problem import Problem
from numba_linear.jit.compiler import inlined
from numba_linear.jit.resident import resident


@resident(late=tiling_for)
def contract_short(tiling, problem: Problem):
    if has_few_terms(tiling, problem):
        by_block(tiling, problem, True)
    else:
        by_block(tiling, problem, False)


@inlined
def by_block(tiling, problem, few):
    """`few` is known when this is compiled."""
    two, four = short_vectors(tiling, 2, 32), short_vectors(tiling, 4, 32)
    block, lanes = block_for(tiling, problem, few), columns_of(two)
    apart = min(lanes, problem.cols - lanes)  # 0 for one vector of columns: both sides take it
    if block == EIGHT_NARROW:
        short_columns(short_vectors(tiling, 1, 16), short_vectors(tiling, 8, 16), problem, 0, few)
    elif block == FOUR_NARROW:
        short_columns(short_vectors(tiling, 1, 16), short_vectors(tiling, 4, 16), problem, 0, few)
    elif block == EIGHT_SINGLE:
        short_columns(short_vectors(tiling, 1, 32), short_vectors(tiling, 8, 32), problem, 0, few)
    elif block == FOUR_PAIRS:
        short_columns(two, short_vectors(tiling, 8, 32), problem, apart, few)
    elif block == ONE_QUAD:
        short_columns(four, four, problem, lanes, few)
    else:
        short_columns(two, two, problem, apart, few)


@inlined
def short_columns(sides, shape, problem, apart, few):
    """Rows of C, each in as many vectors as there are sides, `apart` columns apart. The last rows
    and columns begin early and compute some numbers again, to the same bits."""
    a, b, c, rows, cols, terms, epilogue = problem
    size, step, height = item_bytes(shape), terms_of(shape), rows_of(shape) // rows_of(sides)
    taken = (rows_of(sides) - 1) * apart + columns_of(shape)
    for next_column in range(0, cols, taken):
        j = min(next_column, cols - taken)
        for next_row in range(0, rows, height):
            r = min(next_row, rows - height)
            acc, at, bt = zero(shape), a.at + r * a.row, b.at + j * b.row
            if few:
                acc = chain_few(sides, acc, at, a.row, bt, b.row, apart, terms)
            else:
                whole = terms // step * step
                for p in range(0, whole, step):
                    ap, bp = at + p * size, bt + p * size
                    acc = chain_columns(sides, acc, ap, a.row, bp, b.row, apart, 0)
                if whole < terms:
                    p = terms - step
                    ap, bp = at + p * size, bt + p * size
                    acc = chain_columns(sides, acc, ap, a.row, bp, b.row, apart, whole - p)
            if epilogue.bias:
                bias = epilogue.bias + j * size
                acc = add(acc, load_apart(sides, shape, bias, 0, apart * size))
            store_apart(sides, acc, c.at + r * c.row + j * size, c.row, apart * size)

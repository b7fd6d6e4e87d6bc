"""One or two rows of C, one by one, each in several vectors of columns at a time. BLIS calls such
fused dot products dotxf.

Planned where `by_dotxf`. Of each row of B 128 bits are transposed in registers. The next ones lie
in the same cache line, so a line of each of these rows must stay in L1. `gemv_dot` takes more of a
line at once, and has fewer sums in registers.
"""

from numba_linear.codes import FINE
from numba_linear.cpu.fragment import (
    add,
    chain_columns,
    columns_of,
    finish,
    item_bytes,
    load,
    prefetch_rows,
    rows_of,
    scratch,
    store,
    terms_of,
    zero,
)
from numba_linear.cpu.machine import (
    dotxf_line,
    dotxf_sums,
    dotxf_vectors,
    line_terms,
    tiling_for,
)
from numba_linear.cpu.partials import with_waiting
from numba_linear.cpu.plan import dotxf_far
from numba_linear.cpu.problem import Problem
from numba_linear.cpu.rule import LEAF, leaf_count
from numba_linear.cpu.tuning import DOTXF_VECTORS
from numba_linear.jit.resident import resident

#: Bytes of the partial sums that wait. The tree has fewer than 64 levels; at each wait as many
#: vectors of 32 bytes as are summed at a time.
PARTIALS = 64 * 32 * max(map(max, DOTXF_VECTORS.values()))


def dotxf_tiling_for(dtype):
    """The tiling, or None if this machine has no use for the path."""
    tiling = tiling_for(dtype)
    return tiling if dotxf_vectors(tiling) else None


@resident(late=dotxf_tiling_for)
def contract_dotxf(tiling, problem: Problem) -> int:
    a, b, c, rows, cols, terms, epilogue = problem
    sums, size, leaves = dotxf_sums(tiling), item_bytes(tiling), leaf_count(terms)
    step, lanes = terms_of(sums), columns_of(sums)
    width, taken = lanes * size, rows_of(sums) * lanes
    partials, far = scratch(PARTIALS), dotxf_far(tiling, problem)
    for next_column in range(0, cols, taken):
        # the last begin early and compute some columns again, to the same bits
        j = min(next_column, cols - taken)
        bt = b.at + j * b.row
        for r in range(rows):
            at = a.at + r * a.row
            for q in range(leaves):
                end = min(terms, q * LEAF + LEAF)
                whole = end // step * step
                acc = zero(sums)
                for p in range(q * LEAF, whole, step):
                    bp = bt + p * size
                    if far:  # a line of the rows of one vector of the next columns
                        vector = p // step % (line_terms(tiling) // step)
                        soon = bp + (taken + vector * lanes) * b.row
                        prefetch_rows(dotxf_line(tiling), soon, b.row)
                    acc = chain_columns(sums, acc, at + p * size, 0, bp, b.row, lanes, 0)
                if whole < end:
                    p = end - step
                    ap, bp = at + p * size, bt + p * size
                    acc = chain_columns(sums, acc, ap, 0, bp, b.row, lanes, whole - p)
                acc = with_waiting(acc, q, leaves, partials, taken * size, width)
            if epilogue.bias:
                acc = add(acc, load(sums, epilogue.bias + j * size, width))
            store(finish(acc, 0, epilogue.divisor), c.at + r * c.row + j * size, width)
    return FINE

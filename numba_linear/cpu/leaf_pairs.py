"""A single row of C whose rows of B evict each other: two leaves at a time.

Planned where `by_leaf_pairs`. Rows a multiple of a page apart share one set of L1, which holds
eight lines. More rows at a time would read each line from L2 twice, or from further away. So the
even lanes take a leaf of half as many rows, and the odd lanes the next leaf of the same rows. The
tree adds two such leaves first, so a pair acts as a leaf of a tree with one level less.
"""

from numba_linear.codes import FINE, MEMORY
from numba_linear.cpu.fragment import (
    add_pairs,
    allocate,
    chain_pairs,
    columns_of,
    copy,
    finish,
    item_bytes,
    load_columns_of_pairs,
    prefetch_rows,
    release,
    scratch,
    store,
    zero,
)
from numba_linear.cpu.machine import (
    LINE,
    cache_line,
    instructions,
    pair_block,
    square,
    tiling_for,
)
from numba_linear.cpu.partials import with_waiting
from numba_linear.cpu.problem import Problem
from numba_linear.cpu.rule import LEAF, level_count
from numba_linear.cpu.tuning import PAIRED_ROW, STACK
from numba_linear.jit.resident import resident


def paired_tiling_for(dtype):
    """The tiling, or None if this machine has no use for the path."""
    return tiling_for(dtype) if any(PAIRED_ROW[instructions()]) else None


@resident(late=paired_tiling_for)
def contract_leaf_pairs(tiling, problem: Problem) -> int:
    a, b, c, _, cols, terms, epilogue = problem
    size, lanes, step = item_bytes(tiling), columns_of(cache_line(tiling)), columns_of(tiling) // 2
    pairs, rows, half = terms // (2 * LEAF), lanes // 2, lanes // 2 * size
    stack = scratch(STACK)
    partial_bytes = level_count(pairs) * half
    need = terms * size + partial_bytes
    work = allocate(need) if need > STACK else stack
    if not work:
        return MEMORY
    # A's terms in the order of the lanes: of a pair, both leaves' first terms, then the second, …
    partials, paired = work, work + partial_bytes
    at = paired
    for p in range(0, terms, 2 * LEAF):
        for q in range(p, p + LEAF):
            copy(tiling, at, a.at + q * a.col)
            copy(tiling, at + size, a.at + (q + LEAF) * a.col)
            at += 2 * size
    for next_column in range(0, cols, rows):
        # the last begin early and compute some columns again, to the same bits
        column = min(next_column, cols - rows)
        row = b.at + column * b.row
        at = paired
        for pair in range(pairs):
            bt = row + pair * 2 * LEAF * size
            # prefetch the next pair's leaves in runs of lines, lane by lane
            soon = bt + 2 * LEAF * size if pair + 1 < pairs else row + rows * b.row
            acc = zero(cache_line(tiling))
            for p in range(0, LEAF, step):
                lane, run = p // (LEAF * size // LINE), p % (LEAF * size // LINE)
                ahead = soon + lane // 2 * b.row + lane % 2 * LEAF * size + run * LINE
                prefetch_rows(square(tiling), ahead, LINE)
                t = load_columns_of_pairs(pair_block(tiling), bt + p * size, b.row, LEAF * size)
                acc = chain_pairs(acc, at, t)
                at += 2 * step * size
            total = with_waiting(add_pairs(acc), pair, pairs, partials, half, 0)
        bias = epilogue.bias + column * size if epilogue.bias else 0
        store(finish(total, bias, epilogue.divisor), c.at + column * size, 0)
    if need > STACK:
        release(work)
    return FINE

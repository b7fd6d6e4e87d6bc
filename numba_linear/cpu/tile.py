"""The register tile: the summation rule on rows × columns sums at once."""

from numba import njit

from numba_linear.cpu.fragment import (
    add,
    add_row,
    columns_of,
    divide,
    fragment_bytes,
    load,
    multiply,
    outer,
    prefetch,
    row_bytes,
    store,
    store_part,
    zero,
)
from numba_linear.cpu.resident import resident
from numba_linear.cpu.rule import LEAF, leaf_count


@njit
def partial_of(shape, level, partials, kept, low):
    """Where the partial sum of 2^level leaves waits: below `low`, it does not outlive the call."""
    if level < low:
        return partials + level * fragment_bytes(shape)
    return kept + (level - low) * fragment_bytes(shape)


@resident
def tile(
    shape,
    a,
    a_row,
    a_term,
    a_leaf,
    b,
    b_term,
    first,
    end,
    terms,
    partials,
    kept,
    low,
    c,
    c_row,
    cols,
    bias,
    ahead,
    divisor: float,
):
    final = leaf_count(terms) - 1
    for q in range(first, end):
        acc = zero(shape)
        steps = min(LEAF, terms - q * LEAF)
        for p in range(0, steps, 4):
            prefetch(ahead + 16 * p)
            for r in range(p, min(p + 4, steps)):
                acc = outer(acc, a + r * a_term, a_row, b)
                b += b_term
        ahead += 16 * steps
        a += a_leaf

        pending = q if q == final else q & ~(q + 1)
        level = 0
        while pending >> level:
            if pending >> level & 1:
                partial = partial_of(shape, level, partials, kept, low)
                acc = add(load(shape, partial, row_bytes(shape)), acc)
            level += 1
        if q < final:
            partial = partial_of(shape, level, partials, kept, low)
            store(acc, partial, row_bytes(shape))
        else:
            if bias:
                acc = add_row(acc, bias)
            if divisor > 0.0:
                acc = divide(acc, divisor)
            elif divisor < 0.0:
                acc = multiply(acc, -divisor)
            if cols >= columns_of(shape):
                store(acc, c, c_row)
            else:
                store_part(acc, c, c_row, cols)

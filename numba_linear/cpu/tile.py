"""The register tile: the summation rule on rows × columns sums at once."""

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
                partial = partials + level * fragment_bytes(shape)
                acc = add(load(shape, partial, row_bytes(shape)), acc)
            level += 1
        if q < final:
            store(acc, partials + level * fragment_bytes(shape), row_bytes(shape))
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

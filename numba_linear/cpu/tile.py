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
from numba_linear.cpu.rule import LEAF


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
    final = max(terms - 1, 0) // LEAF
    kept -= low * fragment_bytes(shape)
    for q in range(first, end):
        acc = zero(shape)
        steps = min(LEAF, terms - q * LEAF)
        for p in range(steps):
            prefetch(ahead + 16 * p)
            acc = outer(acc, a + p * a_term, a_row, b + p * b_term)
        a += a_leaf
        b += LEAF * b_term
        ahead += 16 * LEAF

        pending = q if q == final else q & ~(q + 1)
        level = 0
        while pending >> level:
            if pending >> level & 1:
                partial = (partials if level < low else kept) + level * fragment_bytes(shape)
                acc = add(load(shape, partial, row_bytes(shape)), acc)
            level += 1
        if q < final:
            partial = (partials if level < low else kept) + level * fragment_bytes(shape)
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

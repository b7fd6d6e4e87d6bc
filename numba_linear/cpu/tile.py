"""The register tile: the summation rule on rows × columns sums at once."""

from numba_linear.cpu.fragment import (
    add,
    finish,
    fragment_bytes,
    load,
    outer,
    prefetch,
    put,
    row_bytes,
    store,
    zero,
)
from numba_linear.cpu.matrix import Matrix
from numba_linear.cpu.resident import resident
from numba_linear.cpu.rule import LEAF, pending


@resident
def tile(
    shape,
    a: Matrix,
    a_leaf,
    b: Matrix,
    c: Matrix,
    rows,
    cols,
    terms,
    begin,
    end,
    partials,
    kept,
    low,
    bias,
    divisor: float,
    ahead,
    ahead_step,
):
    """The leaves begin … end-1 of the sums C[r, c] = Σ_p A[r, p] · B[c, p], and with the last leaf
    C.

    Parameters
    ----------
    a : Matrix
        Rows × terms, from leaf `begin` on; the next leaf lies `a_leaf` bytes further.
    b : Matrix
        Columns × terms, from leaf `begin` on; the columns of a term are contiguous.
    c : Matrix
        Rows × columns; of each row, which is contiguous, `cols` numbers are written, and of the
        tile's rows `rows`.
    partials, kept : address
        Where a partial sum of 2^level leaves waits for the rest of the sum: below level `low` in
        `partials`, which are used up by `end`, from there on in `kept`.
    bias, divisor
        As in `finish`.
    ahead, ahead_step
        What to ask for meanwhile, a cache line for each term: 2048³ runs at 207 GF with it and at
        193 without.
    """
    final = max(terms - 1, 0) // LEAF
    kept -= low * fragment_bytes(shape)
    at, bt = a.at, b.at
    for q in range(begin, end):
        acc = zero(shape)
        for p in range(min(LEAF, terms - q * LEAF)):
            prefetch(ahead + p * ahead_step)
            acc = outer(acc, at + p * a.col, a.row, bt + p * b.col)
        at += a_leaf
        bt += LEAF * b.col
        ahead += LEAF * ahead_step

        levels = pending(q, final)
        level = 0
        while levels >> level:
            if levels >> level & 1:
                partial = (partials if level < low else kept) + level * fragment_bytes(shape)
                acc = add(load(shape, partial, row_bytes(shape)), acc)
            level += 1
        if q < final:
            partial = (partials if level < low else kept) + level * fragment_bytes(shape)
            store(acc, partial, row_bytes(shape))
        else:
            put(finish(acc, bias, divisor), c.at, c.row, rows, cols)

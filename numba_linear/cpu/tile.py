"""The register tile: the summation rule on rows × columns sums at once."""

from numba_linear.cpu.fragment import (
    add,
    finish,
    fragment_bytes,
    load,
    outer,
    prefetch,
    prefetch_rows,
    put,
    row_bytes,
    rows_of,
    store,
    zero,
)
from numba_linear.cpu.machine import LINE
from numba_linear.cpu.matrix import Matrix
from numba_linear.cpu.resident import resident
from numba_linear.cpu.rule import LEAF, pending


@resident
def tiles(
    shape,
    count,
    a: Matrix,
    a_leaf,
    a_tile,
    b: Matrix,
    c: Matrix,
    rows,
    cols,
    terms,
    begin,
    end,
    partials,
    kept,
    kept_tile,
    low,
    bias,
    divisor: float,
    ahead,
    ahead_step,
    ahead_tile,
    c_ahead,
):
    """The leaves begin … end-1 of the sums C[r, c] = Σ_p A[r, p] · B[c, p], and with the last leaf
    C: `count` tiles, one below the other.

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
        What to ask for meanwhile, two cache lines for each term: 2048³ runs at 207 GF with one and
        at 193 without, (8, 1024, 1024) grad_input takes 208 us with one and 170 with two.
    """
    final = max(terms - 1, 0) // LEAF
    kept -= low * fragment_bytes(shape)
    for t in range(count):
        at, bt, soon = a.at + t * a_tile, b.at, ahead + t * ahead_tile
        if c_ahead:
            prefetch_rows(shape, c.at + t * rows_of(shape) * c.row + c_ahead, c.row)
        for q in range(begin, end):
            acc = zero(shape)
            for p in range(min(LEAF, terms - q * LEAF)):
                prefetch(soon + p * ahead_step)
                prefetch(soon + p * ahead_step + LINE)
                acc = outer(acc, at + p * a.col, a.row, bt + p * b.col)
            at += a_leaf
            bt += LEAF * b.col
            soon += LEAF * ahead_step

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
                row = t * rows_of(shape)
                put(finish(acc, bias, divisor), c.at + row * c.row, c.row, rows - row, cols)
        kept += kept_tile

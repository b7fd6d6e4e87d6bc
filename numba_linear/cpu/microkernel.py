"""The microkernel: the summation rule on rows × columns sums at once."""

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
from numba_linear.cpu.problem import Leaves, Prefetch
from numba_linear.cpu.rule import LEAF, pending
from numba_linear.jit.resident import resident


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
    leaves: Leaves,
    bias,
    divisor: float,
    ahead: Prefetch,
):
    """The leaves begin … end-1 of the sums C[r, c] = Σ_p A[r, p] · B[c, p], and with the last leaf
    C: `count` tiles, one below the other.

    Parameters
    ----------
    a : Matrix
        Rows × terms, from leaf `begin` on; the next leaf lies `a_leaf` bytes further, and the next
        tile's rows `a_tile`.
    b : Matrix
        Columns × terms, from leaf `begin` on; the columns of a term are contiguous.
    c : Matrix
        Rows × columns; of each row, which is contiguous, `cols` numbers are written, and of the
        tiles' rows `rows`.
    leaves : Leaves
        Which leaves, of how many terms, and where partial sums wait for the rest of the sum.
    bias, divisor
        As in `finish`.
    ahead : Prefetch
        What to prefetch meanwhile.
    """
    terms, begin, end, partials, kept, kept_tile, low = leaves
    final = max(terms - 1, 0) // LEAF
    kept -= low * fragment_bytes(shape)
    for t in range(count):
        at, bt, soon = a.at + t * a_tile, b.at, ahead.at + t * ahead.tile
        if ahead.c:
            prefetch_rows(shape, c.at + t * rows_of(shape) * c.row + ahead.c, c.row)
        for q in range(begin, end):
            acc = zero(shape)
            for p in range(min(LEAF, terms - q * LEAF)):
                prefetch(soon + p * ahead.step)
                prefetch(soon + p * ahead.step + LINE)
                acc = outer(acc, at + p * a.col, a.row, bt + p * b.col)
            at += a_leaf
            bt += LEAF * b.col
            soon += LEAF * ahead.step

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

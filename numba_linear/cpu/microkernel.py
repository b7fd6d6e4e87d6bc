"""The microkernel: the summation rule on rows × columns sums at once."""

from numba.extending import overload

from numba_linear.cpu.fragment import (
    add,
    finish,
    fragment_bytes,
    item_bytes,
    load,
    load_cols,
    outer,
    outer_inside,
    outer_packed,
    outer_terms,
    prefetch,
    prefetch_rows,
    prefetch_terms,
    put,
    row_bytes,
    rows_of,
    store,
    store_cols,
    terms_of,
    zero,
)
from numba_linear.cpu.machine import LINE, instructions, line_terms, prefetch_each
from numba_linear.cpu.matrix import Matrix
from numba_linear.cpu.problem import Epilogue, Leaves, Onward, Prefetch
from numba_linear.cpu.rule import LEAF, pending
from numba_linear.cpu.tuning import PACKED_TERMS
from numba_linear.jit.compiler import INLINED, inlined
from numba_linear.jit.resident import resident


def leaf(acc, terms, a, a_row, a_col, a_line, b, b_col, soon, step):
    """The chain of a leaf's terms, by the loop that `chain_of` chooses for the processor."""


def by_terms(acc, terms, a, a_row, a_col, a_line, b, b_col, soon, step):
    """x86: the terms of a panel of A a few at a time, at constant distances."""
    high, size, line = rows_of(acc), item_bytes(acc), line_terms(acc)
    near = 0 <= step * PACKED_TERMS <= LINE or not prefetch_each(acc)
    if near and a_row == size and a_col == high * size:
        while terms >= PACKED_TERMS:
            prefetch(soon)
            prefetch(soon + LINE)
            acc = outer_packed(acc, a, size, high * size, b, b_col)
            a += PACKED_TERMS * high * size
            b += PACKED_TERMS * b_col
            soon += PACKED_TERMS * step
            terms -= PACKED_TERMS
    elif a_line != line * a_col:
        while terms >= line:
            for p in range(0 if near else line):
                prefetch(soon + p * step)
                prefetch(soon + p * step + LINE)
            for p in range(0, line, PACKED_TERMS):
                prefetch(soon + p * step)
                prefetch(soon + p * step + LINE)
                acc = outer_packed(acc, a + p * size, LINE, size, b + p * b_col, b_col)
            a += a_line
            b += line * b_col
            soon += line * step
            terms -= line
    for p in range(terms):
        prefetch(soon + p * step)
        prefetch(soon + p * step + LINE)
        acc = outer(acc, a + p * a_col, a_row, b + p * b_col)
    return acc


def by_registers(acc, terms, a, a_row, a_col, a_line, b, b_col, soon, step):
    """AArch64: if A's terms are contiguous, one load brings several terms of a row."""
    line = line_terms(acc) if a_line != line_terms(acc) * a_col else max(1, terms)
    for first in range(0, terms, line):
        p, end = 0, min(line, terms - first)
        if a_col == item_bytes(acc):
            while p + terms_of(acc) <= end:
                prefetch_terms(acc, soon + p * step, step)
                acc = outer_terms(acc, a + p * a_col, a_row, b + p * b_col, b_col)
                p += terms_of(acc)
        while p < end:
            prefetch(soon + p * step)
            acc = outer(acc, a + p * a_col, a_row, b + p * b_col)
            p += 1
        a += a_line
        b += line * b_col
        soon += line * step
    return acc


@overload(leaf, jit_options=INLINED, strict=False)
def chain_of(acc, terms, a, a_row, a_col, a_line, b, b_col, soon, step):
    return by_registers if instructions() == "aarch64" else by_terms


@inlined
def prefetch_lines(sweep, t):
    for i in range(t * sweep.lines, (t + 1) * sweep.lines):
        prefetch(sweep.at + i * LINE)


@resident
def tiles(
    shape,
    count,
    a: Matrix,
    a_line,
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
    """The leaves begin … end-1 of the sums C[r, c] = Σ_p A[r, p] · B[c, p], for `count` tiles, one
    below the other. The last leaf finishes the sums and writes C.

    Parameters
    ----------
    a : Matrix
        Rows × terms, from leaf `begin` on. The terms that fill a cache line are followed by the
        next ones `a_line` bytes further, and by those of the next tile `a_tile` bytes further.
    b : Matrix
        Columns × terms, from leaf `begin` on. The columns of a term are contiguous.
    c : Matrix
        Rows × columns. Rows are contiguous; `cols` numbers of each are written, of `rows` rows.
    leaves : Leaves
        Which leaves, of how many terms, and where partial sums wait.
    bias, divisor
        As in `finish`.
    ahead : Prefetch
        What to prefetch.
    """
    terms, begin, end, partials, kept, kept_tile, low = leaves
    final = max(terms - 1, 0) // LEAF
    kept -= low * fragment_bytes(shape)
    for t in range(count):
        at, bt, soon = a.at + t * a_tile, b.at, ahead.at + t * ahead.tile
        prefetch_lines(ahead.next_a, t)
        prefetch_lines(ahead.next_b, t)
        if ahead.c:
            prefetch_rows(shape, c.at + t * rows_of(shape) * c.row + ahead.c, c.row)
        for q in range(begin, end):
            acc = zero(shape)
            some = min(LEAF, terms - q * LEAF)
            acc = leaf(acc, some, at, a.row, a.col, a_line, bt, b.col, soon, ahead.step)
            at += LEAF // line_terms(shape) * a_line
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


@inlined
def along(shape, count, a, b, b_tile, c, c_row, terms, onward, below, after):
    """Tiles side by side, for terms of one leaf, which may go on from an earlier call. The next
    tile's columns of B are `b_tile` bytes further. The rows of C `below` bytes further are
    prefetched; 0 for none.
    """
    begun, first, level, merges, to = onward
    for t in range(count):
        bt, ct = b.at + t * b_tile, c + t * row_bytes(shape)
        if below:
            prefetch_rows(shape, ct + below, c_row)
            prefetch_rows(shape, ct + below + LINE, c_row)
        acc = zero(shape)
        if begun:
            acc = load(shape, ct, c_row)
        for p in range(terms):
            acc = outer(acc, a.at + p * a.col, a.row, bt + p * b.col)
        for i in range(merges):
            acc = add(load(shape, ct + first + i * level, c_row), acc)
        bias = after.bias + t * row_bytes(shape) if after.bias else 0
        store(finish(acc, bias, after.divisor), ct + to, c_row)


@inlined
def at_edge(shape, cols, a, b, c, c_row, terms, onward, after):
    """An edge tile: C and B have `cols` of its columns."""
    begun, first, level, merges, to = onward
    acc = zero(shape)
    if begun:
        acc = load_cols(shape, c, c_row, cols)
    for p in range(terms):
        acc = outer_inside(acc, a.at + p * a.col, a.row, b.at + p * b.col, cols)
    for i in range(merges):
        acc = add(load_cols(shape, c + first + i * level, c_row, cols), acc)
    store_cols(finish(acc, after.bias, after.divisor), c + to, c_row, cols)


@resident
def strip(
    shape,
    count,
    a: Matrix,
    b: Matrix,
    b_tile,
    c,
    c_row,
    terms,
    onward: Onward,
    below,
    after: Epilogue,
):
    along(shape, count, a, b, b_tile, c, c_row, terms, onward, below, after)


@resident
def strip_edge(
    shape, cols, a: Matrix, b: Matrix, c, c_row, terms, onward: Onward, after: Epilogue
):
    at_edge(shape, cols, a, b, c, c_row, terms, onward, after)

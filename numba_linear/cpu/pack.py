"""Packing: operands copied into aligned panels that a tile reads from front to back.

A panel of B holds `width` columns, term after term. A tile never stores what it computes from
columns beyond the matrix. They are padded with 0 or with numbers of the matrix, since a stray
subnormal takes a hundred cycles to multiply::

    term 0: B[0, 0] B[1, 0] … B[width-1, 0] | term 1: B[0, 1] B[1, 1] … | …

A panel of A holds the `height` rows of one tile. If its terms are contiguous, it is copied line by
line: what a cache line holds of the first row, of the second row and so on, then the next line of
each. Otherwise a term's rows are side by side, as in panels of B::

    A[0, 0…15] A[1, 0…15] … | A[0, 16…31] …          or          A[0, 0] A[1, 0] … | A[0, 1] …
"""

from numba_linear.cpu.fragment import (
    columns_of,
    copy,
    item_bytes,
    load,
    load_columns,
    load_few_columns,
    load_part,
    load_terms,
    prefetch,
    put,
    store,
    terms_of,
)
from numba_linear.cpu.machine import (
    LINE,
    cache_line,
    heights,
    line_terms,
    short_vectors,
    square,
    vector,
    vectors,
)
from numba_linear.cpu.matrix import Matrix, from_number
from numba_linear.cpu.plan import terms_at_once, tile_height
from numba_linear.cpu.tuning import PACK_AHEAD
from numba_linear.jit.resident import resident


@resident
def pack_b(tiling, b: Matrix, cols, terms, width, to, panels, panel_bytes):
    """Pack the terms of the columns 0 … cols-1 of B into a panel of `width` columns. Several whole
    panels side by side are `panel_bytes` apart."""
    size, lanes = item_bytes(tiling), columns_of(tiling) // 2
    row = width * size
    if b.row == size and cols == columns_of(tiling):
        for p in range(terms):
            soon = b.at + (p + PACK_AHEAD) * b.col
            prefetch(soon)
            for i in range(panels):  # a line that two of them share is read once
                at, into = b.at + p * b.col + i * row, to + p * row + i * panel_bytes
                prefetch(soon + (i + 1) * row - 1)
                store(load(vectors(tiling), at, 0), into, 0)
    elif b.row == size:
        for p in range(terms):
            for j in range(0, width, lanes):
                numbers = load_part(vector(tiling), b.at + p * b.col + j * size, cols - j)
                store(numbers, to + p * row + j * size, 0)
    elif b.col == size:
        for j in range(0, width, lanes):
            column, inside = min(j, cols - 1), max(1, cols - j)
            for p in range(0, terms, lanes):
                source, target = from_number(b, column, p).at, to + p * row + j * size
                if inside >= lanes and terms - p >= lanes:
                    store(load_columns(square(tiling), source, b.row), target, row)
                else:
                    t = load_few_columns(square(tiling), source, b.row, inside, terms - p)
                    put(t, target, row, terms - p, lanes)
    else:
        for p in range(terms):
            for j in range(width):
                copy(tiling, to + p * row + j * size, from_number(b, min(j, cols - 1), p).at)


@resident
def pack_b_short(tiling, b: Matrix, terms, width, to):
    """`pack_b` for a whole panel of a B whose rows are short and contiguous, with no fewer terms
    than 128 bits hold: (8, 24, 24) forward in float32 takes 174 ns instead of 212."""
    shape, row = short_vectors(tiling, 1, 32), width * item_bytes(tiling)
    size, step = item_bytes(tiling), terms_of(shape)
    for j in range(0, width, columns_of(shape)):
        for begin in range(0, terms, step):
            p = min(begin, terms - step)
            t = load_terms(shape, from_number(b, j, p).at, b.row)
            store(t, to + p * row + j * size, row)


@resident
def pack_a(tiling, a: Matrix, rows, tall, terms, to):
    """Pack the terms of the rows 0 … rows-1 of A into panels, one per tile, a cache line for each
    row longer than these terms.

    Rows that a tile has beyond these, up to `tall`, are padded with the last row or 0.
    """
    size, lanes, line = item_bytes(tiling), columns_of(tiling) // 2, line_terms(tiling)
    some = terms if a.col == size else terms_at_once(a.col)
    for begin in range(0, terms, some):
        end = min(terms, begin + some)
        row = 0
        panel = to
        while row < rows:
            height = heights(tiling)[tile_height(tiling, rows - row, tall)]
            row = max(0, min(row, rows - height))
            inside = min(height, rows)
            source = a.at + row * a.row
            if a.col == size:
                for r in range(height):
                    for p in range(0, terms, line):
                        prefetch(source + a.row + p * size)
                        numbers = load_part(cache_line(tiling), source + p * size, terms - p)
                        store(numbers, panel + p * height * size + r * LINE, 0)
                    if r + 1 < inside:
                        source += a.row
            elif a.row == size:
                for p in range(begin, end):
                    prefetch(source + (p + some) * a.col)
                    for j in range(0, height, lanes):
                        at, into = source + p * a.col + j * size, panel + (p * height + j) * size
                        # the next term's numbers overwrite what this writes beyond the height
                        store(load_part(vector(tiling), at, inside - j), into, 0)
            else:
                for p in range(begin, end):
                    for r in range(height):
                        number = source + p * a.col + min(r, inside - 1) * a.row
                        copy(tiling, panel + (p * height + r) * size, number)
            row += height
            panel += height * (terms * size + LINE)

"""Packing: operands rearranged into aligned panels that a tile reads from front to back.

A panel of B holds `width` columns, term after term; columns beyond the matrix repeat or are zero, and
the tile never stores what it computes from them:

    term 0: B[0, 0] B[1, 0] … B[width-1, 0] | term 1: B[0, 1] B[1, 1] … | …

A panel of A holds the `height` rows of one tile. Rows that lie contiguous are copied leaf by leaf, each
row of a leaf in one piece; otherwise the rows of a term stand side by side, as in B's panels:

    leaf 0: A[0, 0…255] A[1, 0…255] … | leaf 1: …          or          A[0, 0] A[1, 0] … | A[0, 1] …
"""

from numba import njit

from numba_linear.cpu.fragment import (
    columns_of,
    copy,
    item_bytes,
    load,
    load_columns,
    load_part,
    store,
    store_part,
)
from numba_linear.cpu.machine import heights, square, vector, vectors
from numba_linear.cpu.resident import resident
from numba_linear.cpu.rule import LEAF


@njit
def tile_height(tiling, left, rows, narrow):
    """The index among the heights for the next tile, with `left` of `rows` rows still to do.

    The least height that finishes them, if the tile may begin early and compute some rows again (the
    same bits); else the greatest that fits.
    """
    choices = heights(tiling)
    step = 2 if narrow else 1
    best = -1
    for i in range(0, len(choices), step):
        # from the greatest down: one that finishes, or the first that does not
        if choices[i] <= rows and (best < 0 or choices[i] >= left):
            best = i
    return best


@resident
def pack_b(tiling, b, b_col, b_term, steps, cols, width, to):
    """`steps` terms of the columns 0 … cols-1 of B into a panel of `width` columns."""
    size, lanes = item_bytes(tiling), columns_of(tiling) // 2
    to_term = width * size
    if b_col == size and cols == columns_of(tiling):
        for p in range(steps):
            store(load(vectors(tiling), b + p * b_term, 0), to + p * to_term, 0)
    elif b_col == size:
        for p in range(steps):
            for j in range(0, width, lanes):
                source = b + p * b_term + j * size
                if cols - j >= lanes:
                    numbers = load(vector(tiling), source, 0)
                else:
                    numbers = load_part(vector(tiling), source, 0, 1, max(0, cols - j))
                store(numbers, to + p * to_term + j * size, 0)
    elif b_term == size:
        for j in range(0, cols, lanes):
            for p in range(0, steps, lanes):
                source = b + j * b_col + p * size
                target = to + p * to_term + j * size
                if cols - j >= lanes and steps - p >= lanes:
                    store(load_columns(square(tiling), source, b_col), target, to_term)
                else:
                    for i in range(min(lanes, steps - p)):
                        for r in range(min(lanes, cols - j)):
                            copy(tiling, target + i * to_term + r * size, source + r * b_col + i * size)
    else:
        for p in range(steps):
            for j in range(width):
                source = b + p * b_term + min(j, cols - 1) * b_col
                copy(tiling, to + p * to_term + j * size, source)


#: Terms packed at a time where the rows of A are contiguous: their lines stay in the first-level cache
#: while one tile's rows after the other's are taken from them.
FEW = 32


@resident
def pack_a(tiling, a, a_row, a_term, rows, steps, to):
    """`steps` terms of `rows` rows of A into panels, one for each tile."""
    size, lanes = item_bytes(tiling), columns_of(tiling) // 2
    for begin in range(0, steps, FEW if a_term != size else max(1, steps)):
        row = 0
        panel = to
        while row < rows:
            height = heights(tiling)[tile_height(tiling, rows - row, rows, False)]
            row = min(row, rows - height)
            source = a + row * a_row
            if a_term == size:
                for r in range(height):
                    for q in range(0, steps, LEAF):
                        leaf = panel + (q * height + r * LEAF) * size
                        few = min(LEAF, steps - q)
                        even = few // lanes * lanes
                        for p in range(0, even, lanes):
                            numbers = load(vector(tiling), source + (q + p) * size, 0)
                            store(numbers, leaf + p * size, 0)
                        if few > even:
                            at = source + (q + even) * size
                            numbers = load_part(vector(tiling), at, 0, 1, few - even)
                            store(numbers, leaf + even * size, 0)
                    source += a_row
            elif a_row == size and height <= lanes:
                for p in range(begin, min(steps, begin + FEW)):
                    numbers = load_part(vector(tiling), source + p * a_term, 0, 1, height)
                    store_part(numbers, panel + p * height * size, 0, height)
            else:
                for p in range(begin, min(steps, begin + FEW)):
                    for r in range(height):
                        copy(tiling, panel + (p * height + r) * size, source + p * a_term + r * a_row)
            row += height
            panel += height * (steps + LEAF) * size

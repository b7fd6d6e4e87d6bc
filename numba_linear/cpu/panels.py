"""Packing: operands rearranged into aligned panels that a tile reads from front to back.

A panel of B holds `width` columns, term after term; columns beyond the matrix repeat or are zero, and
the tile never stores what it computes from them:

    term 0: B[0, 0] B[1, 0] … B[width-1, 0] | term 1: B[0, 1] B[1, 1] … | …

A panel of A holds the `height` rows of one tile. Rows that lie contiguous are copied leaf by leaf, each
row of a leaf in one piece; otherwise the rows of a term stand side by side, as in B's panels:

    leaf 0: A[0, 0…255] A[1, 0…255] … | leaf 1: …          or          A[0, 0] A[1, 0] … | A[0, 1] …
"""

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
from numba_linear.cpu.machine import square, vector
from numba_linear.cpu.resident import resident
from numba_linear.cpu.rule import LEAF


@resident
def pack_b(tiling, b, b_col, b_term, steps, cols, width, to):
    """`steps` terms of the columns 0 … cols-1 of B into a panel of `width` columns."""
    size, lanes = item_bytes(tiling), columns_of(tiling) // 2
    to_term = width * size
    if b_col == size:
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


@resident
def pack_a(tiling, a, a_row, a_term, steps, height, to):
    """`steps` terms of `height` rows of A into a panel."""
    size, lanes = item_bytes(tiling), columns_of(tiling) // 2
    if a_term == size:
        for r in range(height):
            for q in range(0, steps, LEAF):
                source = a + r * a_row + q * size
                target = to + (q * height + r * LEAF) * size
                for p in range(0, min(LEAF, steps - q), lanes):
                    if steps - q - p >= lanes:
                        numbers = load(vector(tiling), source + p * size, 0)
                    else:
                        numbers = load_part(vector(tiling), source + p * size, 0, 1, steps - q - p)
                    store(numbers, target + p * size, 0)
    elif a_row == size:
        for p in range(steps):
            for r in range(0, height, lanes):
                numbers = load_part(vector(tiling), a + p * a_term + r * size, 0, 1, height - r)
                store_part(numbers, to + (p * height + r) * size, 0, height - r)
    else:
        for p in range(steps):
            for r in range(height):
                copy(tiling, to + (p * height + r) * size, a + p * a_term + r * a_row)

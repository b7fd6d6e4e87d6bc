"""How much of everything the loops of `contract` take at a time, so that each part stays in its
cache, and what they pack."""

from typing import NamedTuple

from numba_linear.cpu.compiler import inlined
from numba_linear.cpu.fragment import columns_of, item_bytes, rows_of
from numba_linear.cpu.machine import (
    LINE,
    PAGE,
    a_bytes,
    b_bytes,
    block_leaves,
    block_levels,
    heights,
)
from numba_linear.cpu.panels import tile_height
from numba_linear.cpu.rule import LEAF

#: Terms up to which writing C is most of the work: its rows are then finished block by block while
#: they are in the second-level cache, 134 ms to 44 at (4, 4096, 11008) grad_weight.
FEW_TERMS = 64

#: Bytes of C from which its lines are written once, whole, where that costs more columns computed.
WRITES = 32 << 10


class Blocks(NamedTuple):
    """What `blocks_for` chooses: a block's leaves, rows and panels; and what it found."""

    leaves: int
    rows: int
    panels: int
    low: int  # levels of the tree within a block
    all_panels: int  # of B
    lead: int  # columns of the first panel, 0 if it is like the others
    panel_bytes: int  # of what is packed of a panel, if B is
    keep: bool  # whether B's panels are kept for all blocks of rows
    b_direct: bool  # whether B is read as it lies
    a_pack: bool  # whether A is packed
    tall: int  # rows of a tile that is to have no fewer than A, or 0


@inlined
def blocks_for(tiling, problem, leaves, levels):
    """The blocks for a problem whose sums have so many leaves, and their tree so many levels."""
    a, b, c, rows, cols, terms, _, _, _ = problem
    size, most_rows, most_columns = item_bytes(tiling), rows_of(tiling), columns_of(tiling)
    least = heights(tiling)[len(heights(tiling)) - 1]
    # A's rows are packed where they lie so far apart that they evict each other or miss the TLB.
    apart = a.row >= 4096 if a.col == size else a.col >= 2048 or a.row != size

    # How much of everything fits. Where all does, nothing is divided, which takes long: 236 ns to
    # 228 at (8, 32, 32) forward in `@njit`.
    block, low = block_leaves(tiling), block_levels(tiling)
    if a.row == size and not apart:
        # long sums of few rows and columns: the terms of both where they lie; 112 GF to 130 at
        # (50000, 100, 100) grad_weight
        while block > 1 and block * LEAF * (a.col + b.col) > a_bytes(tiling):
            block, low = block // 2, low - 1
    block = min(leaves, block)
    a_term = max(1, min(terms, block * LEAF)) * size
    block_rows = rows
    if rows * a_term > a_bytes(tiling):
        block_rows = min(rows, max(1, a_bytes(tiling) // a_term // most_rows) * most_rows)
    if terms <= FEW_TERMS and rows * cols * size > a_bytes(tiling):
        fit = a_bytes(tiling) // (cols * size) // most_rows * most_rows
        block_rows = min(block_rows, max(most_rows, fit))
    # Reading B as it lies saves packing it, a pass, which many tiles share. But where its rows
    # begin anywhere its loads straddle cache lines, and where they are pages apart they evict each
    # other. Nothing beyond B's columns may be read.
    wide = cols >= most_columns or cols == most_columns // 2
    most_tiles = 1 if b.col != 0 and b.col % PAGE == 0 else 16 if b.col % LINE == 0 else 4
    b_direct = b.row == size and wide and rows <= most_tiles * most_rows
    # Columns before the first at which all rows of a direct B, or else of C, begin a vector as
    # aligned as it is wide: less than a narrow panel has. It costs a panel more, and pays where
    # a direct B has many, or where writing C, to beyond the first cache, is much of the work:
    # 24 ms to 13 at (200000, 64, 10) grad_input, float64.
    vector_bytes = most_columns // 2 * size
    lead, edge = 0, b.at if b_direct else c.at
    writes = not b_direct and cols >= 2 * most_columns and rows * abs(c.row) > WRITES
    many = b_direct and cols >= 8 * most_columns
    worth = many or (writes and terms * most_columns <= 8 * cols)
    if worth and (b.col if b_direct else c.row) % vector_bytes == 0:
        lead = -edge % vector_bytes // size
    panels = (cols - lead + most_columns - 1) // most_columns + min(lead, 1)
    panel_bytes = min(block * LEAF, terms) * most_columns * size
    # B's panels are kept for all blocks of rows, if all their terms fit; else each packs them
    # again.
    keep = not b_direct and rows > block_rows
    block_panels = panels
    if keep:
        whole = max(1, terms) * most_columns * size
        if 8 * whole <= b_bytes(tiling):
            panel_bytes = whole
            block_panels = b_bytes(tiling) // whole
        else:
            keep = False
    kept_levels = max(0, levels - low)
    if kept_levels:
        fit = b_bytes(tiling) // ((block_rows + most_rows) * size * kept_levels)
        block_panels = min(block_panels, max(1, fit // most_columns))
    block_panels = min(block_panels, panels)
    if block_panels < panels:
        # blocks as even as can be: 348 ms to 332 at (2048, 1024, 4096) grad_input, float64
        rounds = (panels + block_panels - 1) // block_panels
        block_panels = (panels + rounds - 1) // rounds
    evict = (a.row if a.col == size else a.col) % PAGE == 0
    a_pack = apart and block_panels >= (4 if evict else 8) and rows >= 2 * most_rows
    # A tile taller than A, for want of a lower one, and where it saves another pass over a B that
    # is read as it lies, 81 GF to 177 at (7, 1024, 1024) grad_input. Of more than one row, A is
    # then packed and filled up.
    tall = least if rows < least else 0
    if rows < least:
        a_pack = rows > 1
    elif b_direct and b.col >= 2048 and block_panels >= 8 and rows < most_rows:
        tall = heights(tiling)[tile_height(tiling, rows, most_rows)]
        a_pack = tall > rows
    return Blocks(
        block,
        block_rows,
        block_panels,
        low,
        panels,
        lead,
        panel_bytes,
        keep,
        b_direct,
        a_pack,
        tall,
    )

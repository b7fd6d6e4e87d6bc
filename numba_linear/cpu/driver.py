"""The contraction in tiles: five loops, as `blocks_for` planned them.

From the outside in: 5. blocks of columns, so that B's panels fit L3; 4. blocks of rows and 3. of
terms, so that A's panels fit L2; 2. the panels of B; 1. the tiles of a panel. The leaves of a
block of terms are the innermost loop, in the microkernel: a tile's partial sums stay in L1.
"""

from typing import NamedTuple

from numba_linear.codes import FINE, MEMORY
from numba_linear.cpu.fragment import (
    allocate,
    columns_of,
    fragment_bytes,
    item_bytes,
    load_part,
    release,
    rows_of,
    scratch,
    store,
)
from numba_linear.cpu.machine import (
    LINE,
    heights,
    least_height,
    line_terms,
    prefetch_row,
    tile_shape,
    tiling_for,
    vectors,
)
from numba_linear.cpu.matrix import Matrix, from_number, transposed
from numba_linear.cpu.microkernel import tiles
from numba_linear.cpu.pack import pack_a, pack_b
from numba_linear.cpu.plan import (
    blocks_for,
    panel_of,
    panels_at_once,
    sweep_for,
    tile_count,
    tile_height,
)
from numba_linear.cpu.problem import Leaves, Prefetch, Problem, Sweep
from numba_linear.cpu.rule import LEAF, leaf_count, level_count
from numba_linear.cpu.tuning import (
    PACK_PANELS,
    PREFETCH_BYTES,
    PREFETCH_TERMS,
    PREFETCH_TILES,
    STACK,
)
from numba_linear.jit.compiler import inlined
from numba_linear.jit.resident import resident


@resident(late=tiling_for)
def contract_tiles(tiling, problem: Problem) -> int:
    """C from A and B; C's rows and the bias are contiguous."""
    a, b, c, rows, cols, terms, epilogue = problem
    if rows == 1:  # all rows of a taller tile read the same row
        a = Matrix(a.at, 0, a.col)
    size, leaves, blocks = item_bytes(tiling), leaf_count(terms), blocks_for(tiling, problem)
    space = workspace_for(tiling, blocks, leaves)
    stack = scratch(STACK)
    work = allocate(space.need) if space.need > STACK else stack
    if not work:
        return MEMORY
    a_packed = (work + 63) & -64
    b_packed = (a_packed + space.a + 63) & -64
    partials = (b_packed + space.b + 63) & -64
    kept = partials + space.partials
    bias_row = scratch(1024)

    for first_panel in range(0, blocks.all_panels, blocks.panels):  # 5: columns, for L3
        end_panel = min(blocks.all_panels, first_panel + blocks.panels)
        for next_row in range(0, rows, blocks.rows):  # 4: rows, for L2
            # the last block begins early, if it can, to be as tall as a tile
            first_row = max(0, min(next_row, rows - least_height(tiling)))
            some_rows = min(blocks.rows, rows - first_row)
            tall = max(blocks.tall, some_rows)
            for q in range(0, leaves, blocks.leaves):  # 3: terms, for L2
                end = min(leaves, q + blocks.leaves)
                steps = min(terms, end * LEAF) - q * LEAF
                a_part = from_number(a, first_row, q * LEAF)
                if blocks.a_pack:
                    pack_a(tiling, a_part, some_rows, tall, steps, a_packed)
                most = rows_of(tiling)
                per_panel = (some_rows + most - 1) // most
                shares = per_panel * (end_panel - first_panel)
                next_a, next_b = Sweep(0, 0), Sweep(0, 0)
                if end < leaves:
                    a_next = from_number(a, first_row, end * LEAF)
                    next_a = sweep_for(tiling, a_next, some_rows, steps, shares)
                    if not blocks.keep or first_row == 0:
                        b_next = from_number(b, 0, end * LEAF)
                        next_b = sweep_for(tiling, b_next, cols, steps, shares)
                elif blocks.a_pack and q == 0 and first_row + some_rows < rows:  # the next rows
                    a_next = transposed(from_number(a, first_row + some_rows, 0))
                    left = min(blocks.rows, rows - first_row - some_rows)
                    next_a = sweep_for(tiling, a_next, terms, left, shares)
                group, end_group, some = first_panel, first_panel, 1
                for index in range(first_panel, end_panel):  # 2: a panel of B, for L1
                    panel = panel_of(tiling, cols, blocks, index)
                    b_part = from_number(b, panel.column, q * LEAF)
                    before = (index - first_panel) * per_panel
                    sweeps = after(next_a, before), after(next_b, before)
                    if blocks.b_direct:
                        ahead = ahead_in_place(tiling, b_part, panel.width, rows, sweeps)
                    else:
                        apart = blocks.panel_bytes
                        if index == end_group:
                            some = panels_at_once(tiling, problem, blocks, index, end_panel)
                            group, end_group = index, index + some
                        packed = b_packed + (index - group) * apart
                        if blocks.keep:
                            packed = b_packed + (index - first_panel) * apart
                            packed += q * LEAF * panel.width * size
                        if index == group and (not blocks.keep or first_row == 0):
                            width = panel.width
                            pack_b(tiling, b_part, panel.cols, steps, width, packed, some, apart)
                        soon, step = packed + apart, 0
                        if blocks.keep:  # each tile prefetches a part of the next packed panel
                            step = panel.width * size // per_panel
                        b_part = Matrix(packed, size, panel.width * size)
                        ahead = Prefetch(soon, step, step * steps, 0, *sweeps)
                    bias = epilogue.bias + panel.column * size if epilogue.bias else 0
                    if bias and panel.cols < panel.width:
                        store(load_part(vectors(tiling), bias, panel.cols), bias_row, 0)
                        bias = bias_row
                    panel_kept = kept + (index - first_panel) * space.panel_kept
                    tiles_of_panel(  # 1: its tiles
                        tiling,
                        a_part,
                        a_packed if blocks.a_pack else 0,
                        b_part,
                        panel,
                        from_number(c, first_row, panel.column),
                        some_rows,
                        tall,
                        Leaves(terms, q, end, partials, panel_kept, space.tile_kept, blocks.low),
                        bias,
                        epilogue.divisor,
                        ahead,
                    )
    if space.need > STACK:
        release(work)
    return FINE


@inlined
def tiles_of_panel(tiling, a, a_packed, b, panel, c, rows, tall, leaves, bias, divisor, ahead):
    """Loop 1: the tiles of one panel of B, for the leaves begin … end-1. Most of the time is spent
    in `tiles`."""
    size = item_bytes(tiling)
    narrow = panel.width < columns_of(tiling)
    terms, begin, end, partials, kept, kept_tile, low = leaves
    steps = min(terms, end * LEAF) - begin * LEAF
    ahead_at, ahead_step, ahead_tile, _, next_a, next_b = ahead
    far = PREFETCH_TILES * rows_of(tiling)
    many = not a_packed and a.col == size and rows >= 2 * far
    many = many and max(a.row, c.row) >= prefetch_row(tiling)
    row = 0
    while row < rows:
        left = rows - row
        index = tile_height(tiling, left, tall)
        height = heights(tiling)[index]
        count = tile_count(tiling, left, index)
        # a tile for left-over rows begins early and computes some again, to the same bits
        row = max(0, min(row, rows - height))
        a_tiles, a_tile = from_number(a, row, 0), height * a.row
        a_line = line_terms(tiling) * a.col
        c_ahead = 0
        if many:
            ahead_at, ahead_step, ahead_tile = a_tiles.at + far * a.row, height * size, a_tile
            c_ahead = far * c.row
        elif a_packed:
            a_tiles = Matrix(a_packed, size, height * size)
            if a.col == size:
                a_tiles = Matrix(a_packed, LINE, size)
            a_line, a_tile = height * LINE, height * (steps * size + LINE)
            a_packed += count * a_tile
        tiles(
            tile_shape(tiling, index + (len(heights(tiling)) if narrow else 0)),
            count,
            a_tiles,
            a_line,
            a_tile,
            b,
            from_number(c, row, 0),
            rows - row,
            panel.cols,
            Leaves(terms, begin, end, partials, kept, kept_tile, low),
            bias,
            divisor,
            Prefetch(ahead_at, ahead_step, ahead_tile, c_ahead, next_a, next_b),
        )
        ahead_at += count * ahead_tile
        next_a, next_b = after(next_a, count), after(next_b, count)
        kept += count * kept_tile
        row += count * height


@inlined
def after(sweep, tiles):
    """What the tiles after these prefetch."""
    return Sweep(sweep.at + tiles * sweep.lines * LINE, sweep.lines)


@inlined
def ahead_in_place(tiling, b, width, rows, sweeps):
    """Prefetch plan for a B that is read in place.

    Of several tiles, the first prefetches the first lines of each term to the right of the panel,
    the second the next lines, and so on. A single tile prefetches the terms that follow, but no
    line that it shares with the panel to the left.
    """
    at = b.at + width * item_bytes(tiling)
    if rows <= rows_of(tiling):
        at = b.at + max(PREFETCH_TERMS, PREFETCH_BYTES // max(1, abs(b.col))) * b.col
        if (b.at | b.col) % LINE:
            at += LINE
    return Prefetch(at, b.col, min(LINE, (rows - 1) // rows_of(tiling) * LINE), 0, *sweeps)


class Workspace(NamedTuple):
    """Bytes of working memory: in all, for A's and B's panels, for partial sums within a block,
    and for those kept from block to block, per tile and per panel."""

    need: int
    a: int
    b: int
    partials: int
    tile_kept: int
    panel_kept: int


@inlined
def workspace_for(tiling, blocks, leaves):
    size, most_rows, levels = item_bytes(tiling), rows_of(tiling), level_count(leaves)
    a_row = blocks.leaves * LEAF * size + LINE
    a = (blocks.rows + most_rows) * a_row if blocks.a_pack else 0
    b_panels = blocks.panels if blocks.keep else PACK_PANELS
    b = 0 if blocks.b_direct else b_panels * blocks.panel_bytes + LEAF * size
    partials = min(levels, blocks.low) * fragment_bytes(tiling)
    tile_kept = max(0, levels - blocks.low) * fragment_bytes(tiling)
    panel_kept = tile_kept * (blocks.rows // most_rows + len(heights(tiling)))
    need = a + b + partials + panel_kept * blocks.panels + 256
    return Workspace(need, a, b, partials, tile_kept, panel_kept)

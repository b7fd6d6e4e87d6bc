"""The contraction C[r, c] = Σ_p A[r, p] · B[c, p] on one thread: the loops around the tile.

All three sums of the layer are this one, with the operands' strides saying which index is which::

    forward      Y[k, i]  = Σ_l x[k, l] · w[i, l] + b[i]       A = x        B = w
    grad_input   ∂X[k, l] = Σ_i g[k, i] · w[i, l]              A = g        B = wᵀ
    grad_weight  ∂W[i, l] = Σ_k g[k, i] · x[k, l]  (/ K)       A = gᵀ       B = xᵀ
    grad_bias    ∂b[i]    = Σ_k 1 · g[k, i]        (/ K)       A = a one    B = gᵀ

From the outside in: 5. a block of columns, as many as B's panels fit the third-level cache; 4. a
block of rows and 3. of terms, as many as A's panels fit the second-level cache; 2. a panel of B;
1. its tiles. The leaves of a block of terms are the innermost loop, in the tile, so that a tile's
partial sums stay close.
"""

from numba_linear.cpu.blocks import blocks_for
from numba_linear.cpu.compiler import inlined
from numba_linear.cpu.fragment import (
    allocate,
    columns_of,
    copy,
    fragment_bytes,
    item_bytes,
    load_part,
    one,
    release,
    row_bytes,
    rows_of,
    scratch,
    store,
)
from numba_linear.cpu.gemv import FEW_DOTS, gemv_dot, gemv_rows
from numba_linear.cpu.machine import (
    LINE,
    a_bytes,
    heights,
    tile_shape,
    vector,
    vectors,
)
from numba_linear.cpu.matrix import Matrix, from_number
from numba_linear.cpu.panels import pack_a, pack_b, tile_height
from numba_linear.cpu.problem import Ahead, Leaves, Problem
from numba_linear.cpu.resident import resident
from numba_linear.cpu.rule import LEAF, leaf_count
from numba_linear.cpu.tile import tiles

#: Bytes of working memory up to which a call takes them from the stack: malloc costs 40 ns.
SMALL = 16 << 10

#: Rows of A up to which B is read row by row: 9.5 ms to 7.1 at (2, 4096, 4096) grad_input,
#: float64; and up to which a B of so many bytes is, which comes from memory: 49 ms to 29 at
#: (4, 4096, 11008). A smaller one is slower so: 4.1 ms to 7.0 at (8, 4096, 4096), float32.
FEW_ROWS, MORE_ROWS, MEMORY = 2, 8, 65 << 20

#: How far ahead a B that is read as it lies is asked for, at least in terms, 374 us with 32 and
#: 345 with 16 at (8, 1024, 1024) grad_input, float64, and in bytes, 10.6 ms to 8.3 at grad_weight
#: of (1000000, 16, 16).
AHEAD, AHEAD_BYTES = 16, 1 << 14

#: Tiles of rows of A that are asked for ahead where there are many and they are read as they lie:
#: 13.3 ms to 5.7 at (1000000, 16, 16), 20 to 7.7 at (200000, 64, 10), float64.
TILES_AHEAD = 8


@inlined
def tiles_of_panel(
    tiling, a, a_packed, b, width, c, rows, tall, cols, leaves, bias, divisor, ahead
):
    """Loop 1: the tiles of one panel of B, for the leaves begin … end-1."""
    size = item_bytes(tiling)
    narrow = width < columns_of(tiling)
    terms, begin, end, partials, kept, kept_tile, low = leaves
    steps = min(terms, end * LEAF) - begin * LEAF
    ahead_at, ahead_step, ahead_tile, _ = ahead
    far = TILES_AHEAD * rows_of(tiling)
    many = not a_packed and a.col == size and rows >= 2 * far
    row = 0
    while row < rows:
        left = rows - row
        index = tile_height(tiling, left, tall)
        height = heights(tiling)[index]
        count = max(1, left // height)
        # where rows are left over, a tile begins early and computes some again, the same bits
        row = max(0, min(row, rows - height))
        a_tiles, a_leaf, a_tile = from_number(a, row, 0), LEAF * a.col, height * a.row
        c_ahead = 0
        if many:
            ahead_at, ahead_step, ahead_tile = a_tiles.at + far * a.row, height * size, a_tile
            c_ahead = far * c.row
        elif a_packed:
            a_tiles = Matrix(a_packed, size, height * size)
            if a.col == size:
                a_tiles = Matrix(a_packed, LEAF * size, size)
            a_leaf, a_tile = LEAF * height * size, height * (steps + LEAF) * size
            a_packed += count * a_tile
        tiles(
            tile_shape(tiling, index + (len(heights(tiling)) if narrow else 0)),
            count,
            a_tiles,
            a_leaf,
            a_tile,
            b,
            from_number(c, row, 0),
            rows - row,
            cols,
            Leaves(terms, begin, end, partials, kept, kept_tile, low),
            bias,
            divisor,
            Ahead(ahead_at, ahead_step, ahead_tile, c_ahead),
        )
        ahead_at += count * ahead_tile
        kept += count * kept_tile
        row += count * height


@inlined
def contract_dots(tiling, problem, levels):
    """By `gemv_dot`, for which the terms of A are brought together; no more than fit a cache."""
    a, b, c, rows, cols, terms, bias, divisor, sums = problem
    size, small = item_bytes(tiling), scratch(SMALL)
    partial_bytes = levels * FEW_DOTS * row_bytes(vector(tiling))
    need = partial_bytes + (rows * terms * size if a.col != size else 0)
    work = allocate(need) if need > SMALL else small
    if not work:
        return 1
    if a.col != size:
        gathered = Matrix(work + partial_bytes, terms * size, size)
        for r in range(rows):
            for p in range(terms):
                copy(tiling, from_number(gathered, r, p).at, from_number(a, r, p).at)
        problem = Problem(gathered, b, c, rows, cols, terms, bias, divisor, sums)
    gemv_dot(tiling, problem, work)
    if need > SMALL:
        release(work)
    return 0


@inlined
def contract_rows(tiling, problem, levels):
    """By `gemv_rows`, in stretches of C that stay in the first-level cache."""
    size, small = item_bytes(tiling), scratch(SMALL)
    width = columns_of(tiling)
    stretch = min(problem.cols // width * width, 8192 // size)
    need = levels * stretch * problem.rows * size
    work = allocate(need) if need > SMALL else small
    if not work:
        return 1
    gemv_rows(tiling, problem, stretch, work)
    if need > SMALL:
        release(work)
    return 0


@inlined
def gives_sums(tiling, a, rows, cols):
    """Whether `contract` can give the sums of A's rows besides C: where the rows lie side by side,
    enough for a tile."""
    return a.row == item_bytes(tiling) and rows >= columns_of(tiling) // 2 and cols > 0


@inlined
def sums_of_rows(tiling, a, rows, first_row, end_row, leaves, sums, divisor):
    """Σ_p 1 · A[r, p], the leaves begin … end-1, for the rows first_row … end_row-1: A in the
    place of B, in tiles of the least height, of which one row is wanted.

    The tiles may take rows beyond these, but none that A has not.
    """
    size, index, width = item_bytes(tiling), len(heights(tiling)) - 1, columns_of(tiling)
    if rows < width:
        index, width = index + len(heights(tiling)), width // 2
    terms, begin, end, partials, kept, kept_tile, low = leaves
    for next_row in range(first_row, end_row, width):
        row = min(next_row, rows - width)
        side = Matrix(a.at + row * size, size, a.col)
        tiles(
            tile_shape(tiling, index),
            1,
            Matrix(one(tiling), 0, 0),
            0,
            0,
            side,
            Matrix(sums + row * size, 0, size),
            1,
            width,
            Leaves(terms, begin, end, partials, kept, kept_tile, low),
            0,
            divisor,
            Ahead(side.at, 0, 0, 0),
        )
        kept += kept_tile


@resident
def contract(tiling, problem: Problem) -> int:
    """C from A and B, the rows of C being contiguous; not 0 if there was no memory to work in.

    With the sums of A's rows, if they are wanted, where `gives_sums`.
    """
    a, b, c, rows, cols, terms, bias, divisor, sums = problem
    if rows == 0 or cols == 0:
        return 0
    size, most_rows, most_columns = item_bytes(tiling), rows_of(tiling), columns_of(tiling)
    leaves = leaf_count(terms)
    levels = 0
    while (leaves - 1) >> levels:
        levels += 1
    least = heights(tiling)[len(heights(tiling)) - 1]
    squares = rows < least or (rows <= FEW_DOTS and cols >= most_columns // 2)
    together = a.col == size or rows * terms * size <= a_bytes(tiling)
    if squares and together and b.col == size and terms > 0 and not sums:
        return contract_dots(tiling, problem, levels)
    by_rows = rows <= FEW_ROWS or (rows <= MORE_ROWS and terms * b.col >= MEMORY)
    if by_rows and b.row == size and terms > 1 and cols >= most_columns and not sums:
        return contract_rows(tiling, problem, levels)

    blocks = blocks_for(tiling, problem, leaves, levels)
    if rows == 1:  # a tile taller than A reads its row again and again
        a = Matrix(a.at, 0, a.col)

    # Working memory.
    slots = blocks.rows // most_rows + len(heights(tiling))
    a_block = (blocks.rows + most_rows) * (blocks.leaves + 1) * LEAF * size if blocks.a_pack else 0
    b_panels = blocks.panels if blocks.keep else 1
    b_block = 0 if blocks.b_direct else b_panels * blocks.panel_bytes + LEAF * size
    partial_bytes = min(levels, blocks.low) * fragment_bytes(tiling)
    kept_bytes = max(0, levels - blocks.low) * fragment_bytes(tiling)
    kept_sums = kept_bytes * slots * blocks.panels
    kept_all = kept_sums + (kept_bytes * slots if sums else 0)
    need = a_block + b_block + partial_bytes + kept_all + 256
    small = scratch(SMALL)
    work = allocate(need) if need > SMALL else small
    if not work:
        return 1
    a_packed = (work + 63) & -64
    b_packed = (a_packed + a_block + 63) & -64
    partials = (b_packed + b_block + 63) & -64
    kept = partials + partial_bytes
    bias_row = scratch(1024)

    for first_panel in range(0, blocks.all_panels, blocks.panels):  # 5
        end_panel = min(blocks.all_panels, first_panel + blocks.panels)
        for next_row in range(0, rows, blocks.rows):  # 4
            # the last block begins early, if it can, to be as high as a tile
            first_row = max(0, min(next_row, rows - least))
            some_rows = min(blocks.rows, rows - first_row)
            for q in range(0, leaves, blocks.leaves):  # 3
                end = min(leaves, q + blocks.leaves)
                steps = min(terms, end * LEAF) - q * LEAF
                a_part = from_number(a, first_row, q * LEAF)
                if blocks.a_pack:
                    pack_a(tiling, a_part, some_rows, max(blocks.tall, some_rows), steps, a_packed)
                if sums and first_panel == 0:  # while A's block is in a cache
                    sums_kept = kept + kept_sums
                    sums_of_rows(
                        tiling,
                        from_number(a, 0, q * LEAF),
                        rows,
                        first_row,
                        first_row + some_rows,
                        Leaves(terms, q, end, partials, sums_kept, kept_bytes, blocks.low),
                        sums,
                        divisor,
                    )
                for panel in range(first_panel, end_panel):  # 2
                    column = panel * most_columns
                    if blocks.lead:
                        column += blocks.lead - most_columns
                    narrow = column < 0 or cols - column <= most_columns // 2
                    width = most_columns // 2 if narrow else most_columns
                    # the last panel begins early, if it can, and computes some columns again
                    if blocks.b_direct or not blocks.lead:
                        column = min(column, cols - width)
                    column = max(0, column)
                    inside = min(width, cols - column)
                    if blocks.lead and panel == 0:
                        inside = blocks.lead
                    b_panel = from_number(b, column, q * LEAF)
                    if blocks.b_direct:
                        # by the first of several tiles the first lines of all terms of the panels
                        # to the right, by the second the next …; by a single tile these terms,
                        # but no line that the panel to the left has part of
                        if rows > most_rows:
                            ahead = b_panel.at + width * size
                        else:
                            some = max(AHEAD, AHEAD_BYTES // max(1, abs(b.col)))
                            ahead = from_number(b, column, q * LEAF + some).at
                            if (b_panel.at | b.col) % LINE:
                                ahead += LINE
                        ahead_step, ahead_tile = b.col, min(LINE, (rows - 1) // most_rows * LINE)
                    else:
                        packed = b_packed
                        ahead = from_number(b, column, end * LEAF).at
                        ahead_step, ahead_tile = 16, 16 * steps
                        if blocks.keep:
                            packed += (panel - first_panel) * blocks.panel_bytes
                            packed += q * LEAF * width * size
                        if not blocks.keep or first_row == 0:
                            pack_b(tiling, b_panel, inside, steps, width, packed)
                        b_panel = Matrix(packed, size, width * size)
                        if blocks.keep:
                            ahead = packed + blocks.panel_bytes
                    bias_at = bias + column * size if bias else 0
                    if bias and inside < width:
                        store(load_part(vectors(tiling), bias_at, inside), bias_row, 0)
                        bias_at = bias_row
                    panel_kept = kept + (panel - first_panel) * slots * kept_bytes
                    tiles_of_panel(
                        tiling,
                        a_part,
                        a_packed if blocks.a_pack else 0,
                        b_panel,
                        width,
                        from_number(c, first_row, column),
                        some_rows,
                        max(blocks.tall, some_rows),
                        inside,
                        Leaves(terms, q, end, partials, panel_kept, kept_bytes, blocks.low),
                        bias_at,
                        divisor,
                        Ahead(ahead, ahead_step, ahead_tile, 0),
                    )
    if need > SMALL:
        release(work)
    return 0

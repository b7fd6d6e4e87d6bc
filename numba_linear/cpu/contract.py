"""The contraction C[r, c] = Σ_p A[r, p] · B[c, p]: the loops around the tile.

All three sums of the layer are this one, with the operands' strides saying which index is which:

    forward      Y[k, i]  = Σ_l x[k, l] · w[i, l] + b[i]       A = x        B = w
    grad_input   ∂X[k, l] = Σ_i g[k, i] · w[i, l]              A = g        B = wᵀ
    grad_weight  ∂W[i, l] = Σ_k g[k, i] · x[k, l]  (/ K)       A = gᵀ       B = xᵀ
    grad_bias    ∂b[i]    = Σ_k 1 · g[k, i]        (/ K)       A = a one    B = gᵀ
"""

from numba import njit, prange, types

from numba_linear.cpu.fragment import (
    allocate,
    columns_of,
    copy,
    fragment_bytes,
    item_bytes,
    load_part,
    prefetch_rows,
    release,
    rows_of,
    scratch,
    store,
)
from numba_linear.cpu.gemv import gemv_dot, gemv_rows
from numba_linear.cpu.machine import (
    a_bytes,
    b_bytes,
    block_leaves,
    block_levels,
    heights,
    largest_tile,
    tile_shape,
    vectors,
)
from numba_linear.cpu.panels import pack_a, pack_b, tile_height
from numba_linear.cpu.resident import resident
from numba_linear.cpu.rule import LEAF, leaf_count
from numba_linear.cpu.tile import tile


#: Bytes of working memory up to which a call takes them from the stack: malloc costs 40 ns.
SMALL = 16 << 10


@resident
def tiles_of_panel(
    tiling,
    a,
    a_row,
    a_term,
    a_packed,
    pack,
    b,
    b_term,
    width,
    first,
    end,
    terms,
    partials,
    kept,
    kept_step,
    c,
    c_row,
    rows,
    cols,
    bias,
    ahead,
    divisor: float,
):
    """The tiles of one panel of B, and the packing of the rows of A when its first panel comes."""
    size = item_bytes(tiling)
    narrow = width < columns_of(tiling)
    steps = min(terms, end * LEAF) - first * LEAF
    a_span = terms * size
    streams = not a_packed and a_term == size and a_span <= 512 and rows > 1000
    if pack:
        pack_a(tiling, a, a_row, a_term, rows, steps, a_packed)
    row = 0
    while row < rows:
        index = tile_height(tiling, rows - row, rows, narrow)
        height = heights(tiling)[index]
        # where rows are left over, a tile begins early and computes some again, the same bits
        row = min(row, rows - height)
        a_at, a_at_row, a_at_term, a_leaf = a + row * a_row, a_row, a_term, LEAF * a_term
        if streams:
            for line in range(0, a_span, 64):
                prefetch_rows(largest_tile(tiling), a_at + 8 * rows_of(tiling) * a_row + line, a_row)
            prefetch_rows(largest_tile(tiling), c + (row + 8 * rows_of(tiling)) * c_row, c_row)
        if a_packed:
            a_at = a_packed
            a_leaf = LEAF * height * size
            a_at_row, a_at_term = size, height * size
            if a_term == size:
                a_at_row, a_at_term = LEAF * size, size
            a_packed += height * (steps + LEAF) * size
        tile(
            tile_shape(tiling, len(heights(tiling)) + index // 2 if narrow else index),
            a_at,
            a_at_row,
            a_at_term,
            a_leaf,
            b,
            b_term,
            first,
            end,
            terms,
            partials,
            kept,
            block_levels(tiling),
            c + row * c_row,
            c_row,
            cols,
            bias,
            ahead,
            divisor,
        )
        ahead += ((steps + 3) // 4) * 64
        kept += kept_step
        row += height


@resident
def contract(
    tiling, a, a_row, a_term, b, b_col, b_term, c, c_row, bias, divisor: float, rows, cols, terms
):
    if rows == 0 or cols == 0:
        return
    size, most_rows, most_columns = item_bytes(tiling), rows_of(tiling), columns_of(tiling)
    leaves = leaf_count(terms)
    levels = 0
    while (leaves - 1) >> levels:
        levels += 1
    small = scratch(SMALL)
    if rows == 1 and b_term == size:
        partials = 4 * levels * most_columns * size
        need = partials + (terms * size if a_term != size else 0)
        work = allocate(need) if need > SMALL else small
        if a_term != size:
            for p in range(terms):
                copy(tiling, work + partials + p * size, a + p * a_term)
            a = work + partials
        gemv_dot(tiling, a, b, b_col, c, bias, divisor, cols, terms, work)
        if need > SMALL:
            release(work)
        return
    if rows == 1 and b_col == size and terms > 1 and cols >= most_columns:
        even = cols // most_columns * most_columns
        stretch = min(even, 8192 // size)
        need = levels * stretch * size
        work = allocate(need) if need > SMALL else small
        gemv_rows(tiling, a, a_term, b, b_term, c, bias, divisor, even, terms, stretch, work)
        if need > SMALL:
            release(work)
        if even == cols:
            return
        b += even * b_col
        c += even * size
        bias = bias + even * size if bias else 0
        cols -= even

    # Blocks: terms × rows of A for the second-level cache, columns of B for the third.
    block = min(leaves, block_leaves(tiling))
    kept_levels = max(0, levels - block_levels(tiling))
    block_terms = min(terms, block * LEAF)
    block_rows = max(1, a_bytes(tiling) // (max(1, block_terms) * size) // most_rows) * most_rows
    block_rows = min(rows, block_rows)
    # Reading B as it lies costs loads that straddle lines, packing it a pass: 5 % at (64, 784, 256).
    b_direct = b_col == size and cols >= most_columns // 2 and rows <= 6 * most_rows
    keep = not b_direct and rows > block_rows
    block_columns = cols
    b_leaf = LEAF * most_columns * size
    panel_bytes = block * b_leaf if leaves > 1 else (terms + 16) * most_columns * size
    if keep:
        whole = leaves * b_leaf if leaves > 1 else panel_bytes
        if whole * 8 <= b_bytes(tiling):
            panel_bytes = whole
            block_columns = b_bytes(tiling) // whole * most_columns
        else:
            keep = False
    if leaves > block:
        fit = b_bytes(tiling) // ((block_rows + most_rows) * size * kept_levels)
        block_columns = min(block_columns, max(1, fit // most_columns) * most_columns)
    block_columns = min(block_columns, cols)
    panels = (block_columns + most_columns - 1) // most_columns
    tiles = block_rows // most_rows + 6

    # A's rows are packed where they lie so far apart that they evict each other or miss the TLB.
    apart = a_row >= 4096 if a_term == size else a_term >= 2048 or a_row != size
    a_pack = apart and panels >= 4 and rows >= 2 * most_rows
    a_block = (block_rows + most_rows) * (block + 1) * LEAF * size + 4096 if a_pack else 0
    b_block = 0 if b_direct else (panels if keep else 1) * panel_bytes + 16 * most_columns * size
    # A tile's partials of levels below a block of leaves are used up within it, the others are kept.
    partial_bytes = min(levels, block_levels(tiling)) * fragment_bytes(tiling)
    kept_bytes = kept_levels * fragment_bytes(tiling)
    need = a_block + b_block + partial_bytes + kept_bytes * tiles * panels + 256
    work = allocate(need) if need > SMALL else small
    a_packed = (work + 63) & -64
    b_packed = (a_packed + a_block + 63) & -64
    partials = (b_packed + b_block + 63) & -64
    kept = partials + partial_bytes
    bias_row = scratch(1024)

    for column_block in range(0, cols, block_columns):
        end_column = min(cols, column_block + block_columns)
        for row_block in range(0, rows, block_rows):
            end_row = min(rows, row_block + block_rows)
            for q in range(0, leaves, block):
                end_leaf = min(leaves, q + block)
                steps = min(terms, end_leaf * LEAF) - q * LEAF
                for panel in range((end_column - column_block + most_columns - 1) // most_columns):
                    column = column_block + panel * most_columns
                    width = most_columns
                    if end_column - column <= most_columns // 2 and not a_pack:
                        width //= 2
                    if cols >= width:
                        column = min(column, cols - width)
                    inside = min(width, cols - column)
                    b_at = b + column * b_col + q * LEAF * b_term
                    b_step = b_term
                    if not b_direct:
                        b_step = width * size
                        b_source, b_at = b_at, b_packed
                        if keep:
                            b_at += panel * panel_bytes + q * LEAF * b_step
                        if not keep or row_block == 0:
                            pack_b(tiling, b_source, b_col, b_term, steps, inside, width, b_at)
                    # what comes next: the next panel, or of B as it lies the next block of terms
                    ahead = b_at + panel_bytes
                    if not keep:
                        ahead = b + (end_leaf * LEAF + steps * panel // panels) * b_term
                    bias_at = bias + column * size if bias else 0
                    if bias and inside < width:
                        store(load_part(vectors(tiling), bias_at, 0, 1, inside), bias_row, 0)
                        bias_at = bias_row
                    tiles_of_panel(
                        tiling,
                        a + row_block * a_row + q * LEAF * a_term,
                        a_row,
                        a_term,
                        a_packed if a_pack else 0,
                        a_pack and panel == 0,
                        b_at,
                        b_step,
                        width,
                        q,
                        end_leaf,
                        terms,
                        partials,
                        kept + panel * tiles * kept_bytes,
                        kept_bytes,
                        c + row_block * c_row + column * size,
                        c_row,
                        end_row - row_block,
                        inside,
                        bias_at,
                        ahead,
                        divisor,
                    )
    if need > SMALL:
        release(work)


# Multiply-adds from which a second thread pays for its launch.
PARALLEL_WORK = 1 << 19

# `numba.get_num_threads` as the symbol that Numba's own parallel code calls: unlike the function, it lets
# the caller be cached. `contract_parallel`, compiled or loaded first, makes it resolve.
num_threads = types.ExternalFunction("get_num_threads", types.intc())

#: How a call may use threads: as many as pay, the caller's alone, or all.
AUTO, SERIAL, PARALLEL = 0, 1, 2


@njit
def part(extent, grain, parts, i):
    """Where the i-th of `parts` nearly equal parts begins, at a multiple of `grain`."""
    grains = (extent + grain - 1) // grain
    return min(extent, grains * i // parts * grain)


@resident(parallel=True)
def contract_parallel(
    tiling,
    a,
    a_row,
    a_term,
    b,
    b_col,
    b_term,
    c,
    c_row,
    bias,
    divisor: float,
    rows,
    cols,
    terms,
    row_parts,
    col_parts,
):
    """`contract` on row_parts × col_parts parts of C at once."""
    size, most_rows, most_columns = item_bytes(tiling), rows_of(tiling), columns_of(tiling)
    for i in prange(row_parts * col_parts):
        row = part(rows, most_rows, row_parts, i // col_parts)
        end_row = part(rows, most_rows, row_parts, i // col_parts + 1)
        col = part(cols, most_columns, col_parts, i % col_parts)
        end_col = part(cols, most_columns, col_parts, i % col_parts + 1)
        contract(
            tiling,
            a + row * a_row,
            a_row,
            a_term,
            b + col * b_col,
            b_col,
            b_term,
            c + row * c_row + col * size,
            c_row,
            bias + col * size if bias else 0,
            divisor,
            end_row - row,
            end_col - col,
            terms,
        )


@resident
def contract_into(
    tiling,
    mode,
    a,
    a_row,
    a_term,
    b,
    b_col,
    b_term,
    c,
    c_row,
    c_col,
    bias,
    bias_step,
    divisor: float,
    rows,
    cols,
    terms,
):
    """The contraction into a C and with a bias of any strides, on one thread or more."""
    size = item_bytes(tiling)
    bias_copy = 0
    if bias and bias_step != size:
        bias_copy = allocate(cols * size)
        for j in range(cols):
            copy(tiling, bias_copy + j * size, bias + j * bias_step)
        bias = bias_copy
    if c_col != size:
        block_rows, block_cols = min(rows, 256), min(cols, 256)
        block = allocate(block_rows * block_cols * size)
        for i in range(0, rows, max(1, block_rows)):
            for j in range(0, cols, max(1, block_cols)):
                some_rows, some_cols = min(block_rows, rows - i), min(block_cols, cols - j)
                contract(
                    tiling,
                    a + i * a_row,
                    a_row,
                    a_term,
                    b + j * b_col,
                    b_col,
                    b_term,
                    block,
                    some_cols * size,
                    bias + j * size if bias else 0,
                    divisor,
                    some_rows,
                    some_cols,
                    terms,
                )
                for r in range(some_rows):
                    for s in range(some_cols):
                        target = c + (i + r) * c_row + (j + s) * c_col
                        copy(tiling, target, block + (r * some_cols + s) * size)
        release(block)
    else:
        threads = 1
        if mode == PARALLEL or (mode == AUTO and rows * cols * terms >= PARALLEL_WORK):
            threads = num_threads()
        if threads == 1:
            contract(
                tiling,
                a,
                a_row,
                a_term,
                b,
                b_col,
                b_term,
                c,
                c_row,
                bias,
                divisor,
                rows,
                cols,
                terms,
            )
        else:
            row_parts, col_parts = threads, 1
            if rows < rows_of(tiling) * threads and cols > rows:
                row_parts, col_parts = 1, threads
            contract_parallel(
                tiling,
                a,
                a_row,
                a_term,
                b,
                b_col,
                b_term,
                c,
                c_row,
                bias,
                divisor,
                rows,
                cols,
                terms,
                row_parts,
                col_parts,
            )
    release(bias_copy)

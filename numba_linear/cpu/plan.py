"""All decisions about a contraction, made before it runs; their numbers are in `tuning.py`.

`path_of` chooses the path, `blocks_for` the block sizes of the five loops and what they pack,
`columns_for`, `block_for`, `outer_along`, `dots_for`, `stretches_for`, `columns_at_once` and
`strips_for` how the other paths take C, and `parts_for` how threads share the work. The code that
runs a plan (`contract.py`, `driver.py`, each path's file) decides nothing. All paths give the same
bits.
"""

from typing import NamedTuple

from numba_linear.codes import SERIAL
from numba_linear.cpu.fragment import columns_of, item_bytes, rows_of, terms_of
from numba_linear.cpu.machine import (
    LINE,
    PAGE,
    a_bytes,
    apart_rows,
    apart_terms,
    b_bytes,
    block_leaves,
    block_levels,
    cache_line,
    direct_evict,
    dotxf_sums,
    has_dotxf,
    heights,
    high_tile,
    least_height,
    paired_row,
    short_vectors,
    small_rows_bytes,
    strip_terms,
    stripe,
)
from numba_linear.cpu.problem import Sweep
from numba_linear.cpu.rule import LEAF, leaf_count, level_count
from numba_linear.cpu.tuning import (
    ALIGNED_C,
    DIRECT_TILES,
    DIRECT_TILES_ALIGNED,
    DIRECT_TILES_EVICT,
    DOT_ROWS,
    DOTXF_FAR,
    DOTXF_NEAR,
    DOTXF_ROWS,
    FEW_ROWS,
    FEW_WORK,
    LONG_ROW,
    MORE_ROWS,
    MORE_ROWS_BYTES,
    MULTIPLIED,
    PACK_A_PANELS,
    PACK_A_PANELS_EVICT,
    PACK_PANELS,
    PACK_TERMS,
    PACK_TERMS_EVICT,
    PACKED_SUMS,
    PAIR_TERMS,
    READ,
    ROWS_PREFETCH,
    ROWS_STRETCH,
    SAVED,
    SHORT_ALONE,
    SHORT_ROW,
    SHORT_ROWS,
    SHORT_WORK,
    SMALL_EVICT,
    SMALL_EVICT_BYTES,
    SMALL_PACKED,
    SPLIT_K_BYTES,
    SPLIT_K_LEAVES,
    SPLIT_K_PARTS,
    SPLIT_K_TERMS,
    STAGGER,
    STAGGER_FROM,
    STRIP_BYTES,
    STRIP_FEW,
    STRIP_ROW_TERMS,
    SWEEP_LINES,
    TALL_BYTES,
    TALL_PANELS,
    TRANSPOSED_B,
    TRANSPOSED_BLOCK,
    TRANSPOSED_ROW,
    TURNED,
    VECTOR_WORK,
    WRITES,
)
from numba_linear.jit.compiler import inlined

#: Paths for few multiply-adds: for one term (`ger.py`), from short rows (`short.py`), and in four
#: ways by `small.py`. LARGE stands for all others.
OUTER, SHORT, ROW_VECTORS, VECTORS, ROW_PAIRS, COLUMNS, LARGE = range(7)
#: Those: a strided C or bias (`strided.py`), few terms (`strips.py`), by Cᵀ (`transposed.py`), one
#: row in pairs of leaves (`leaf_pairs.py`), one or two (`dotxf.py`), few in two ways (`gemv.py`),
#: and the five loops (`driver.py`). CONTIGUOUS stands for any of the last seven.
STRIDED, STRIPS, TRANSPOSED, LEAF_PAIRS, DOTXF, DOTS, ROWS, TILES = range(LARGE + 1, LARGE + 9)
CONTIGUOUS = TILES + 1


# --------------------------------------------------------------------------------------
# Which path
# --------------------------------------------------------------------------------------


@inlined
def path_of(tiling, problem):
    """A path for few multiply-adds, STRIDED, or CONTIGUOUS: threads may share it, and
    `path_of_rows` says which it is."""
    path = small_path(tiling, problem)
    if path != LARGE:
        return path
    return STRIDED if is_strided(tiling, problem) else CONTIGUOUS


@inlined
def path_of_rows(tiling, problem):
    """The path on one thread of a contraction whose C rows and bias are contiguous."""
    if by_outer(tiling, problem):
        return OUTER
    if by_strips(tiling, problem):
        return STRIPS
    if by_transpose(tiling, problem):
        return TRANSPOSED
    if by_leaf_pairs(tiling, problem):
        return LEAF_PAIRS
    if by_dotxf(tiling, problem):
        return DOTXF
    if by_dots(tiling, problem):
        return DOTS
    return ROWS if by_rows(tiling, problem) else TILES


@inlined
def small_path(tiling, problem):
    """The path if preparing for a faster one would take longer than the sums, else LARGE."""
    rows, cols, terms = problem.rows, problem.cols, problem.terms
    work = rows * cols * (terms + 2)
    if terms > LEAF or work > VECTOR_WORK:
        return LARGE
    if by_outer(tiling, problem):
        return OUTER
    if by_short(tiling, problem):
        return SHORT
    if by_vectors(tiling, problem):
        return VECTORS if rows >= 4 else ROW_VECTORS
    if work > FEW_WORK:
        return LARGE
    return ROW_PAIRS if by_row_pairs(problem) else COLUMNS


@inlined
def by_vectors(tiling, problem):
    """Whether C's columns are contiguous and fill 128 bits, and B's columns are contiguous too; or
    its terms, if there are so many sums that it pays to transpose them. One row or two leave a
    large B to `gemv_rows`."""
    _, b, _, rows, cols, terms, _ = problem
    size, lanes = item_bytes(tiling), columns_of(tiling) // 2
    if is_strided(tiling, problem) or cols < columns_of(short_vectors(tiling, 1, 16)):
        return False
    if b.row == size:
        evict = b.col % SMALL_EVICT == 0
        most = SMALL_EVICT_BYTES if evict else small_rows_bytes(tiling)
        fits = terms * b.col <= most or (rows > FEW_ROWS and not evict)
        return rows >= 4 or (cols >= lanes and fits)
    narrow = max(lanes // 2, columns_of(short_vectors(tiling, 1, 32)))
    pays = rows >= 4 and cols >= narrow and rows * cols >= PACKED_SUMS * lanes
    return pays and b.col == size and terms * 2 * lanes * size <= SMALL_PACKED


@inlined
def is_strided(tiling, problem):
    """Whether C's rows or the bias are not contiguous."""
    size, epilogue = item_bytes(tiling), problem.epilogue
    return problem.c.col != size or (epilogue.bias != 0 and epilogue.step != size)


@inlined
def by_transpose(tiling, problem):
    """Whether A is cheaper to transpose than B: that saves at least half of the transposing and
    leaves at most an eighth of the lanes idle."""
    a, b, _, rows, cols, terms, _ = problem
    size, lanes = item_bytes(tiling), columns_of(tiling) // 2
    return (
        a.col == size
        and b.col == size
        and rows * size <= TRANSPOSED_ROW
        and cols * terms * size >= TRANSPOSED_B
        and 2 * rows * (terms + cols) <= cols * terms
        and -rows % lanes * 8 <= rows
        and b.row % PAGE != 0
    )


@inlined
def by_short(tiling, problem):
    """Whether A has few rows, B's rows are short, the terms of both are contiguous, and C's
    columns fill 256 bits, or 128 if it has four rows or more."""
    a, b, _, rows, cols, terms, epilogue = problem
    size, vector = item_bytes(tiling), short_vectors(tiling, 1, 32)
    most = FEW_WORK if cols >= columns_of(tiling) // 2 else SHORT_WORK
    if rows > SHORT_ROWS and rows * cols * (terms + 2) > most:
        return False
    if (rows == 2 or rows == 3) and cols * terms > SHORT_ALONE:
        return False
    if cols < columns_of(vector) and (rows < 4 or cols < columns_of(short_vectors(tiling, 1, 16))):
        return False
    few = 1 < terms <= LEAF and b.row <= SHORT_ROW and epilogue.divisor == 0.0
    return few and a.col == size and b.col == size and not is_strided(tiling, problem)


@inlined
def by_outer(tiling, problem):
    """Whether there is one term, and C's columns and B's are contiguous and fill a vector, or C's
    rows and A's if there are few columns."""
    a, b, c, rows, cols, terms, epilogue = problem
    size, lanes = item_bytes(tiling), columns_of(short_vectors(tiling, 1, 16))
    if terms != 1 or epilogue.divisor != 0.0:
        return False
    if cols < lanes:
        return rows >= lanes and a.row == size and c.row == size and epilogue.bias == 0
    return b.row == size and not is_strided(tiling, problem)


@inlined
def by_row_pairs(problem):
    """Whether C is so small that one of its rows, or columns, does not hide the latency of a
    multiply-add. Two columns of more than two rows are quicker one by one."""
    rows, cols = problem.rows, problem.cols
    few = 1 < rows < 8 and 1 < cols < 8 and (cols > 2 or rows == 2)
    return few and problem.terms >= PAIR_TERMS


@inlined
def by_strips(tiling, problem):
    """Whether there are few terms, and C has two rows and its columns fill a tile."""
    rows, cols, terms = problem.rows, problem.cols, problem.terms
    few = 0 < terms <= min(strip_terms(tiling), STRIP_ROW_TERMS * rows)
    return few and rows > 1 and cols >= columns_of(tiling)


@inlined
def by_leaf_pairs(tiling, problem):
    """Whether A has one row, B's terms are contiguous and fill whole pairs of leaves, and B's rows
    evict each other from L1."""
    _, b, _, rows, cols, terms, _ = problem
    stride = paired_row(tiling)
    evict = stride > 0 and b.row % stride == 0
    whole = terms > 0 and terms % (2 * LEAF) == 0 and 2 * cols >= columns_of(cache_line(tiling))
    return evict and whole and rows == 1 and b.col == item_bytes(tiling)


@inlined
def by_dotxf(tiling, problem):
    """Whether A has one row or two, the terms of A and of B are contiguous, and the rows of B that
    are taken at a time do not evict each other from L1."""
    a, b, _, rows, cols, terms, _ = problem
    size, sums = item_bytes(tiling), dotxf_sums(tiling)
    fills = cols >= rows_of(sums) * columns_of(sums) and terms >= terms_of(sums)
    contiguous = a.col == size and b.col == size
    if not has_dotxf(tiling) or rows > DOTXF_ROWS or not fills or not contiguous:
        return False
    for times in range(1, 4):
        past = times * b.row % PAGE
        if min(past, PAGE - past) < DOTXF_NEAR:
            return False
    return True


@inlined
def dotxf_far(tiling, problem):
    """Whether B comes from memory, or has so much of L3 that prefetching pays."""
    return problem.cols * problem.b.row >= b_bytes(tiling) // DOTXF_FAR


@inlined
def by_dots(tiling, problem):
    """Whether A has few rows, contiguous or small enough for L2, and B's terms are contiguous."""
    a, b, _, rows, cols, terms, _ = problem
    size = item_bytes(tiling)
    few = cols >= columns_of(tiling) // 2 or rows < least_height(tiling)
    fits = a.col == size or rows * terms * size <= a_bytes(tiling)
    return rows <= DOT_ROWS and few and fits and b.col == size and terms > 0


@inlined
def by_rows(tiling, problem):
    """Whether A has few rows and B's columns are contiguous."""
    _, b, _, rows, cols, terms, _ = problem
    few = rows <= FEW_ROWS or (rows <= MORE_ROWS and terms * b.col >= MORE_ROWS_BYTES)
    return few and b.row == item_bytes(tiling) and terms > 1 and cols >= columns_of(stripe(tiling))


# --------------------------------------------------------------------------------------
# Few rows, and few multiply-adds
# --------------------------------------------------------------------------------------

#: The tiles of `contract_in_vectors`: rows, and whole, half or 128-bit vectors.
FOUR_BY_TWO, FOUR_WHOLE, FOUR_HALVES, EIGHT_HALVES, FOUR_SHORT, EIGHT_SHORT = range(6)


class Columns(NamedTuple):
    """The next columns of C that `contract_in_vectors` takes, and in which tiles."""

    some: int
    tile: int


@inlined
def columns_for(tiling, problem, first):
    """Columns from `first` on: pairs of vectors, then what is left of one. Narrow tiles have eight
    rows, unless these would compute many rows again; if B is packed, only where it need not be
    packed in squares that are wider than they are."""
    rows, cols, size = problem.rows, problem.cols, item_bytes(tiling)
    lanes, left, packed = columns_of(tiling) // 2, cols - first, problem.b.row != size
    beyond, count = left % (2 * lanes), left
    if left > lanes and beyond != 0 and (left < 2 * lanes or beyond <= lanes):
        if left >= 2 * lanes:
            count -= beyond
        elif 4 * (left - lanes) <= lanes:
            count = lanes
    if count >= 2 * lanes:
        return Columns(count, FOUR_BY_TWO)
    fits = not packed or (size == 4 and lanes >= 2 * columns_of(short_vectors(tiling, 1, 32)))
    by_eight = rows >= 8 and -rows % 8 * 4 <= rows
    halves = count != lanes and 2 * count <= 3 * lanes and fits
    if 2 * count < lanes and not (halves and packed):
        return Columns(count, EIGHT_SHORT if by_eight else FOUR_SHORT)
    if halves and by_eight:
        return Columns(count, EIGHT_HALVES)
    return Columns(count, FOUR_WHOLE if cols >= lanes else FOUR_HALVES)


#: The blocks of `contract_short`: rows, and vectors side by side, of 256 bits, or of 128 if C is
#: narrower.
EIGHT_NARROW, FOUR_NARROW, EIGHT_SINGLE, FOUR_PAIRS, ONE_QUAD, ONE_PAIR = range(6)


@inlined
def has_few_terms(tiling, problem):
    """Whether a row of B has less than 128 bits, which only rows of float32 may have."""
    return item_bytes(tiling) == 4 and problem.terms < 4


@inlined
def block_for(tiling, problem, few):
    """Eight rows at a time transpose B least often. But in float64 four rows of pairs of vectors
    are faster, unless the last pair would be half empty: (8, 32, 32) takes 369 ns instead of 404.
    Few terms hide no latency, whatever the block, and have fewer blocks."""
    rows, cols, lanes = problem.rows, problem.cols, columns_of(short_vectors(tiling, 1, 32))
    if cols < lanes:
        return EIGHT_NARROW if rows >= 8 and not few else FOUR_NARROW
    if rows >= 8 and not few and (item_bytes(tiling) == 4 or -cols % (2 * lanes) >= lanes):
        return EIGHT_SINGLE
    if rows >= 4:
        return FOUR_PAIRS
    return ONE_QUAD if cols >= 4 * lanes and not few else ONE_PAIR


#: How `contract_outer` goes along C's rows: four vectors of a row at a time, or a vector of four
#: rows, or one of 128 bits.
ROW_QUADS, ROW_VECTOR, ROW_NARROW = range(3)


@inlined
def outer_along(tiling, problem):
    lanes = columns_of(short_vectors(tiling, 1, 32))
    if problem.cols >= 4 * lanes:
        return ROW_QUADS
    return ROW_VECTOR if problem.cols >= lanes else ROW_NARROW


@inlined
def outer_by_columns(tiling, problem):
    """Whether `contract_outer` goes along C's columns; by `by_outer` there is then no bias."""
    return problem.cols < columns_of(short_vectors(tiling, 1, 16))


class Dots(NamedTuple):
    """How `gemv_dot` reads B: column groups side by side, by how many blocks of terms the second
    lags behind, and whether rows are prefetched in runs of cache lines."""

    sides: int
    lag: int
    far: bool


@inlined
def dots_for(tiling, problem):
    """A single row of A has two groups under way, so that there are enough chains to hide the
    latency, but one if B's rows are multiples of LONG_ROW apart. Long rows mostly come from
    memory, which is faster for reads along rows."""
    row, block = problem.b.row, columns_of(tiling) // 2 * item_bytes(tiling)
    far = row > LONG_ROW
    alone = problem.rows > 1 or (far and row % LONG_ROW == 0)
    return Dots(1 if alone else 2, STAGGER // block if row >= STAGGER_FROM else 0, far)


class Stretches(NamedTuple):
    """How `gemv_rows` takes C: columns at a time, which stay in L1, a multiple of a stripe's and
    no more than C has; and whether B is prefetched, since it comes from memory."""

    cols: int
    far: bool


@inlined
def stretches_for(tiling, problem):
    width, b = columns_of(stripe(tiling)), problem.b
    cols = min(problem.cols // width * width, ROWS_STRETCH // item_bytes(tiling))
    return Stretches(cols, problem.terms * b.col >= ROWS_PREFETCH * b_bytes(tiling))


@inlined
def columns_at_once(tiling, problem):
    """The rows of Cᵀ that wait in L2 at a time, and the stride of each in bytes."""
    lanes, size = columns_of(tiling) // 2, item_bytes(tiling)
    row = (problem.rows * size + LINE - 1) // LINE * LINE
    return min(problem.cols, max(TRANSPOSED_BLOCK // row // lanes, 1) * lanes), row


# --------------------------------------------------------------------------------------
# Blocks
# --------------------------------------------------------------------------------------


class Blocks(NamedTuple):
    """Block sizes of the five loops, and what they pack."""

    panels: int  # panels of B in a block of loop 5
    rows: int  # rows of A in a block of loop 4
    leaves: int  # leaves in a block of loop 3
    low: int  # levels of the tree within a block of leaves
    all_panels: int  # panels of B in all
    lead: int  # columns of the first panel, 0 if it is like the others
    panel_bytes: int  # bytes of a packed panel of B
    keep: bool  # whether B's packed panels are kept for all blocks of rows
    b_direct: bool  # whether B is read in place
    a_pack: bool  # whether A is packed
    tall: int  # rows of a tile taller than A, or 0


@inlined
def blocks_for(tiling, problem):
    """The blocks of a problem that is done in tiles."""
    a, b, c, rows, cols, terms, _ = problem
    size, most_rows, most_columns = item_bytes(tiling), rows_of(tiling), columns_of(tiling)
    least, leaves = least_height(tiling), leaf_count(terms)
    apart = a.row != size or a.col >= apart_terms(tiling)
    if a.col == size:
        apart = a.row >= apart_rows(tiling)

    # A's block fits L2. If all of A fits, skip the divisions, which are slow.
    block, low = block_leaves(tiling), block_levels(tiling)
    if a.row == size and rows * LEAF * size <= 2 * a_bytes(tiling):
        # A is read in place: a block's terms of A and B together fit L2
        while block > 1 and block * LEAF * (a.col + b.col) > a_bytes(tiling):
            block, low = block // 2, low - 1
    block = min(leaves, block)
    a_term = max(1, min(terms, block * LEAF)) * size
    block_rows = rows
    if rows * a_term > a_bytes(tiling):
        block_rows = min(rows, max(1, a_bytes(tiling) // a_term // most_rows) * most_rows)

    # Reading B in place saves packing, whose cost many tiles would share. But loads of unaligned
    # rows straddle cache lines, and rows that are pages apart evict each other. A tile must not
    # read beyond B's columns.
    wide = cols >= most_columns or cols == most_columns // 2
    b_direct = b.row == size and wide and rows <= direct_tiles(tiling, b.col) * most_rows

    # Peel `lead` columns so that the later panels are aligned in a direct B, or else in C. This
    # adds up to one panel: it pays for a direct B of many panels, or where writing C is much of
    # the work.
    row = b.col if b_direct else c.row
    lead, edge = 0, b.at if b_direct else c.at
    writes = not b_direct and cols >= 2 * most_columns and rows * abs(c.row) > ALIGNED_C
    many = b_direct and cols >= 8 * most_columns
    worth = many or (writes and terms * most_columns <= 8 * cols)
    grain = min(LINE, most_columns * size)  # at best each cache line belongs to one panel
    if row % grain != 0:
        grain = most_columns // 2 * size
    if worth and row % grain == 0:
        lead = -edge % grain // size
    panels = (cols - lead + most_columns - 1) // most_columns + min(lead, 1)

    # B's panels stay in L3 for all blocks of rows if all their terms fit; else each block packs.
    panel_bytes = min(block * LEAF, terms) * most_columns * size
    keep = not b_direct and rows > block_rows
    block_panels = panels
    if keep:
        whole = max(1, terms) * most_columns * size
        if 8 * whole <= b_bytes(tiling):
            panel_bytes = whole
            block_panels = b_bytes(tiling) // whole
        else:
            keep = False
    kept_levels = max(0, level_count(leaves) - low)
    if kept_levels:
        fit = b_bytes(tiling) // ((block_rows + most_rows) * size * kept_levels)
        block_panels = min(block_panels, max(1, fit // most_columns))
    block_panels = min(block_panels, panels)
    if block_panels < panels:  # blocks of nearly equal size
        rounds = (panels + block_panels - 1) // block_panels
        block_panels = (panels + rounds - 1) // rounds

    evict = (a.row if a.col == size else a.col) % PAGE == 0
    enough = block_panels >= (PACK_A_PANELS_EVICT if evict else PACK_A_PANELS)
    a_pack = apart and enough and rows >= 2 * most_rows
    # Use a taller tile and pad A where no tile is low enough, or where it saves a pass over B.
    tall = 0
    if rows < least:
        tall = least
        a_pack = rows > 1
    elif b_direct and b.col >= TALL_BYTES and block_panels >= TALL_PANELS and rows < most_rows:
        tall = heights(tiling)[tile_height(tiling, rows, most_rows)]
        a_pack = tall > rows
    return Blocks(
        block_panels,
        block_rows,
        block,
        low,
        panels,
        lead,
        panel_bytes,
        keep,
        b_direct,
        a_pack,
        tall,
    )


@inlined
def sweep_for(tiling, m, numbers, terms, shares):
    """What to prefetch of the next block of terms, in equal shares: nothing if a term's numbers
    are apart, if less than half of what lies between would be used, if L2 has no room, or if a
    tile would wait for its share."""
    size = item_bytes(tiling)
    if m.row != size or not 0 < m.col <= 2 * numbers * size or terms * m.col > 2 * a_bytes(tiling):
        return Sweep(0, 0)
    lines = terms * m.col // (LINE * shares) + 1
    return Sweep(m.at, lines if lines <= SWEEP_LINES else 0)


@inlined
def direct_tiles(tiling, step):
    """The most tiles of A's rows for which a B with row stride `step` is read in place."""
    if step % LINE != 0 or step % PAGE == 0:
        return DIRECT_TILES
    return DIRECT_TILES_ALIGNED if step % direct_evict(tiling) != 0 else DIRECT_TILES_EVICT


@inlined
def terms_at_once(step):
    """How many terms of A are packed at a time, if they are `step` apart and a term's rows are
    contiguous."""
    return PACK_TERMS_EVICT if step % PAGE == 0 else PACK_TERMS


@inlined
def tile_height(tiling, left, rows):
    """The index in `heights` of the next tile, with `left` of `rows` rows still to do.

    The lowest tile that finishes them, if there is one no taller than `rows`: it may begin early
    and compute some rows again, to the same bits. Else the tallest that fits, or the second if two
    of these finish them: the lowest may have too few sums to hide the latency of a multiply-add.
    """
    choices = heights(tiling)
    if choices[0] < left <= 2 * choices[1]:
        return 1
    best = -1
    for i in range(len(choices)):
        # from the tallest down: the first that fits, or a lower one that still finishes
        if choices[i] <= rows and (best < 0 or choices[i] >= left):
            best = i
    return best


@inlined
def tile_count(tiling, left, index):
    """How many tiles of that height follow each other."""
    most, second = heights(tiling)[0], heights(tiling)[1]
    count = left // heights(tiling)[index]
    if index == 0 and 0 < left % most <= 2 * second - most:
        count -= 1  # two of the second height finish them
    return max(1, count)


class Panel(NamedTuple):
    """Columns of C: the first, how many a tile takes, and how many of these C has."""

    column: int
    width: int
    cols: int


@inlined
def panel_of(tiling, cols, blocks, index):
    """The panel of that index. The last begins early, if it can, and computes some columns
    again, to the same bits. Half a panel takes tiles half as wide."""
    width, lead = columns_of(tiling), blocks.lead
    column = index * width
    if lead:
        column += lead - width
    if (lead if column < 0 else cols - column) <= width // 2:
        width //= 2
    if blocks.b_direct or not lead:
        column = min(column, cols - width)
    column = max(0, column)
    inside = min(width, cols - column)
    if lead and index == 0:
        inside = lead
    return Panel(column, width, inside)


@inlined
def panels_at_once(tiling, problem, blocks, index, end):
    """How many panels of B, from that of this index on, are packed together: PACK_PANELS, if they
    are whole and side by side, and B's columns are contiguous."""
    width, last = columns_of(tiling), index + PACK_PANELS - 1
    if problem.b.row != item_bytes(tiling) or last >= end:
        return 1
    here = panel_of(tiling, problem.cols, blocks, index)
    there = panel_of(tiling, problem.cols, blocks, last)
    whole = here.cols == width and there.cols == width
    return PACK_PANELS if whole and there.column - here.column == (last - index) * width else 1


# --------------------------------------------------------------------------------------
# Sums that go on
# --------------------------------------------------------------------------------------


class Strips(NamedTuple):
    """How sums go on along C's rows: columns at a time, whether B is read in place, and whether
    strips are taller and the next one is prefetched."""

    cols: int
    b_direct: bool
    ahead: bool


@inlined
def strips_for(tiling, problem):
    b, rows, terms, size = problem.b, problem.rows, problem.terms, item_bytes(tiling)
    cols = max(1, STRIP_BYTES // (terms * columns_of(tiling) * size)) * columns_of(tiling)
    few = terms <= STRIP_FEW // 2 or rows <= direct_tiles(tiling, b.col) * rows_of(tiling)
    return Strips(cols, b.row == size and few, terms > STRIP_FEW)


#: The next rows of a strip: of the tallest tile, four or two, or one, whose B may be packed.
TALL_ROWS, FOUR_ROWS, TWO_ROWS, ONE_ROW, ONE_PACKED = range(5)


@inlined
def strip_rows(tiling, problem, strips, left):
    """What comes next of `left` rows. Three rows or fewer take wider tiles, if B is contiguous."""
    if strips.ahead and left >= rows_of(high_tile(tiling)):
        return TALL_ROWS
    if left >= 4:
        return FOUR_ROWS
    if problem.b.row != item_bytes(tiling):
        return ONE_PACKED
    return TWO_ROWS if left >= 2 else ONE_ROW


@inlined
def one_by_one(tiling, going):
    """Whether one more term of a leaf goes along one row at a time, as C lies in memory:
    1024 × 1024 takes 54 us instead of 64, and in float64 from beyond L3 370 instead of 450."""
    problem, onward = going
    within = onward.begun and onward.merges == 0 and onward.to == 0
    return within and problem.terms == 1 and problem.b.row == item_bytes(tiling)


@inlined
def leaves_apart(tiling, problem, mode):
    """Whether a batch's whole leaves are a contraction of their own, added to the tree afterwards:
    on several threads, or if C exceeds L2, since an addition in the microkernel would wait for its
    operands."""
    return mode != SERIAL or problem.rows * problem.cols * item_bytes(tiling) >= a_bytes(tiling)


# --------------------------------------------------------------------------------------
# Threads
# --------------------------------------------------------------------------------------

#: Stands for an unknown number of threads: as many as save most.
MANY = 1 << 20


@inlined
def threads_pay(tiling, problem, threads, launch):
    """Whether `threads` threads save enough time to pay for their launch, of `launch` ns."""
    rows, cols, terms = problem.rows, problem.cols, problem.terms
    size = item_bytes(tiling)
    moved = ((rows + cols) * terms + WRITES * rows * cols) * size - 2 * a_bytes(tiling)
    alone = max(rows * cols * terms * size // MULTIPLIED, moved // READ)
    if problem.b.col == size:
        alone = max(alone, cols * terms * size // TURNED)
    return alone - alone // threads - launch >= SAVED


class Parts(NamedTuple):
    """How threads share a contraction: rows × cols parts of C, each of `terms` terms.

    Each part of the terms has a C of its own, `bytes` after the one before.
    """

    rows: int
    cols: int
    terms: int
    bytes: int


@inlined
def splits_k(tiling, problem, threads):
    """Whether the terms are cut and not C: C is small and its sums are long."""
    rows, cols, terms = problem.rows, problem.cols, problem.terms
    if leaf_count(terms) < SPLIT_K_LEAVES * threads:
        return False
    small = rows * cols * item_bytes(tiling) <= SPLIT_K_BYTES
    return small and terms >= SPLIT_K_TERMS * max(rows, cols)


@inlined
def parts_for(tiling, problem, threads):
    """Cut C's longer side; each thread then packs all of the other operand."""
    terms = max(1, problem.terms)
    if problem.cols > problem.rows:
        return Parts(1, threads, terms, 0)
    return Parts(threads, 1, terms, 0)


@inlined
def terms_of_part(terms, threads):
    """The terms of a split-K part: as many whole leaves as make a node of the rule's tree."""
    leaves = 1
    while leaves * LEAF * SPLIT_K_PARTS * threads < terms:
        leaves *= 2
    return leaves * LEAF

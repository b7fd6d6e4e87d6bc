"""Which path a shape takes, for every path and on both sides of its thresholds; and the blocks.

A threshold that moves changes this table, so every path keeps a test of its bits.
"""

import numpy as np
import pytest
from numba import njit

from numba_linear.cpu.fragment import columns_of, row_bytes, rows_of
from numba_linear.cpu.machine import (
    LINE,
    b_bytes,
    heights,
    high_tile,
    instructions,
    tiling_of,
    vector_bytes,
    vectors,
)
from numba_linear.cpu.matrix import Matrix
from numba_linear.cpu.plan import (
    COLUMNS,
    CONTIGUOUS,
    DOTS,
    DOTXF,
    EIGHT_HALVES,
    EIGHT_NARROW,
    EIGHT_SHORT,
    EIGHT_SINGLE,
    FOUR_BY_TWO,
    FOUR_HALVES,
    FOUR_NARROW,
    FOUR_PAIRS,
    FOUR_ROWS,
    FOUR_SHORT,
    FOUR_WHOLE,
    LEAF_PAIRS,
    MANY,
    ONE_PACKED,
    ONE_PAIR,
    ONE_QUAD,
    ONE_ROW,
    OUTER,
    ROW_NARROW,
    ROW_PAIRS,
    ROW_QUADS,
    ROW_VECTOR,
    ROW_VECTORS,
    ROWS,
    SHORT,
    STRIDED,
    STRIPS,
    TALL_ROWS,
    TILES,
    TRANSPOSED,
    TWO_ROWS,
    VECTORS,
    block_for,
    blocks_for,
    by_outer,
    by_row_pairs,
    by_short,
    by_vectors,
    columns_at_once,
    columns_for,
    direct_tiles,
    dots_for,
    dotxf_far,
    has_few_terms,
    outer_along,
    outer_by_columns,
    panel_of,
    panels_at_once,
    parts_for,
    path_of,
    path_of_rows,
    splits_k,
    stretches_for,
    strip_rows,
    strips_for,
    sweep_for,
    terms_at_once,
    terms_of_part,
    threads_pay,
    tile_count,
    tile_height,
)
from numba_linear.cpu.problem import Epilogue, Problem
from numba_linear.cpu.tuning import (
    DOT_ROWS,
    DOTXF_FAR,
    DOTXF_ROWS,
    DOTXF_VECTORS,
    FEW_ROWS,
    FEW_WORK,
    LAUNCH,
    LONG_ROW,
    MORE_ROWS,
    PACK_PANELS,
    PACKED_SUMS,
    PAIR_TERMS,
    PAIRED_ROW,
    ROWS_PREFETCH,
    ROWS_STRETCH,
    SHORT_ALONE,
    SHORT_ROW,
    SHORT_ROWS,
    SHORT_WORK,
    SMALL_EVICT,
    SMALL_EVICT_BYTES,
    SMALL_ROWS_BYTES,
    STAGGER,
    STAGGER_FROM,
    STRIP_FEW,
    STRIP_ROW_TERMS,
    STRIP_TERMS,
    TRANSPOSED_BLOCK,
    VECTOR_WORK,
)

FORWARD, GRAD_INPUT, GRAD_WEIGHT, GRAD_BIAS = range(4)
NAMES = {COLUMNS: "columns", ROW_PAIRS: "pairs of rows", VECTORS: "vectors", OUTER: "outer"}
NAMES |= {
    ROW_VECTORS: "a row in vectors",
    SHORT: "short",
    STRIDED: "strided",
    STRIPS: "strips",
    TRANSPOSED: "transposed",
    LEAF_PAIRS: "leaf pairs",
    DOTXF: "dotxf",
}
NAMES |= {DOTS: "dots", ROWS: "rows", TILES: "tiles"}

#: The path of one long row, unless rows of B evict each other.
ONE_ROW_FORWARD = DOTXF if any(DOTXF_VECTORS[instructions()]) else DOTS


@njit
def problem_of(size, operation, K, n, m):
    """The contraction of contiguous arrays, all at address 0."""
    x, g = Matrix(0, n * size, size), Matrix(0, m * size, size)
    w, none = Matrix(0, n * size, size), Epilogue(0, 0, 0.0)
    if operation == FORWARD:
        return Problem(x, w, g, K, m, n, none)
    if operation == GRAD_INPUT:
        return Problem(g, Matrix(0, size, n * size), x, K, n, m, none)
    if operation == GRAD_WEIGHT:
        a, b = Matrix(0, size, m * size), Matrix(0, size, n * size)
        return Problem(a, b, w, m, n, K, none)
    one = Matrix(0, 0, 0)
    return Problem(one, Matrix(0, size, m * size), Matrix(0, 0, size), 1, m, K, none)


@njit
def planned(tiling, problem):
    """The path, by the questions of `engine.contract` and `contract_alone`."""
    path = path_of(tiling, problem)
    return path_of_rows(tiling, problem) if path == CONTIGUOUS else path


@njit
def path(like, operation, K, n, m):
    return planned(tiling_of(like), problem_of(like.itemsize, operation, K, n, m))


@njit
def strided_path(like, rows, cols, terms, c_col, bias, bias_step):
    size = like.itemsize
    a, b = Matrix(0, terms * size, size), Matrix(0, terms * size, size)
    after = Epilogue(bias, bias_step, 0.0)
    problem = Problem(a, b, Matrix(0, cols * c_col, c_col), rows, cols, terms, after)
    return planned(tiling_of(like), problem)


@pytest.mark.parametrize(
    ("operation", "K", "n", "m", "wanted"),
    [
        (FORWARD, 1, 3, 1, COLUMNS),
        (FORWARD, 30, FEW_WORK // 30 - 2, 1, COLUMNS),
        (FORWARD, 30, FEW_WORK // 30 - 1, 1, TILES),
        (FORWARD, 1, 256, 64, SHORT),
        (FORWARD, 1, 257, 64, ONE_ROW_FORWARD),
        (FORWARD, 1, 126, VECTOR_WORK // 128, SHORT),
        (FORWARD, 1, 126, VECTOR_WORK // 128 + 1, ONE_ROW_FORWARD),
        (FORWARD, DOTXF_ROWS, 1000, 64, ONE_ROW_FORWARD),
        (FORWARD, DOTXF_ROWS + 1, 1000, 64, DOTS),
        (FORWARD, 1, 1025, 64, DOTS),
        (FORWARD, 2, 1024, 64, DOTS),
        (FORWARD, DOT_ROWS, 1024, 100, DOTS),
        (FORWARD, DOT_ROWS + 1, 1024, 100, TILES),
        (FORWARD, 1, 1000, 3, DOTS),
        (FORWARD, 12, 1000, 1, TILES),
        (FORWARD, 32, 250, 250, TRANSPOSED),
        (FORWARD, 300, 250, 250, TILES),
        (FORWARD, 1000, 300, 200, TILES),
        (GRAD_INPUT, 16, 64, 64, VECTORS),
        (GRAD_INPUT, 4, 64, 64, VECTORS),
        (GRAD_INPUT, 3, 64, 64, ROW_VECTORS),
        (GRAD_INPUT, 16, VECTOR_WORK // 256 // 16 + 1, 254, TILES),
        (GRAD_INPUT, FEW_ROWS, 1000, 1000, ROWS),
        (GRAD_INPUT, FEW_ROWS + 1, 1000, 1000, TILES),
        (GRAD_INPUT, MORE_ROWS, 12000, 6000, ROWS),
        (GRAD_INPUT, MORE_ROWS + 1, 12000, 6000, TILES),
        (GRAD_WEIGHT, 1, 100, 100, OUTER),
        (GRAD_WEIGHT, 1, 1000, 1000, OUTER),
        (GRAD_WEIGHT, 2, 1000, 1000, STRIPS),
        (GRAD_WEIGHT, 16, 1000, 1000, STRIPS),
        (GRAD_WEIGHT, max(STRIP_TERMS.values()) + 1, 1000, 1000, TILES),
        (GRAD_WEIGHT, 16, 10000, 4, STRIPS),
        (GRAD_WEIGHT, 17, 10000, 4, TILES),
        (GRAD_INPUT, 100000, 64, 10, STRIPS),
        (GRAD_INPUT, 100000, 3, 10, TILES),
        (GRAD_WEIGHT, 1000, 100, 100, TILES),
        (GRAD_BIAS, 64, 0, 64, ROW_VECTORS),
        (GRAD_WEIGHT, 16, 4, 4, VECTORS),
        (GRAD_BIAS, 1000, 0, 100, ROWS),
        (GRAD_BIAS, 1000, 0, 3, TILES),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_paths(dtype, operation, K, n, m, wanted):
    assert NAMES[path(np.empty(0, dtype), operation, K, n, m)] == NAMES[wanted]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_that_evict_each_other_are_not_read_as_vectors(dtype):
    like = np.empty(0, dtype)
    n, ways = 2 * SMALL_EVICT // like.itemsize, SMALL_EVICT_BYTES // (2 * SMALL_EVICT)
    assert path(like, GRAD_INPUT, 1, n, ways) == ROW_VECTORS
    assert path(like, GRAD_INPUT, 1, n, ways + 1) == ROWS
    assert path(like, GRAD_INPUT, 1, n - 1, ways + 1) == ROW_VECTORS
    assert path(like, GRAD_INPUT, 1, n // 2, 2 * ways + 1) == ROWS
    assert path(like, GRAD_INPUT, 3, n, ways + 1) == STRIPS
    assert path(like, GRAD_INPUT, 3, n, 3 * STRIP_ROW_TERMS + 1) == TILES
    assert path(like, GRAD_INPUT, 4, n, ways + 1) == VECTORS


@njit
def short(like, rows, cols, terms, b_row, b_col):
    size = like.itemsize
    a, b, c = Matrix(0, 0, size), Matrix(0, b_row, b_col), Matrix(0, 0, size)
    return by_short(tiling_of(like), Problem(a, b, c, rows, cols, terms, Epilogue(0, 0, 0.0)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_few_rows_from_short_rows(dtype):
    """At least one vector of at most 256 bits, or of 128 if there are four rows, and at least two
    terms."""
    like = np.empty(0, dtype)
    size = like.itemsize
    lanes, least = min(vector_bytes(), 32) // size, 16 // size
    assert short(like, 1, lanes, 2, 2 * size, size)
    assert not short(like, 1, lanes, 1, 2 * size, size)
    assert short(like, 1, lanes, least, SHORT_ROW, size)
    assert short(like, SHORT_ROWS, lanes, least, SHORT_ROW, size)
    narrow = SHORT_WORK if vector_bytes() > 32 else FEW_WORK
    assert short(like, narrow // (lanes * 10), lanes, 8, SHORT_ROW, size)
    assert not short(like, narrow // (lanes * 10) + 1, lanes, 8, SHORT_ROW, size)
    for rows in (2, 3):
        assert short(like, rows, SHORT_ALONE // 16, 16, SHORT_ROW, size)
        assert not short(like, rows, SHORT_ALONE // 16 + 1, 16, SHORT_ROW, size)
    assert not short(like, 1, lanes - 1, least, SHORT_ROW, size)
    if lanes > least:  # four rows also go with 128 bits
        assert short(like, 4, least, least, SHORT_ROW, size)
        assert not short(like, 4, least - 1, least, SHORT_ROW, size)
        assert not short(like, 3, least, least, SHORT_ROW, size)
    assert not short(like, 1, lanes, least, SHORT_ROW + size, size)
    assert not short(like, 1, lanes, least, SHORT_ROW, 2 * size)


@njit
def lanes_of(like):
    return columns_of(tiling_of(like)) // 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_row_or_two_read_a_larger_matrix_row_by_row(dtype):
    like = np.empty(0, dtype)
    n = 80
    most = SMALL_ROWS_BYTES[instructions()] // (n * like.itemsize)
    most, row = min(most, 255), n * like.itemsize
    larger = ROWS if (most + 1) * row > SMALL_ROWS_BYTES[instructions()] else ROW_VECTORS
    assert path(like, GRAD_INPUT, 1, n, most) == ROW_VECTORS
    assert path(like, GRAD_INPUT, 1, n, most + 1) == larger
    assert path(like, GRAD_INPUT, FEW_ROWS, n, most + 1) == larger
    assert path(like, GRAD_INPUT, FEW_ROWS + 1, n, most + 1) == ROW_VECTORS


@njit
def packed(like, rows, cols):
    size, none = like.itemsize, Matrix(0, 0, 0)
    b, c = Matrix(0, 3 * size, size), Matrix(0, cols * size, size)
    return by_vectors(tiling_of(like), Problem(none, b, c, rows, cols, 3, Epilogue(0, 0, 0.0)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_columns_are_transposed_for_many_sums(dtype):
    """From four rows on, and from half a vector if that has 256 bits, else from a whole one."""
    like = np.empty(0, dtype)
    lanes = lanes_of(like)
    narrow = max(lanes // 2, min(lanes, 32 // like.itemsize))
    least = PACKED_SUMS * lanes // narrow
    assert packed(like, least, narrow)
    assert not packed(like, least - 1, narrow)
    assert not packed(like, 4 * PACKED_SUMS * lanes, narrow - 1)
    assert packed(like, 4, PACKED_SUMS // 4 * lanes)
    assert not packed(like, 3, PACKED_SUMS * lanes)


@njit
def outer_product(like, rows, cols, terms, b_row, c, bias):
    size = like.itemsize
    a, b = Matrix(0, size, size), Matrix(0, b_row, 5 * size)
    problem = Problem(a, b, c, rows, cols, terms, Epilogue(bias, size, 0.0))
    return by_outer(tiling_of(like), problem)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_outer_products(dtype):
    """Of one term, along rows or columns that are contiguous and fill 128 bits."""
    like = np.empty(0, dtype)
    size, lanes = like.itemsize, 16 // like.itemsize
    rows, columns = Matrix(0, 1000, size), Matrix(0, size, 1000)
    assert outer_product(like, 1, lanes, 1, size, rows, 64)
    assert outer_product(like, 100, lanes + 1, 1, size, rows, 64)
    assert not outer_product(like, 100, lanes, 0, size, rows, 0)
    assert not outer_product(like, 100, lanes, 2, size, rows, 0)
    assert not outer_product(like, 100, lanes, 1, 2 * size, rows, 0)
    assert not outer_product(like, 100, lanes, 1, size, columns, 0)
    assert outer_product(like, lanes, 1, 1, 2 * size, columns, 0)
    assert outer_product(like, lanes, lanes - 1, 1, 2 * size, columns, 0)
    assert not outer_product(like, lanes - 1, lanes - 1, 1, size, columns, 0)
    assert not outer_product(like, lanes, 1, 1, size, columns, 64)
    assert not outer_product(like, lanes, 1, 1, size, Matrix(0, 1000, 2 * size), 0)


@njit
def in_pairs(rows, cols, terms):
    none = Matrix(0, 0, 0)
    return by_row_pairs(Problem(none, none, none, rows, cols, terms, Epilogue(0, 0, 0.0)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_small_c_by_pairs_of_rows(dtype):
    """If it does not fill vectors, as 3 × 3 does those of two numbers."""
    like = np.empty(0, dtype)
    fills = lanes_of(like) <= 3
    assert path(like, GRAD_WEIGHT, 8, 3, 3) == (ROW_VECTORS if fills else ROW_PAIRS)
    assert in_pairs(2, 2, PAIR_TERMS)
    assert in_pairs(7, 7, PAIR_TERMS)
    assert not in_pairs(2, 2, PAIR_TERMS - 1)
    assert in_pairs(2, 3, 100)
    assert in_pairs(3, 3, 100)
    assert not in_pairs(3, 2, 100)
    assert not in_pairs(1, 7, 100)
    assert not in_pairs(7, 1, 100)
    assert not in_pairs(8, 2, 100)
    assert not in_pairs(2, 8, 100)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_row_by_pairs_of_leaves(dtype):
    like = np.empty(0, dtype)
    row = PAIRED_ROW[instructions()][like.itemsize // 8]
    n = max(512, row // like.itemsize)
    wanted = LEAF_PAIRS if row else DOTS
    assert path(like, FORWARD, 1, n, 64) == wanted
    assert path(like, FORWARD, 1, 2 * n, 64) == wanted
    assert path(like, FORWARD, 1, n + 256, 64) != LEAF_PAIRS
    assert path(like, FORWARD, 2, n, 64) == DOTS
    assert path(like, FORWARD, 1, n, 3) == DOTS


@njit
def columns(like, rows, cols, first, b_row):
    b, none = Matrix(0, b_row, 100), Matrix(0, 0, 0)
    problem = Problem(none, b, none, rows, cols, 5, Epilogue(0, 0, 0.0))
    return columns_for(tiling_of(like), problem, first)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("contiguous", [False, True])
def test_columns_in_vectors_are_all_of_them(dtype, contiguous):
    like = np.empty(0, dtype)
    lanes = lanes_of(like)
    short = 16 // like.itemsize
    widths = {FOUR_BY_TWO: 2 * lanes, FOUR_WHOLE: lanes, FOUR_SHORT: short, EIGHT_SHORT: short}
    widths |= {FOUR_HALVES: lanes // 2, EIGHT_HALVES: lanes // 2}
    b_row = like.itemsize * (1 if contiguous else 100)
    for rows in range(4, 20):
        for cols in range(short if contiguous else max(short, lanes // 2), 6 * lanes):
            first = 0
            while first < cols:
                some, tile = columns(like, rows, cols, first, b_row)
                assert some > 0
                # a tile may begin before its columns, but not before C's
                assert widths[tile] <= min(cols, first + some)
                assert rows >= 8 or tile not in (EIGHT_HALVES, EIGHT_SHORT)
                first += some
            assert first == cols


def test_tiles_of_columns():
    like = np.empty(0, np.float32)
    lanes, size = lanes_of(like), like.itemsize
    assert columns(like, 4, 2 * lanes, 0, size) == (2 * lanes, FOUR_BY_TWO)
    assert columns(like, 4, 2 * lanes + 1, 0, size) == (2 * lanes, FOUR_BY_TWO)
    assert columns(like, 4, 2 * lanes + 1, 2 * lanes, size) == (1, FOUR_SHORT)
    assert columns(like, 8, 2 * lanes + 1, 2 * lanes, size) == (1, EIGHT_SHORT)
    assert columns(like, 9, 2 * lanes + 1, 2 * lanes, size) == (1, FOUR_SHORT)
    assert columns(like, 15, 2 * lanes + 1, 2 * lanes, size) == (1, EIGHT_SHORT)
    assert columns(like, 4, lanes + 1, 0, size) == (lanes, FOUR_WHOLE)
    assert columns(like, 4, lanes, 0, size) == (lanes, FOUR_WHOLE)
    assert columns(like, 8, lanes + lanes // 2, 0, size) == (lanes + lanes // 2, EIGHT_HALVES)
    assert columns(like, 4, lanes // 2, 0, size) == (lanes // 2, FOUR_HALVES)


@njit
def block_of(like, rows, cols, terms):
    none = Matrix(0, 0, 0)
    problem = Problem(none, none, none, rows, cols, terms, Epilogue(0, 0, 0.0))
    few = has_few_terms(tiling_of(like), problem)
    return block_for(tiling_of(like), problem, few)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks_of_short_rows(dtype):
    """No block has more rows or columns than C: the last ones begin early."""
    like = np.empty(0, dtype)
    lanes = min(vector_bytes(), 32) // like.itemsize
    short = min(lanes, 16 // like.itemsize)
    sizes = {EIGHT_NARROW: (8, short), FOUR_NARROW: (4, short), EIGHT_SINGLE: (8, lanes)}
    sizes |= {FOUR_PAIRS: (4, lanes), ONE_QUAD: (1, 4 * lanes), ONE_PAIR: (1, lanes)}
    for terms in (2, 3, 4, 9):
        for rows in range(1, 20):
            for cols in range(lanes if rows < 4 else short, 6 * lanes):
                height, width = sizes[block_of(like, rows, cols, terms)]
                assert height <= rows
                assert width <= cols


def test_blocks_by_dtype():
    single, double = np.empty(0, np.float32), np.empty(0, np.float64)
    lanes = min(vector_bytes(), 32) // 8
    assert block_of(single, 8, 4 * lanes, 4) == EIGHT_SINGLE
    assert block_of(single, 8, 4 * lanes, 3) == FOUR_PAIRS
    assert block_of(single, 1, 8 * lanes, 3) == ONE_PAIR
    assert block_of(double, 8, 4 * lanes, 4) == FOUR_PAIRS
    assert block_of(double, 8, 4 * lanes + 1, 4) == EIGHT_SINGLE
    assert block_of(double, 8, 3 * lanes + 1, 4) == FOUR_PAIRS
    assert block_of(double, 1, 4 * lanes, 3) == ONE_QUAD


@njit
def outer_of(like, rows, cols):
    none = Matrix(0, 0, 0)
    problem = Problem(none, none, none, rows, cols, 1, Epilogue(0, 0, 0.0))
    return outer_along(tiling_of(like), problem), outer_by_columns(tiling_of(like), problem)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_outer_products_along_rows(dtype):
    like = np.empty(0, dtype)
    lanes, short = min(vector_bytes(), 32) // like.itemsize, 16 // like.itemsize
    assert outer_of(like, 9, 4 * lanes) == (ROW_QUADS, False)
    assert outer_of(like, 9, 4 * lanes - 1) == (ROW_VECTOR, False)
    assert outer_of(like, 9, lanes) == (ROW_VECTOR, False)
    assert outer_of(like, 9, short - 1) == (ROW_NARROW, True)


@njit
def strip_of(like, terms, left, b_row):
    none = Matrix(0, 0, 0)
    problem = Problem(none, Matrix(0, b_row, 4), none, 99, 99, terms, Epilogue(0, 0, 0.0))
    tiling = tiling_of(like)
    way = strip_rows(tiling, problem, strips_for(tiling, problem), left)
    return way, rows_of(high_tile(tiling))


def test_rows_of_a_strip():
    like = np.empty(0, np.float32)
    tall = strip_of(like, STRIP_FEW + 1, 99, 4)[1]
    assert strip_of(like, STRIP_FEW + 1, tall, 4)[0] == TALL_ROWS
    assert strip_of(like, STRIP_FEW, tall, 4)[0] == FOUR_ROWS
    for left, b_row, wanted in (
        (4, 4, FOUR_ROWS),
        (4, 400, FOUR_ROWS),
        (3, 4, TWO_ROWS),
        (1, 4, ONE_ROW),
        (3, 400, ONE_PACKED),
        (1, 400, ONE_PACKED),
    ):
        assert strip_of(like, 2, left, b_row)[0] == wanted


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_that_evict_each_other_are_not_for_dotxf(dtype):
    like = np.empty(0, dtype)
    item = like.itemsize
    vectors = DOTXF_VECTORS[instructions()][item // 8]
    wanted = DOTXF if vectors else DOTS
    # one row, two or three are nearly whole pages
    for n in (2049, 513, 683) if item == 4 else (1025, 341):
        assert path(like, FORWARD, 1, n, 64) == DOTS
        assert path(like, FORWARD, 1, n + 32, 64) == wanted
    if vectors:
        cols = vectors * (32 // item)
        assert path(like, FORWARD, 1, 1000, cols) == DOTXF
        assert path(like, FORWARD, 1, 1000, cols - 1) == DOTS


@njit
def is_far(like, cols, row):
    none = Matrix(0, 0, 0)
    problem = Problem(none, Matrix(0, row, 4), none, 1, cols, 9, Epilogue(0, 0, 0.0))
    return dotxf_far(tiling_of(like), problem), b_bytes(tiling_of(like))


def test_dotxf_prefetches_a_large_part_of_level_3():
    like = np.empty(0, np.float32)
    _, share = is_far(like, 1, 8)
    assert is_far(like, share // DOTXF_FAR // 64, 64) == (True, share)
    assert is_far(like, share // DOTXF_FAR // 64 - 1, 64) == (False, share)


@njit
def dots_of(like, rows, row):
    none = Matrix(0, 0, 0)
    problem = Problem(none, Matrix(0, row, 4), none, rows, 9, 9, Epilogue(0, 0, 0.0))
    return dots_for(tiling_of(like), problem)


def test_sides_of_dots():
    like = np.empty(0, np.float64)
    lag = STAGGER // (lanes_of(like) * like.itemsize)
    assert dots_of(like, 1, 8) == (2, 0, False)
    assert dots_of(like, 2, 8) == (1, 0, False)
    assert dots_of(like, 1, STAGGER_FROM) == (2, lag, False)
    assert dots_of(like, 1, LONG_ROW) == (2, lag, False)
    assert dots_of(like, 1, LONG_ROW + 8) == (2, lag, True)
    assert dots_of(like, 1, 2 * LONG_ROW) == (1, lag, True)


@njit
def stretches_of(like, cols, terms, step):
    none = Matrix(0, 0, 0)
    problem = Problem(none, Matrix(0, 8, step), none, 1, cols, terms, Epilogue(0, 0, 0.0))
    return stretches_for(tiling_of(like), problem), b_bytes(tiling_of(like))


def test_stretches_of_rows():
    like = np.empty(0, np.float64)
    width = 128 // like.itemsize
    (cols, far), memory = stretches_of(like, 3 * width + 1, 10, 8000)
    assert cols == 3 * width
    assert not far
    assert stretches_of(like, 1 << 20, 10, 8000)[0].cols == ROWS_STRETCH // like.itemsize
    assert stretches_of(like, 1000, ROWS_PREFETCH, memory)[0].far
    assert not stretches_of(like, 1000, ROWS_PREFETCH, memory - 1)[0].far


@njit
def at_once(like, rows, cols):
    none = Matrix(0, 0, 0)
    problem = Problem(none, none, none, rows, cols, 9, Epilogue(0, 0, 0.0))
    return columns_at_once(tiling_of(like), problem)


def test_rows_of_the_transpose():
    like = np.empty(0, np.float64)
    assert at_once(like, 33, 50) == (50, 320)
    most, row = at_once(like, 128, 1 << 20)
    assert row == 1024
    assert most * row == TRANSPOSED_BLOCK


def test_strided_c_or_bias():
    like = np.empty(0, np.float32)
    assert strided_path(like, 300, 300, 300, 4, 0, 0) == TILES
    assert strided_path(like, 300, 300, 300, 8, 0, 0) == STRIDED
    assert strided_path(like, 300, 300, 300, 4, 64, 8) == STRIDED
    assert strided_path(like, 300, 300, 300, 4, 64, 4) == TILES
    assert strided_path(like, 2, 3, 4, 8, 64, 8) == COLUMNS


@njit
def blocks(like, operation, K, n, m):
    return blocks_for(tiling_of(like), problem_of(like.itemsize, operation, K, n, m))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1, 1), (64, 64, 64), (7, 1024, 1024), (3000, 2000, 5000)])
def test_blocks_cover_the_problem(shape, dtype):
    like, K, n, m = np.empty(0, dtype), *shape
    for operation, rows, cols in ((FORWARD, K, m), (GRAD_INPUT, K, n), (GRAD_WEIGHT, m, n)):
        got = blocks(like, operation, K, n, m)
        assert 1 <= got.rows <= rows
        assert 1 <= got.panels <= got.all_panels
        assert 1 <= got.leaves <= 1 << got.low
        assert not (got.keep and got.b_direct)
        assert_covered(like, cols, got)


def assert_covered(like, cols, got):
    """The panels are all columns, one after the other."""
    done = 0
    for index in range(got.all_panels):
        panel = one_panel(like, cols, got, index)
        assert panel.column <= done  # the rest is new, or computed again
        assert 0 < panel.cols <= panel.width
        done = panel.column + panel.cols
    assert done == cols


@njit
def one_panel(like, cols, blocks, index):
    return panel_of(tiling_of(like), cols, blocks, index)


@njit
def tiles_in_place(like, step):
    return direct_tiles(tiling_of(like), step)


def test_tiles_for_which_b_is_read_in_place():
    """By its row stride: not lines, pages, an odd number of lines, an even one."""
    few = 7 if instructions() == "avx2" else 16
    for step, most in ((100, 4), (8192, 4), (5 * LINE, 16), (6 * LINE, few)):
        assert tiles_in_place(np.empty(0), step) == most


def test_terms_that_are_packed_at_once():
    packed = njit(lambda step: terms_at_once(step))
    assert [packed(step) for step in (400, 4096, 6144, 8192)] == [32, 8, 32, 8]


def test_what_is_packed():
    """At 1000³ in float32 forward transposes and packs both. grad_weight packs A, whose terms are
    far apart, and B for its many rows."""
    like = np.empty(0, np.float32)
    assert blocks(like, FORWARD, 1000, 1000, 1000).keep
    assert not blocks(like, FORWARD, 1000, 1000, 1000).b_direct
    assert blocks(like, GRAD_WEIGHT, 1000, 1000, 1000).a_pack
    assert not blocks(like, GRAD_INPUT, 1000, 100, 1000).a_pack
    few = blocks(like, GRAD_INPUT, 8, 1000, 1000)
    assert few.b_direct and not few.keep


@njit
def blocks_at(like, K, n, m, at):
    """The blocks of grad_input, whose result is at an address."""
    a, b, c, rows, cols, terms, epilogue = problem_of(like.itemsize, GRAD_INPUT, K, n, m)
    problem = Problem(a, b, Matrix(at, c.row, c.col), rows, cols, terms, epilogue)
    return blocks_for(tiling_of(like), problem)


@njit
def panel_bytes(like):
    return row_bytes(vectors(tiling_of(like)))


@pytest.mark.parametrize("at", [0, 16, 32, 48])
@pytest.mark.parametrize("cols", [64, 80, 96])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_panels_of_a_large_c_share_no_cache_line(dtype, cols, at):
    like = np.empty(0, dtype)
    got = blocks_at(like, 200000, cols, 10, at)
    line = min(LINE, panel_bytes(like))  # 128-bit vectors fill half a line
    assert (at + got.lead * like.itemsize) % line == 0
    assert 0 <= got.lead * like.itemsize < line
    assert_covered(like, cols, got)


@njit
def packed_together(like, operation, K, n, m, index):
    problem = problem_of(like.itemsize, operation, K, n, m)
    got = blocks_for(tiling_of(like), problem)
    return panels_at_once(tiling_of(like), problem, got, index, got.all_panels)


def test_whole_panels_of_contiguous_columns_are_packed_together():
    like = np.empty(0, np.float32)
    width = 2 * lanes_of(like)
    n = (PACK_PANELS + 1) * width
    assert packed_together(like, GRAD_INPUT, 1000, n, 100, 0) == PACK_PANELS
    assert packed_together(like, GRAD_INPUT, 1000, n, 100, 1) == PACK_PANELS
    assert packed_together(like, GRAD_INPUT, 1000, n, 100, 2) == 1  # too few are left
    assert packed_together(like, GRAD_INPUT, 1000, n - 1, 100, 1) == 1  # the last begins early
    assert packed_together(like, FORWARD, 1000, 100, n, 0) == 1


@njit
def swept(like, matrix, numbers, terms, shares):
    return sweep_for(tiling_of(like), matrix, numbers, terms, shares)


def test_the_next_block_is_prefetched_in_shares():
    like = np.empty(0, np.float64)
    sweep = swept(like, Matrix(4096, 8, 800), 100, 256, 100)
    assert sweep.at == 4096
    assert 256 * 800 <= 100 * sweep.lines * LINE <= 256 * 800 + 100 * LINE
    for matrix, numbers in (
        (Matrix(4096, 800, 8), 100),  # a term's numbers are apart
        (Matrix(4096, 8, 1608), 100),  # and here most of the memory between them is not used
        (Matrix(4096, 8, -800), 100),
        (Matrix(4096, 8, 1 << 20), 1 << 17),  # a block larger than L2
    ):
        assert swept(like, matrix, numbers, 256, 100).lines == 0


@njit
def next_height(like, rows):
    return tile_height(tiling_of(like), rows, max(rows, 4))


@pytest.mark.skipif(vector_bytes() != 64, reason="the tiles of AVX-512")
def test_the_next_tile_is_the_least_that_finishes():
    like = np.empty(0, np.float32)
    for rows, wanted in ((100, 0), (17, 0), (16, 1), (13, 1), (12, 0)):
        assert next_height(like, rows) == wanted
    for rows, wanted in ((9, 1), (8, 1), (5, 2), (4, 2), (1, 2)):
        assert next_height(like, rows) == wanted


@njit
def tiles_in_turn(like, rows):
    tiling, done, counts = tiling_of(like), 0, []
    while done < rows:
        index = tile_height(tiling, rows - done, max(rows, 4))
        count = tile_count(tiling, rows - done, index)
        counts.append((heights(tiling)[index], count))
        done = min(rows, done + count * heights(tiling)[index])
    return counts


@njit
def tiles_one_by_one(like, rows):
    tiling, done, found = tiling_of(like), 0, []
    while done < rows:
        height = heights(tiling)[tile_height(tiling, rows - done, max(rows, 4))]
        found.append(height)
        done = min(rows, done + height)
    return found


def test_tiles_in_turn_are_those_one_by_one():
    """`pack_a` takes them one by one, and the loop over the tiles in turn."""
    like = np.empty(0, np.float32)
    for rows in range(5, 100):
        in_turn = [h for h, count in tiles_in_turn(like, rows) for _ in range(count)]
        assert in_turn == tiles_one_by_one(like, rows)


@pytest.mark.skipif(vector_bytes() != 64, reason="the tiles of AVX-512")
def test_tiles_in_turn():
    like = np.empty(0, np.float32)
    assert tiles_in_turn(like, 24) == [(12, 2)]
    assert tiles_in_turn(like, 40) == [(12, 2), (8, 2)]
    assert tiles_in_turn(like, 37) == [(12, 2), (8, 1), (8, 1)]
    assert tiles_in_turn(like, 41) == [(12, 3), (8, 1)]
    assert tiles_in_turn(like, 3) == [(4, 1)]


@njit
def threads(like, operation, K, n, m, count):
    tiling, problem = tiling_of(like), problem_of(like.itemsize, operation, K, n, m)
    pays = threads_pay(tiling, problem, count, LAUNCH)
    return pays, splits_k(tiling, problem, count), parts_for(tiling, problem, count)


@njit
def part_terms(terms, count):
    return terms_of_part(terms, count)


def test_where_threads_cut():
    like = np.empty(0, np.float32)
    assert not threads(like, FORWARD, 1, 64, 64, MANY)[0]
    assert threads(like, FORWARD, 1000, 1000, 1000, 2)[0]
    assert threads(like, FORWARD, 1000, 500, 300, 2)[2][:2] == (2, 1)  # the longer side
    assert threads(like, FORWARD, 300, 500, 1000, 2)[2][:2] == (1, 2)
    assert threads(like, GRAD_WEIGHT, 100000, 16, 8, 2)[1]  # long sums of a small C
    assert not threads(like, GRAD_WEIGHT, 1000, 16, 8, 2)[1]
    assert not threads(like, FORWARD, 300, 500, 1000, 2)[1]


def test_a_part_of_the_terms_is_a_node_of_the_tree():
    for terms in (1000, 4096, 100_000, 10**7):
        for count in (2, 3, 4, 64):
            leaves = part_terms(terms, count) // 256
            assert leaves & (leaves - 1) == 0
            assert leaves * 256 * 8 * count >= terms

"""How contractions are cut: by the estimated work, and with little workspace."""

import itertools
import math

import pytest

pytest.importorskip("numba_cuda", reason="the extra is not installed: pip install -e '.[cuda]'")

from numba_linear.cpu.rule import LEAF
from numba_linear.cuda.machine import HALF, LARGE, NARROW, WIDE, blocks_of, cut, cycles

SIZES = (1, 2, 16, 17, 33, 64, 65, 96, 97, 128, 129, 512, 4096, 10**6)
PROCESSORS = (1, 20, 132)


def slots(rows, cols, terms, found):
    """The number of Cs in a cut's workspace."""
    parts = -(-terms // found.part_terms)
    launches = -(-parts // found.at_once)
    return min(parts, found.at_once) + (launches - 1).bit_length() if parts > 1 else 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_cut_is_of_the_rule(dtype):
    """Parts are aligned groups of leaves, for which the tile has levels."""
    for rows, cols, terms in itertools.product(SIZES, SIZES, (0, *SIZES)):
        if rows < cols and rows != 1:
            continue
        for processors in PROCESSORS:
            found = cut(dtype, rows, cols, terms, processors)
            leaves = found.part_terms // LEAF
            assert leaves * LEAF == found.part_terms and leaves.bit_count() == 1
            assert leaves <= 1 << found.tile.levels
            assert found.at_once.bit_count() == 1
            assert (found.tile.down == 1) == (rows == 1)


def test_small_batches_are_not_padded_to_128():
    """Padding is less than 32 columns for a single tile of 128, and less than a third beyond."""
    for K in range(17, 400):
        tile = cut("float32", 4096, K, 4096, 132).tile
        _, across = tile.shape
        padding = across * -(-K // across) - K
        assert padding < (32 if K <= 128 else K / 3), (K, tile)


def test_tiles_by_batch():
    def of(K):
        return cut("float32", 4096, K, 4096, 132).tile

    assert of(8) == of(16) == NARROW["float32"]
    assert of(64) in HALF.values()
    assert of(4096) in WIDE.values()
    assert cut("float32", 4096, 4096, 4096, 132, wide=False).tile in LARGE.values()
    assert cut("float64", 4096, 4096, 4096, 132).tile in LARGE.values()


def test_no_other_cut_takes_less():
    """By the estimate `cycles`, among all tiles and levels."""
    from numba_linear.cuda.machine import MOST_LEVELS, SMALL

    few = (SMALL["float32"], NARROW["float32"])
    kinds = (*(kind["float32", 6] for kind in (WIDE, LARGE, HALF)), *few)
    for rows, cols, terms in [(4096, 64, 4096), (512, 512, 512), (4096, 48, 700), (70, 3, 10**5)]:
        found, leaves = cut("float32", rows, cols, terms, 132), -(-terms // LEAF)
        levels = (found.part_terms // LEAF).bit_length() - 1
        took = cycles(found.tile, levels, rows, cols, leaves, 132)
        for tile, other in itertools.product(kinds, range(MOST_LEVELS + 1)):
            assert took <= cycles(tile, other, rows, cols, leaves, 132) * (1 + 1e-12)


def test_workspace():
    """At most log₂(parts) + 1 Cs, and those of one launch, a few per multiprocessor."""
    K, n, m = 10**6, 4096, 4096
    found = cut("float32", m, n, K, 132)
    assert slots(m, n, K, found) * m * n * 4 <= 600 << 20  # a C for each part would take 4 GiB
    for rows, cols, terms in itertools.product(SIZES, SIZES, (10**5, 10**7, 10**9)):
        if rows < cols or rows * cols > 10**9:
            continue
        found = cut("float32", rows, cols, terms, 132)
        parts = -(-terms // found.part_terms)
        at_once = min(parts, found.at_once)
        blocks = at_once * blocks_of(found.tile, rows, cols)
        assert at_once == 1 or blocks <= 16 * 132, (rows, cols, found)
        assert slots(rows, cols, terms, found) <= at_once + 1 + math.log2(parts)

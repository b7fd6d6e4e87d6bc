"""The GPU: the tiles, and how a contraction is cut into them.

Everything here may be tuned, and changes no bit: the rule's constant is in `cpu/rule.py`. Nothing
here has been measured on hardware; the reasons given are arithmetic.
"""

import functools
from typing import NamedTuple

import numpy as np

from numba_linear.cpu.rule import LEAF

WARP = 32


class Number(NamedTuple):
    """One number in global memory."""

    dtype: str


class Panel(NamedTuple):
    """Terms × width numbers of one operand in shared memory, the width contiguous.

    Attributes
    ----------
    dtype : str
    width : int
        Rows (of B: columns) of the tile.
    depth : int
        Terms.
    pitch : int
        From a term to the next, in numbers. More than the width, so that a warp that writes
        several terms of a row at once meets different banks.
    threads : int
        All take the same share of the panel.
    pad : float
        Stands for terms that do not exist. With -0 in A's panel and +0 in B's, a multiply-add
        changes no sum: s + (-0 · +0) is s, also where s is -0.
    unit : tuple of int
        Rows and terms of the numbers that a thread loads at once: neighbours in global memory,
        of a term or of a row, or one number.
    """

    dtype: str
    width: int
    depth: int
    pitch: int
    threads: int
    pad: float
    unit: tuple[int, int] = (1, 1)

    @property
    def numbers(self):
        return self.depth * self.pitch

    @property
    def threads_across(self):
        """Threads that together take all terms of a row."""
        return self.depth // self.unit[1]

    @property
    def rows_at_once(self):
        """Rows of which all the threads together take all terms, a unit each."""
        return self.threads // self.threads_across * self.unit[0]

    @property
    def share(self):
        """Numbers that each thread takes in all."""
        return self.width * self.depth // self.threads

    @property
    def units(self):
        """Units that each thread takes in all."""
        return self.width // self.rows_at_once

    @property
    def within(self):
        """Row and term of each number of a unit."""
        return [(i, p) for i in range(self.unit[0]) for p in range(self.unit[1])]


class Tile(NamedTuple):
    """What a block computes: rows × columns sums, of which each thread has a fragment.

    Attributes
    ----------
    dtype : str
    rows, columns : int
        Of a thread's fragment.
    down, across : int
        Threads.
    depth : int
        Terms that shared memory holds at once. A leaf is a whole number of such steps.
    levels : int
        Of the tree, that is 2^levels leaves at most are summed by one block.
    blocks : int
        That are to fit a multiprocessor at once: a bound on registers.
    units : tuple of tuple
        Of A's panels and of B's: see `Panel`.
    spare : bool
        Whether registers are short: the shares of B and of A are then taken one after the other,
        each while half of the terms in shared memory are multiplied.
    """

    dtype: str
    rows: int
    columns: int
    down: int
    across: int
    depth: int
    levels: int
    blocks: int
    units: tuple[tuple[int, int], tuple[int, int]] = ((1, 1), (1, 1))
    spare: bool = False

    @property
    def size(self):
        return np.dtype(self.dtype).itemsize

    @property
    def threads(self):
        return self.down * self.across

    @property
    def turn(self):
        """Terms that are multiplied before a share is put into shared memory."""
        return self.depth // 2 if self.spare else self.depth

    @property
    def numbers(self):
        """In a fragment."""
        return self.rows * self.columns

    @property
    def shape(self):
        return self.rows * self.down, self.columns * self.across

    @property
    def row_vector(self):
        """Rows of a fragment that are neighbours, for one load of up to 16 bytes."""
        return min(16 // self.size, self.rows)

    @property
    def column_vector(self):
        return min(16 // self.size, self.columns)

    def row(self, r):
        """Where row r of the first thread's fragment lies in the tile."""
        group, r = divmod(r, self.row_vector)
        return group * self.down * self.row_vector + r

    def column(self, c):
        group, c = divmod(c, self.column_vector)
        return group * self.across * self.column_vector + c

    def _panel(self, width, vector, pad, unit):
        # Each thread takes at least one number; where the tile is narrow, of a row beyond it.
        width = max(width, self.threads // self.depth)
        pitch = width + (16 // self.size if vector > 1 else 1)
        return Panel(self.dtype, width, self.depth, pitch, self.threads, pad, unit)

    @property
    def a(self):
        return self._panel(self.shape[0], self.row_vector, -0.0, self.units[0])

    @property
    def b(self):
        return self._panel(self.shape[1], self.column_vector, 0.0, self.units[1])

    @property
    def panels(self):
        """Numbers in shared memory: two panels of A and of B, one to read while one is filled."""
        return 2 * (self.a.numbers + self.b.numbers)

    @property
    def dynamic_bytes(self):
        """Shared memory that a launch must ask for: of its own a kernel has 48 KiB at most."""
        size = self.panels * self.size
        return size if size > 48 << 10 else 0


#: Levels of the tree for which the large tile is compiled. The driver sets local memory aside for
#: every thread that could be resident, 256 bytes for a level of it, so that a short sum should not
#: carry the levels of a long one.
LEVELS = (1, 3, 6)
MOST_LEVELS = LEVELS[-1]

# 64 fragments of 8 × 8 fill half of the registers of a multiprocessor, and a step of 8 terms does
# 64 multiply-adds for every 4 loads of 16 bytes. In float64 as many numbers take twice the
# registers, so that fragments are 8 × 4 there.
LARGE = {("float32", levels): Tile("float32", 8, 8, 16, 16, 8, levels, 2) for levels in LEVELS} | {
    ("float64", levels): Tile("float64", 8, 4, 8, 16, 8, levels, 3) for levels in LEVELS
}
#: Half as wide, for a batch of up to 64.
HALF = {("float32", levels): Tile("float32", 8, 8, 16, 8, 8, levels, 4) for levels in LEVELS}
#: The neighbours that 16 bytes of float32 hold: of a row, or of a term.
OF_ROW, OF_TERM = (1, 4), (4, 1)
#: For a large C, where both operands can be loaded 16 bytes at once. 6 loads from shared memory
#: do for 128 multiply-adds, but 128 sums to a thread leave registers for one block.
WIDE = {
    ("float32", levels): Tile(
        *("float32", 8, 16, 16, 16, 16, levels, 1), units=(OF_ROW, OF_ROW), spare=True
    )
    for levels in LEVELS
}
#: For few rows or columns, or few sums in all: more blocks, and less of a block outside C.
SMALL = {
    "float32": Tile("float32", 4, 4, 16, 8, 16, MOST_LEVELS, 4),
    "float64": Tile("float64", 4, 4, 16, 8, 16, MOST_LEVELS, 3),
}
#: For a batch of up to 16.
NARROW = {
    "float32": Tile("float32", 8, 2, 16, 8, 16, MOST_LEVELS, 4),
    "float64": Tile("float64", 4, 2, 16, 8, 16, MOST_LEVELS, 3),
}
#: For one row, of which each thread has one sum. It is bound by the reading of B.
ROW = {
    "float32": Tile("float32", 1, 1, 1, 128, 16, MOST_LEVELS, 4),
    "float64": Tile("float64", 1, 1, 1, 128, 16, MOST_LEVELS, 4),
}

TILES = (
    *(tile for kind in (LARGE, HALF, SMALL, NARROW, ROW) for tile in kind.values()),
    *(
        tile._replace(units=(a, b))
        for tile in WIDE.values()
        for a in (OF_ROW, OF_TERM)
        for b in (OF_ROW, OF_TERM)
    ),
)

#: What part of a step's instructions are multiply-adds, on sm_90, by count of the machine code; in
#: float64 they take two cycles each.
SHARES = {
    "float32": {
        (128, 256): 0.92,
        (128, 128): 0.84,
        (128, 64): 0.82,
        (64, 32): 0.72,
        (128, 16): 0.65,
    },
    "float64": {(64, 64): 0.5, (64, 32): 0.5, (64, 16): 0.5},
}
#: Multiply-adds that a multiprocessor begins in a cycle, and bytes that it is due of the
#: second-level cache, in which operands are met again, and of memory, where workspace goes: about
#: an H100's.
LANES, CACHE_BYTES, MEMORY_BYTES = 128, 20, 12
#: Warps on a multiprocessor that hide each other's waits: two for each of its four schedulers.
ENOUGH_WARPS = 8

#: A block of `merge`: sums side by side, segments of the parts of each sum, and levels of the tree
#: in a segment, which is 2^31 parts at most.
MERGE_SUMS, MERGE_SEGMENTS, MERGE_LEVELS = 32, 8, 32

#: Blocks for each multiprocessor in one launch of a sum's parts, at least: with so many the end of
#: a launch, where some multiprocessors have no block left, is short.
AT_ONCE = 8

#: Threads of a block, and most blocks of a launch, where one number is computed after another.
EACH_THREADS, EACH_BLOCKS = 256, 1 << 12


class Cut(NamedTuple):
    """How a contraction is cut: into tiles, and each sum into parts of so many terms.

    Attributes
    ----------
    tile : Tile
    part_terms : int
    at_once : int
        Parts of a sum in one launch, a power of two. Each takes a C of workspace.
    """

    tile: Tile
    part_terms: int
    at_once: int = 1 << 31


def blocks_of(tile, rows, cols):
    """Blocks that cover rows × cols sums."""
    down, across = tile.shape
    return -(-rows // down) * -(-cols // across)


def cycles(tile, levels, rows, cols, leaves, processors):
    """What a cut takes, by its multiply-adds with those beyond C's edges, and its workspace."""
    blocks, parts = blocks_of(tile, rows, cols), -(-leaves // (1 << levels))
    down, across = tile.shape
    computing = down * across / SHARES[tile.dtype][tile.shape] / LANES
    reading = (down + across) * tile.size / CACHE_BYTES
    most = -(-blocks * parts // processors)  # that one multiprocessor gets
    warps = min(most, tile.blocks) * tile.threads // WARP
    term = max(computing, reading) * max(1, ENOUGH_WARPS / warps)
    workspace = 2 * parts * rows * cols * tile.size / MEMORY_BYTES / processors
    return most * min(leaves, 1 << levels) * LEAF * term + (workspace if parts > 1 else 0)


@functools.lru_cache(1024)
def cut(dtype, rows, cols, terms, processors, wide=True):
    """The cut of a contraction of at least as many rows as columns, or of one row.

    `wide` says whether `WIDE` may be taken.

    A sum is cut into parts, aligned groups of leaves and so nodes of the rule's tree, where it is
    longer than a block's tree or where there are not enough tiles to keep every multiprocessor
    busy.
    """
    leaves = max(1, -(-terms // LEAF))
    most = min(MOST_LEVELS, (leaves - 1).bit_length())
    if rows == 1:
        tile, levels = ROW[dtype], most
        while levels and blocks_of(tile, 1, cols) * -(-leaves // (1 << levels)) < 2 * processors:
            levels -= 1
    else:
        kinds = [LARGE[dtype, MOST_LEVELS], SMALL[dtype], NARROW[dtype]]
        more = (HALF, WIDE) if wide else (HALF,)
        kinds += [kind[dtype, MOST_LEVELS] for kind in more if (dtype, MOST_LEVELS) in kind]
        tile, levels = min(
            ((tile, levels) for tile in kinds for levels in range(most, -1, -1)),
            key=lambda cut: cycles(*cut, rows, cols, leaves, processors),
        )
    at_once = 1
    while at_once * blocks_of(tile, rows, cols) < AT_ONCE * processors:
        at_once *= 2
    for few in (LARGE, HALF, WIDE):
        if tile in few.values():
            tile = few[dtype, next(enough for enough in LEVELS if enough >= levels)]
    return Cut(tile, LEAF << levels, at_once)

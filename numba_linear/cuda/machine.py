"""The GPU: the tiles, and how a contraction is cut into them.

All numbers here may be tuned and change no bit: the rule's constant is in `cpu/rule.py`. None was
measured on hardware; the reasons given are arithmetic.
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
    """Terms × width numbers of one operand in shared memory; the width is contiguous.

    Attributes
    ----------
    dtype : str
    width : int
        Rows of the tile, or for B its columns.
    depth : int
        Terms.
    pitch : int
        Numbers from a term to the next. It exceeds the width, so that a warp that writes several
        terms of a row at once meets different banks.
    threads : int
        The threads, which take equal shares of the panel.
    pad : float
        Stands in for missing terms. With -0 in A's panel and +0 in B's, a multiply-add changes no
        sum: s + (-0 · +0) is s, even if s is -0.
    unit : tuple of int
        Rows and terms of the numbers that a thread loads at once: neighbours in global memory,
        along a term or a row, or one number.
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
        """Threads that share the terms of a row."""
        return self.depth // self.unit[1]

    @property
    def rows_at_once(self):
        """Rows that all threads together take at once, with a unit each."""
        return self.threads // self.threads_across * self.unit[0]

    @property
    def share(self):
        """Numbers that each thread takes."""
        return self.width * self.depth // self.threads

    @property
    def units(self):
        """Units that each thread takes."""
        return self.width // self.rows_at_once

    @property
    def within(self):
        """Row and term of each number of a unit."""
        return [(i, p) for i in range(self.unit[0]) for p in range(self.unit[1])]


class Tile(NamedTuple):
    """What a block computes: rows × columns sums, a fragment per thread.

    Attributes
    ----------
    dtype : str
    rows, columns : int
        The size of a thread's fragment.
    down, across : int
        Threads in each direction.
    depth : int
        Terms that shared memory holds at once. A leaf is a whole number of such steps.
    levels : int
        Levels of the tree: one block sums at most 2^levels leaves.
    blocks : int
        Blocks that must fit a multiprocessor at once, which bounds registers.
    units : tuple of tuple
        The units of A's panels and of B's: see `Panel`.
    spare : bool
        Whether registers are short. The shares of B and A are then taken one after the other,
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
        """Numbers in a fragment."""
        return self.rows * self.columns

    @property
    def shape(self):
        return self.rows * self.down, self.columns * self.across

    @property
    def row_vector(self):
        """Neighbouring rows of a fragment, for one load of up to 16 bytes."""
        return min(16 // self.size, self.rows)

    @property
    def column_vector(self):
        return min(16 // self.size, self.columns)

    def row(self, r):
        """The tile's row that is row r of the first thread's fragment."""
        group, r = divmod(r, self.row_vector)
        return group * self.down * self.row_vector + r

    def column(self, c):
        group, c = divmod(c, self.column_vector)
        return group * self.across * self.column_vector + c

    def _panel(self, width, vector, pad, unit):
        # Each thread takes at least one number; in a narrow tile some take rows beyond it.
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
        """Numbers in shared memory: two panels of A and of B, one read while the other fills."""
        return 2 * (self.a.numbers + self.b.numbers)

    @property
    def dynamic_bytes(self):
        """Shared memory that a launch must request: by itself a kernel has at most 48 KiB."""
        size = self.panels * self.size
        return size if size > 48 << 10 else 0


#: Levels of the tree for which large tiles are compiled. The driver reserves local memory for
#: every thread that could be resident, 256 bytes per level, so a short sum should not carry the
#: levels of a long one.
LEVELS = (1, 3, 6)
MOST_LEVELS = LEVELS[-1]

# A term of an 8 × 8 fragment is 64 multiply-adds for 4 loads of 16 bytes, and two blocks fit the
# registers of a multiprocessor. In float64 a number takes two registers, so fragments are 8 × 4.
LARGE = {("float32", levels): Tile("float32", 8, 8, 16, 16, 8, levels, 2) for levels in LEVELS} | {
    ("float64", levels): Tile("float64", 8, 4, 8, 16, 8, levels, 3) for levels in LEVELS
}
#: Half as wide, for a batch of up to 64.
HALF = {("float32", levels): Tile("float32", 8, 8, 16, 8, 8, levels, 4) for levels in LEVELS}
#: The unit that 16 bytes of float32 hold: neighbours along a row, or along a term.
OF_ROW, OF_TERM = (1, 4), (4, 1)
#: For a large C, if both operands can be loaded 16 bytes at once. 6 loads from shared memory serve
#: 128 multiply-adds, but with 128 sums per thread registers suffice for one block only.
WIDE = {
    ("float32", levels): Tile(
        *("float32", 8, 16, 16, 16, 16, levels, 1), units=(OF_ROW, OF_ROW), spare=True
    )
    for levels in LEVELS
}
#: For few rows or columns, or few sums: more blocks, and less of a block outside C.
SMALL = {
    "float32": Tile("float32", 4, 4, 16, 8, 16, MOST_LEVELS, 4),
    "float64": Tile("float64", 4, 4, 16, 8, 16, MOST_LEVELS, 3),
}
#: For a batch of up to 16.
NARROW = {
    "float32": Tile("float32", 8, 2, 16, 8, 16, MOST_LEVELS, 4),
    "float64": Tile("float64", 4, 2, 16, 8, 16, MOST_LEVELS, 3),
}
#: For one row; each thread has one sum. Reading B is the bottleneck.
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

#: The share of multiply-adds in a step's instructions, counted in sm_90 machine code; in float64
#: they take two cycles each.
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
#: Per cycle and multiprocessor, about as on an H100: multiply-adds begun, and its share of bytes
#: from L2, where operands are met again, and from memory, where workspace goes.
LANES, CACHE_BYTES, MEMORY_BYTES = 128, 20, 12
#: Warps that hide each other's latency on a multiprocessor: two for each of its four schedulers.
ENOUGH_WARPS = 8

#: A block of `merge`: sums side by side, segments per sum, and levels of the tree in a segment,
#: which has at most 2^31 parts.
MERGE_SUMS, MERGE_SEGMENTS, MERGE_LEVELS = 32, 8, 32

#: The fewest blocks per multiprocessor in a launch of a sum's parts: with so many the end of a
#: launch, where some multiprocessors are idle, is short.
AT_ONCE = 8

#: Threads of a block, and blocks of a launch at most, in elementwise kernels.
EACH_THREADS, EACH_BLOCKS = 256, 1 << 12


class Cut(NamedTuple):
    """How a contraction is cut into tiles, and each sum into parts of `part_terms` terms.

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
    """The estimated cycles of a cut: its multiply-adds, also beyond C's edges, and workspace."""
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

    A sum is cut into parts if it is longer than a block's tree, or if there are too few tiles to
    keep all multiprocessors busy. Parts are aligned groups of leaves, so nodes of the rule's tree.
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

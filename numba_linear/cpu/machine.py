"""The machine: its vectors and caches, and the tile and blocks chosen for them.

Everything here may be tuned, and changes no bit: the rule's constant is in `rule.py`.
"""

import functools
from pathlib import Path

from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic, models, register_model

from numba_linear.cpu.fragment import Shape, constant_word
from numba_linear.cpu.resident import OneOf

#: Bytes of a cache line; and apart by which rows fall into the same few sets of a cache.
LINE, PAGE = 64, 4096

# 12 × 2 registers: 24 of AVX-512's 32 hold sums; 6 × 2 of AVX2's 16. A multiply-add has a latency
# of 4 and two can start each cycle, so 8 sums are the least that keep both units busy.
TILE_ROWS = {64: 12, 32: 6, 16: 4}
TILE_VECTORS = 2

# Lower tiles for the rows left over. Each costs twice 0.1 s to compile, for whole panels and for
# half as wide ones, so they are few, and the least is as high as takes no longer than one row.
HEIGHTS = {12: (12, 8, 4), 6: (6, 4, 2), 4: (4, 3, 2)}


@functools.cache
def vector_bytes():
    """Bytes of the widest vector that Numba's target machine multiplies and adds in one
    instruction."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    features = set(features.split(","))
    if "+avx512f" in features:
        return 64
    if {"+avx2", "+fma"} <= features:
        return 32
    return 16


@functools.cache
def cache_bytes(level):
    """The size of the data cache of that level as the kernel tells it, or a common one."""
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            if (folder / "type").read_text().strip() == "Instruction":
                continue
            if int((folder / "level").read_text()) == level:
                return int((folder / "size").read_text().strip().rstrip("K")) << 10
        except (OSError, ValueError):
            continue
    return {1: 32 << 10, 2: 1 << 20, 3: 16 << 20}[level]


class Tiling(Shape):
    """The largest tile's shape, and the blocks around it, for one dtype.

    With `threads` it says besides that code for several threads is wanted, which costs 2.4
    seconds to compile.
    """

    def __init__(self, dtype, rows, columns, block_leaves, a_bytes, b_bytes, threads=False):
        super().__init__(dtype, rows, columns)
        self.block_leaves, self.a_bytes, self.b_bytes = block_leaves, a_bytes, b_bytes
        self.threads = threads
        self.parameters = (dtype, rows, columns, block_leaves, a_bytes, b_bytes)
        self.name = f"Tiling{(*self.parameters, threads)}"

    @property
    def alone(self):
        """The same for one thread."""
        return Tiling(*self.parameters)

    @property
    def heights(self):
        """Rows of the tiles there are, the greatest first."""
        return HEIGHTS[self.rows]

    @property
    def shapes(self):
        """Every tile: those for whole panels, then those for half as wide ones."""
        wide = [Shape(self.dtype, h, self.columns) for h in self.heights]
        narrow = [Shape(self.dtype, h, self.columns // 2) for h in self.heights]
        return wide + narrow


@register_model(Tiling)
class TilingModel(models.OpaqueModel):
    pass


def tiling_for(dtype, threads=False):
    """The tiling of this machine."""
    lanes = 8 * vector_bytes() // dtype.bitwidth
    return Tiling(
        dtype,
        rows=TILE_ROWS[vector_bytes()],
        columns=TILE_VECTORS * lanes,
        block_leaves=16 // (dtype.bitwidth // 8),
        a_bytes=cache_bytes(2) * 3 // 8,
        b_bytes=min(cache_bytes(3) // 2, 24 << 20),
        threads=threads,
    )


def describe():
    """What `info` prints of the machine and the tiling."""
    described = {"vector bits": 8 * vector_bytes()}
    for dtype in (types.float32, types.float64):
        tiling = tiling_for(dtype)
        described[f"{dtype} tile"] = f"{tiling.rows} × {tiling.columns}"
        described[f"{dtype} block"] = (
            f"{tiling.block_leaves} leaves, A {tiling.a_bytes >> 10} KiB,"
            f" B {tiling.b_bytes >> 10} KiB"
        )
    return described


block_leaves = constant_word(lambda tiling: tiling.block_leaves)
block_levels = constant_word(lambda tiling: tiling.block_leaves.bit_length() - 1)
a_bytes = constant_word(lambda tiling: tiling.a_bytes)
b_bytes = constant_word(lambda tiling: tiling.b_bytes)


def retype(result):
    """A word that gives another shape, known while compiling."""

    def word(typingctx, tiling):
        return result(tiling)(tiling), lambda context, *_: context.get_dummy_value()

    return intrinsic(word)


tiling_of = retype(lambda operand: tiling_for(operand.dtype, operand.threads))
tiling_of_array = retype(lambda array: tiling_for(array.dtype))
alone = retype(lambda tiling: tiling.alone)
largest_tile = retype(lambda tiling: tiling.of(tiling.rows, tiling.columns))
square = retype(lambda tiling: tiling.of(tiling.columns // 2, tiling.columns // 2))
vector = retype(lambda tiling: tiling.of(1, tiling.columns // 2))
vectors = retype(lambda tiling: tiling.of(1, tiling.columns))


@intrinsic
def tile_shape(typingctx, tiling, index):
    """The shape of that index in `Tiling.shapes`."""
    return OneOf(tiling.shapes)(tiling, types.intp), lambda context, builder, sig, args: args[1]


@intrinsic
def heights(typingctx, tiling):
    """The tile heights as a tuple, the largest first."""
    tuple_type = types.UniTuple(types.intp, len(tiling.heights))
    return tuple_type(tiling), lambda context, builder, *_: context.get_constant_generic(
        builder, tuple_type, tiling.heights
    )


@intrinsic(prefer_literal=True)
def column(typingctx, tiling, rows):
    """A column of so many numbers."""
    if isinstance(rows, types.IntegerLiteral):
        shape = tiling.of(rows.literal_value, 1)
        return shape(tiling, rows), lambda context, *_: context.get_dummy_value()


@intrinsic(prefer_literal=True)
def tile(typingctx, tiling, rows, vectors):
    """So many rows of vectors, or of half a vector for -2."""
    if isinstance(rows, types.IntegerLiteral) and isinstance(vectors, types.IntegerLiteral):
        lanes, count = tiling.columns // 2, vectors.literal_value
        shape = tiling.of(rows.literal_value, lanes * count if count > 0 else lanes // -count)
        return shape(tiling, rows, vectors), lambda context, *_: context.get_dummy_value()

"""The machine: its vectors and caches, and the tiling that `tuning.py` chooses for them."""

import functools
import os

from numba import types
from numba.extending import intrinsic, models, register_model

from numba_linear.cpu.caches import cache_sizes
from numba_linear.cpu.fragment import AARCH64, Shape, constant_word
from numba_linear.cpu.tuning import (
    A_SHARE,
    APART_ROWS,
    APART_TERMS,
    B_MOST,
    B_SHARE,
    BLOCK_LEAVES_BYTES,
    DIRECT_EVICT,
    DOT_COLUMNS,
    DOTXF_VECTORS,
    HEIGHTS,
    PAIRED_ROW,
    PREFETCH_EACH,
    PREFETCH_ROW,
    SMALL_ROWS_BYTES,
    STRIP_ROWS,
    STRIP_TERMS,
    TILE,
)
from numba_linear.jit.private import target
from numba_linear.jit.resident import OneOf

#: Bytes of a cache line; and the row stride at which rows fall into the same few cache sets.
LINE, PAGE = 64, 4096


@functools.cache
def instructions():
    """The kind of vectors of Numba's target machine, a key of `TILE`."""
    triple, features = target()
    if triple.startswith(AARCH64):
        return "aarch64"
    if "+avx512f" in features:
        return "avx512"
    if {"+avx2", "+fma"} <= features:
        return "avx2"
    return "baseline"


def vector_bytes():
    """Bytes of the widest vector with a multiply-add instruction."""
    return {"avx512": 64, "avx2": 32}.get(instructions(), 16)


class Tiling(Shape):
    """The largest tile's shape, and the sizes of blocks, for one dtype."""

    def __init__(self, dtype, rows, columns, block_leaves, a_bytes, b_bytes):
        super().__init__(dtype, rows, columns)
        self.block_leaves, self.a_bytes, self.b_bytes = block_leaves, a_bytes, b_bytes
        self.name = f"Tiling{(dtype, rows, columns, block_leaves, a_bytes, b_bytes)}"

    @property
    def heights(self):
        """Rows of the tiles that are compiled, the tallest first."""
        return HEIGHTS[self.rows]

    @property
    def shapes(self):
        """Every tile: those for whole panels, then those for half panels."""
        wide = [Shape(self.dtype, h, self.columns) for h in self.heights]
        narrow = [Shape(self.dtype, h, self.columns // 2) for h in self.heights]
        return wide + narrow


@register_model(Tiling)
class TilingModel(models.OpaqueModel):
    pass


def tiling_for(dtype):
    """The tiling of this machine."""
    rows, vectors = TILE[instructions()]
    return Tiling(
        dtype,
        rows=rows,
        columns=vectors * 8 * vector_bytes() // dtype.bitwidth,
        block_leaves=BLOCK_LEAVES_BYTES // (dtype.bitwidth // 8),
        a_bytes=cache_sizes()[2].size * A_SHARE[0] // A_SHARE[1],
        b_bytes=min(cache_sizes()[3].size * B_SHARE[0] // B_SHARE[1], B_MOST),
    )


def describe():
    """What `info` prints about the machine and the tiling."""
    source = (
        "NUMBA_CPU_NAME" if "NUMBA_CPU_NAME" in os.environ else "LLVM's name of this processor"
    )
    described = {"vector bits": f"{8 * vector_bytes()}, {source}"}
    described |= {f"level-{level} cache": str(size) for level, size in cache_sizes().items()}
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
apart_rows = constant_word(lambda tiling: APART_ROWS[instructions()])
apart_terms = constant_word(lambda tiling: APART_TERMS[instructions()])
direct_evict = constant_word(lambda tiling: DIRECT_EVICT[instructions()])
prefetch_each = constant_word(lambda tiling: PREFETCH_EACH[instructions()])
prefetch_row = constant_word(lambda tiling: PREFETCH_ROW[instructions()])
paired_row = constant_word(lambda tiling: PAIRED_ROW[instructions()][tiling.size // 8])
small_rows_bytes = constant_word(lambda tiling: SMALL_ROWS_BYTES[instructions()])
strip_terms = constant_word(lambda tiling: STRIP_TERMS[instructions()])
line_terms = constant_word(lambda tiling: LINE // tiling.size)
least_height = constant_word(lambda tiling: tiling.heights[-1])


def retype(result):
    """An operation that gives another shape, known at compile time."""

    def word(typingctx, tiling):
        return result(tiling)(tiling), lambda context, *_: context.get_dummy_value()

    return intrinsic(word)


def tiling_of_array(array):
    """The tiling for an operand or an array, which may be optional."""
    return tiling_for((array.type if isinstance(array, types.Optional) else array).dtype)


tiling_of = retype(tiling_of_array)
largest_tile = retype(lambda tiling: tiling.of(tiling.rows, tiling.columns))
square = retype(lambda tiling: tiling.of(tiling.columns // 2, tiling.columns // 2))
vector = retype(lambda tiling: tiling.of(1, tiling.columns // 2))
vectors = retype(lambda tiling: tiling.of(1, tiling.columns))

#: Two cache lines of a row.
stripe = retype(lambda tiling: tiling.of(1, 128 // tiling.size))

#: The tallest tile of sums that go on, and one half as wide.
high_tile = retype(lambda tiling: tiling.of(min(tiling.rows, STRIP_ROWS), tiling.columns))
high_edge = retype(lambda tiling: tiling.of(min(tiling.rows, STRIP_ROWS), tiling.columns // 2))


def dot_columns(tiling):
    return max(tiling.columns // 2, DOT_COLUMNS)


def dotxf_lanes(tiling):
    return min(tiling.columns // 2, 32 // tiling.size)


def dotxf_vectors(tiling):
    return DOTXF_VECTORS[instructions()][tiling.size // 8]


has_dotxf = constant_word(lambda tiling: int(dotxf_vectors(tiling) > 0))

#: The sums of `contract_dotxf`, and a line of each row of B that one of their vectors has.
dotxf_sums = retype(lambda tiling: tiling.of(max(1, dotxf_vectors(tiling)), dotxf_lanes(tiling)))
dotxf_line = retype(lambda tiling: tiling.of(dotxf_lanes(tiling), 1))

dots = retype(lambda tiling: tiling.of(1, dot_columns(tiling)))
dot_block = retype(lambda tiling: tiling.of(tiling.columns // 2, dot_columns(tiling)))

#: A cache line of a row.
cache_line = retype(lambda tiling: tiling.of(1, LINE // tiling.size))

#: A block of the terms of two leaves, for half as many rows as a cache line has lanes; and both
#: leaves' sums together.
pair_block = retype(lambda tiling: tiling.of(tiling.columns // 2, LINE // tiling.size))
pair_sums = retype(lambda tiling: tiling.of(1, LINE // tiling.size // 2))


@intrinsic
def tile_shape(typingctx, tiling, index):
    """The shape of that index in `Tiling.shapes`."""
    return OneOf(tiling.shapes)(tiling, types.intp), lambda context, builder, sig, args: args[1]


@intrinsic
def heights(typingctx, tiling):
    """The tile heights as a tuple, the tallest first."""
    tuple_type = types.UniTuple(types.intp, len(tiling.heights))
    return tuple_type(tiling), lambda context, builder, *_: context.get_constant_generic(
        builder, tuple_type, tiling.heights
    )


@intrinsic(prefer_literal=True)
def column(typingctx, tiling, rows):
    """A column of `rows` numbers."""
    if isinstance(rows, types.IntegerLiteral):
        shape = tiling.of(rows.literal_value, 1)
        return shape(tiling, rows), lambda context, *_: context.get_dummy_value()


@intrinsic(prefer_literal=True)
def short_vectors(typingctx, tiling, rows, most):
    """`rows` vectors of at most so many bytes."""
    if isinstance(rows, types.IntegerLiteral) and isinstance(most, types.IntegerLiteral):
        lanes = min(tiling.columns // 2, most.literal_value // tiling.size)
        shape = tiling.of(rows.literal_value, lanes)
        return shape(tiling, rows, most), lambda context, *_: context.get_dummy_value()


@intrinsic(prefer_literal=True)
def tile(typingctx, tiling, rows, vectors):
    """`rows` rows of `vectors` vectors, or of half a vector for -2."""
    if isinstance(rows, types.IntegerLiteral) and isinstance(vectors, types.IntegerLiteral):
        lanes, count = tiling.columns // 2, vectors.literal_value
        shape = tiling.of(rows.literal_value, lanes * count if count > 0 else lanes // -count)
        return shape(tiling, rows, vectors), lambda context, *_: context.get_dummy_value()

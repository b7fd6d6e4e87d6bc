"""The layer's sums on the GPU: which operand is which, and the launches of the kernels.

As on the CPU (`cpu/contract.py`), all of them are C[r, c] = Σ_p A[r, p] · B[c, p]:

    forward      Y[k, i]  = Σ_l x[k, l] · w[i, l] + b[i]       A = x        B = w
    grad_input   ∂X[k, l] = Σ_i g[k, i] · w[i, l]              A = g        B = wᵀ
    grad_weight  ∂W[i, l] = Σ_k g[k, i] · x[k, l]  (/ K)       A = gᵀ       B = xᵀ
    grad_bias    ∂b[i]    = Σ_k 1 · g[k, i]        (/ K)       A = ones     B = gᵀ

Nothing here waits for the GPU.
"""

import math
from typing import Any

from numba import cuda
from numba.cuda.core import config

from numba_linear.cpu.matrix import Matrix
from numba_linear.cuda.arrays import Operand, empty, operand, strides_of
from numba_linear.cuda.elementwise import copying, merging, multiplying
from numba_linear.cuda.machine import (
    EACH_BLOCKS,
    EACH_THREADS,
    MERGE_SEGMENTS,
    MERGE_SUMS,
    blocks_of,
    cut,
)
from numba_linear.cuda.tile import contraction

NOTHING = Matrix(0, 0, 0)
ONES = NOTHING  # what the kernels take for an operand of ones


def transposed(m: Matrix) -> Matrix:
    return Matrix(m.at, m.col, m.row)


def processors() -> int:
    """Multiprocessors of the current device."""
    return 1 if config.ENABLE_CUDASIM else cuda.get_current_device().MULTIPROCESSOR_COUNT


def contract(
    dtype: str,
    a: Matrix,
    b: Matrix,
    c: Matrix,
    rows: int,
    cols: int,
    terms: int,
    bias: Matrix = NOTHING,
    divisor: int = 0,
    stream: Any = 0,
) -> None:
    """C from A (rows × terms) and B (cols × terms), plus the bias, divided by the divisor."""
    if rows == 0 or cols == 0:
        return
    # The tiles are higher than wide, but for that of one row.
    if a != ONES and ((1 < rows < cols) or cols == 1):
        a, b, c, bias = b, a, transposed(c), transposed(bias)
        rows, cols = cols, rows
    tile, part_terms = cut(dtype, rows, cols, terms, processors())
    parts = max(1, -(-terms // part_terms))
    part_bytes = 0
    last = (c, bias, rows, cols, float(divisor))
    if parts > 1:
        part_bytes = rows * cols * tile.size
        work = empty((parts * rows * cols,), dtype, stream)
        c = Matrix(operand("", "", "", work, stream).address, cols * tile.size, tile.size)
        bias, divisor = NOTHING, 0
    contraction(tile)[parts * blocks_of(tile, rows, cols), tile.threads, stream](
        a, b, c, bias, rows, cols, terms, part_terms, part_bytes, float(divisor)
    )
    if parts > 1:
        segment = 1
        while segment * MERGE_SEGMENTS < parts:
            segment *= 2
        blocks = -(-rows * cols // MERGE_SUMS)
        merging(dtype)[blocks, MERGE_SUMS * MERGE_SEGMENTS, stream](
            last[0], c.at, part_bytes, parts, segment, *last[1:]
        )


def elementwise(kernel: Any, count: int, stream: Any, *arguments: Any) -> None:
    blocks = min(EACH_BLOCKS, -(-count // EACH_THREADS))
    kernel[blocks, EACH_THREADS, stream](*arguments, count)


def copy(to: Operand, source: Operand, stream: Any) -> None:
    count = math.prod(to.shape)
    if count:
        arguments = (to.address, to.strides, source.address, source.strides, to.shape)
        elementwise(copying(str(to.dtype)), count, stream, *arguments)


class Samples:
    """An operand as samples the same stride apart.

    A batch of two or more dimensions may lie so that they are not. Its samples are then copied to
    where they are, or, of a result, from there by `close`.

    Attributes
    ----------
    count : int
    at : int
        Where sample 0 lies.
    apart : int
        Bytes from one sample to the next.
    strides : tuple of int
        Within a sample.
    """

    def __init__(self, a: Operand, own: int, stream: Any, result: bool = False) -> None:
        self.a, self.even, self.stream, self.result = a, a, stream, result
        first = a.ndim - own
        self.count = math.prod(a.shape[:first])
        apart = evenly(a.shape[:first], a.strides[:first])
        if apart is None:
            place = empty((math.prod(a.shape),), a.dtype, stream)
            at = operand("", "", "", place, stream).address
            strides = strides_of(a.shape, a.dtype.itemsize)
            self.even = a._replace(address=at, strides=strides, owner=place)
            apart = strides[first - 1]
            if not result:
                copy(self.even, a, stream)
        self.at, self.apart, self.strides = self.even.address, apart, self.even.strides[first:]

    def matrix(self) -> Matrix:
        """Samples × features."""
        return Matrix(self.at, self.apart, self.strides[0])

    def close(self) -> None:
        if self.result and self.even is not self.a:
            copy(self.a, self.even, self.stream)


def evenly(shape: tuple[int, ...], strides: tuple[int, ...]) -> int | None:
    """The stride that steps through all dimensions as one, None where there is none."""
    apart, rows = 0, 1
    if 0 in shape:
        return apart
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent > 1:
            if rows == 1:
                apart = stride
            elif stride != rows * apart:
                return None
            rows *= extent
    return apart


def matrix(a: Operand) -> Matrix:
    """A two-dimensional operand."""
    return Matrix(a.address, *a.strides)


def per_sample(a: Operand, b: Matrix, out: Operand, terms: int, bias: Matrix, stream: Any) -> None:
    """C[k, c] = Σ_p A[k, p] · B[c, p] + bias[c] for every sample k."""
    samples, results = Samples(a, 1, stream), Samples(out, 1, stream, result=True)
    cols = out.shape[-1]
    contract(
        str(a.dtype),
        samples.matrix(),
        b,
        results.matrix(),
        samples.count,
        cols,
        terms,
        bias,
        stream=stream,
    )
    results.close()


def forward_sums(x: Operand, w: Operand, b: Operand | None, out: Operand, stream: Any) -> None:
    bias = NOTHING if b is None else Matrix(b.address, 0, b.strides[0])
    per_sample(x, matrix(w), out, w.shape[1], bias, stream)


def input_sums(g: Operand, w: Operand, out: Operand, stream: Any) -> None:
    per_sample(g, transposed(matrix(w)), out, w.shape[0], NOTHING, stream)


def weight_sums(g: Operand, x: Operand, out: Operand, reduction: str, stream: Any) -> None:
    """③–⑦ for each sample, or their mean or sum over the batch."""
    a, b = Samples(g, 1, stream), Samples(x, 1, stream)
    m, n = g.shape[-1], x.shape[-1]
    over_batch(a.matrix(), b.matrix(), out, 2, a.count, m, n, reduction, stream)


def bias_sums(g: Operand, out: Operand, reduction: str, stream: Any) -> None:
    """⑧–⑪ for each sample, or their mean or sum over the batch: the terms are 1 · g."""
    b = Samples(g, 1, stream)
    over_batch(ONES, b.matrix(), out, 1, b.count, 1, g.shape[-1], reduction, stream)


def over_batch(
    a: Matrix,
    b: Matrix,
    out: Operand,
    own: int,
    K: int,
    rows: int,
    cols: int,
    reduction: str,
    stream: Any,
) -> None:
    """C[r, c] = Σ_k A[k, r] · B[k, c] over K samples, its mean, or its terms.

    A result of one dimension (own = 1) is a C of one row, and A is all ones.
    """
    dtype = str(out.dtype)
    results = Samples(out, own, stream, result=True)
    c = Matrix(results.at, *((0, *results.strides)[-2:]))
    if reduction != "none":
        divisor = K if reduction == "mean" else 0
        a, b = transposed(a), transposed(b)
        contract(dtype, a, b, c, rows, cols, K, divisor=divisor, stream=stream)
    elif count := K * rows * cols:
        if own == 1:  # so that what varies is the row
            a, b, c, rows, cols = b, ONES, transposed(c), cols, rows
        kernel = multiplying(dtype)
        elementwise(kernel, count, stream, a, b, c, results.apart, rows, cols)
    results.close()

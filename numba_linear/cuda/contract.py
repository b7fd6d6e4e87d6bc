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
        batch, self.strides = a.ndim - own, a.strides[a.ndim - own :]
        self.count = math.prod(a.shape[:batch])
        self.at, self.stream = a.address, stream
        self.result: Operand | None = None
        self.apart, rows = 0, 1
        for extent, stride in zip(a.shape[batch - 1 :: -1], a.strides[batch - 1 :: -1], strict=True):
            if batch and self.count and extent > 1:
                if rows == 1:
                    self.apart = stride
                elif stride != rows * self.apart:
                    self._even(a, own, result)
                    return
                rows *= extent

    def _even(self, a: Operand, own: int, result: bool) -> None:
        size = a.dtype.itemsize
        self.place = empty((math.prod(a.shape),), a.dtype, self.stream)
        self.at = operand("", "", "", self.place, self.stream).address
        even = a._replace(address=self.at, strides=strides_of(a.shape, size), owner=self.place)
        self.strides = even.strides[a.ndim - own :]
        self.apart = math.prod(a.shape[a.ndim - own :]) * size
        if result:
            self.result, self.even = a, even
        else:
            copy(even, a, self.stream)

    def matrix(self) -> Matrix:
        """Samples × features."""
        return Matrix(self.at, self.apart, self.strides[0])

    def close(self) -> None:
        if self.result is not None:
            copy(self.result, self.even, self.stream)


def matrix(a: Operand) -> Matrix:
    """A two-dimensional operand."""
    return Matrix(a.address, *a.strides)


def per_sample(
    a: Operand, b: Matrix, out: Operand, terms: int, bias: Matrix, stream: Any
) -> None:
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
    """C[r, c] = Σ_k A[k, r] · B[k, c] over K samples, its mean, or its terms; for own = 1, of one
    row."""
    dtype = str(out.dtype)
    if reduction != "none":
        c = Matrix(out.address, *((0,) * (2 - own)), *out.strides)
        divisor = K if reduction == "mean" else 0
        contract(dtype, transposed(a), transposed(b), c, rows, cols, K, divisor=divisor, stream=stream)
        return
    results = Samples(out, own, stream, result=True)
    count = math.prod(out.shape)
    if count:
        c = Matrix(results.at, *((0,) * (2 - own)), *results.strides)
        arguments = (b, a) if own == 1 else (a, b)
        shape = (cols, 1) if own == 1 else (rows, cols)
        if own == 1:
            c = transposed(c)
        elementwise(multiplying(dtype), count, stream, *arguments, c, results.apart, *shape)
    results.close()

"""The layer's sums on the GPU: which operand is which, and the launches of the kernels.

As on the CPU (`cpu/driver.py`), all of them are C[r, c] = Σ_p A[r, p] · B[c, p]:

    forward      Y[k, i]  = Σ_l x[k, l] · w[i, l] + b[i]       A = x        B = w
    grad_input   ∂X[k, l] = Σ_i g[k, i] · w[i, l]              A = g        B = wᵀ
    grad_weight  ∂W[i, l] = Σ_k g[k, i] · x[k, l]  (/ K)       A = gᵀ       B = xᵀ
    grad_bias    ∂b[i]    = Σ_k 1 · g[k, i]        (/ K)       A = ones     B = gᵀ

Nothing here waits for the GPU.
"""

import functools
import math
from typing import Any

import numpy as np

from numba_linear.cpu.matrix import Matrix
from numba_linear.cuda.arrays import Operand, Place, device, strides_of
from numba_linear.cuda.elementwise import copying, merging, multiplying
from numba_linear.cuda.machine import (
    EACH_BLOCKS,
    EACH_THREADS,
    MERGE_SEGMENTS,
    MERGE_SUMS,
    OF_ROW,
    OF_TERM,
    blocks_of,
    cut,
)
from numba_linear.cuda.tile import contraction

NOTHING = Matrix(0, 0, 0)
#: `dtype.name` takes 2 µs.
NAMES = {np.dtype(name): name for name in ("float32", "float64")}
ONES = NOTHING  # the kernels take it for an operand of ones


def transposed(m: Matrix) -> Matrix:
    return Matrix(m.at, m.col, m.row)


def unit_of(m: Matrix) -> tuple[int, int] | None:
    """Which numbers of a float32 operand can be loaded 16 bytes at once, or None."""
    if m.col == 4 and (m.at | m.row) % 16 == 0:
        return OF_ROW
    if m.row == 4 and (m.at | m.col) % 16 == 0:
        return OF_TERM
    return None


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
    *,
    place: Place,
) -> None:
    """C from A (rows × terms) and B (cols × terms), plus the bias, divided by the divisor."""
    if rows == 0 or cols == 0:
        return
    # Tiles are taller than wide, except the one for a single row.
    if a != ONES and ((1 < rows < cols) or cols == 1):
        a, b, c, bias = b, a, transposed(c), transposed(bias)
        rows, cols = cols, rows
    processors = device.processors(place.ordinal)
    tile, part_terms, at_once = cut(dtype, rows, cols, terms, processors)
    if tile.spare:
        units = unit_of(a), unit_of(b)
        if None in units:
            tile, part_terms, at_once = cut(dtype, rows, cols, terms, processors, False)
        else:
            tile = tile._replace(units=units)
    blocks = blocks_of(tile, rows, cols)
    parts = max(1, -(-terms // part_terms))
    kernel, sizes = contraction(tile), (rows, cols)
    if parts == 1:
        arguments = (*sizes, terms, part_terms, 0, float(divisor))
        device.launch(kernel, blocks, place, (a, b, c, bias), *arguments)
        return
    # Each part has a C of its own in the workspace, a stack: a launch pushes its parts, which are
    # merged into one, and this is merged with those below as a binary counter carries.
    launches = -(-parts // at_once)
    slots = min(parts, at_once) + (launches - 1).bit_length()
    slot_bytes = rows * cols * tile.size
    work = device.Memory(place, slots * slot_bytes)
    pending = 0

    def slot(i: int) -> Matrix:
        return Matrix(work.address + i * slot_bytes, cols * tile.size, tile.size)

    def merge(count: int, last: bool) -> None:
        """Merge the topmost C's into the lowest of them, or, at the end, into C itself."""
        segment = 1
        while segment * MERGE_SEGMENTS < count:
            segment *= 2
        first = slot(pending - count)
        to, end = ((c, bias), float(divisor)) if last else ((first, NOTHING), 0.0)
        numbers = (first.at, slot_bytes, count, segment, *sizes, end)
        device.launch(merging(dtype), -(-rows * cols // MERGE_SUMS), place, to, *numbers)

    for q in range(launches):
        first = q * at_once
        count = min(at_once, parts - first)
        some_terms = min(terms - first * part_terms, count * part_terms)
        operands = (along(a, first * part_terms), along(b, first * part_terms))
        arguments = (*sizes, some_terms, part_terms, slot_bytes, 0.0)
        device.launch(
            kernel, count * blocks, place, (*operands, slot(pending), NOTHING), *arguments
        )
        pending += count
        if count > 1:
            merge(count, last=launches == 1)
            pending -= count - 1
        carries = q.bit_count() if q == launches - 1 else (~q & q + 1).bit_length() - 1
        for i in range(carries):
            merge(2, last=q == launches - 1 and i == carries - 1)
            pending -= 1


def along(m: Matrix, terms: int) -> Matrix:
    """A matrix, or ones, from term `terms` on."""
    return m if m == ONES else Matrix(m.at + terms * m.col, m.row, m.col)


def elementwise(kernel: Any, count: int, place: Place, groups: Any, *numbers: int) -> None:
    blocks = min(EACH_BLOCKS, -(-count // EACH_THREADS))
    device.launch(kernel, blocks, place, groups, *numbers, count)


def copy(to: Operand, source: Operand, place: Place) -> None:
    count = math.prod(to.shape)
    if count:
        groups = (to.strides, source.strides, to.shape)
        kernel = copying(NAMES[to.dtype], to.ndim)
        elementwise(kernel, count, place, groups, to.address, source.address)


class Samples:
    """An operand as evenly strided samples.

    The samples of a batch of two or more dimensions may not be evenly strided. They are then
    copied to memory where they are; `close` copies those of a result back.

    Attributes
    ----------
    count : int
    at : int
        The address of sample 0.
    apart : int
        Bytes from one sample to the next.
    strides : tuple of int
        The strides within a sample.
    """

    def __init__(self, a: Operand, own: int, place: Place, result: bool = False) -> None:
        self.a, self.even, self.place, self.result = a, a, place, result
        first = len(a.shape) - own
        apart: int | None
        if first == 1:
            self.count, apart = a.shape[0], a.strides[0]
        else:
            self.count, apart = evenly(a.shape[:first], a.strides[:first])
        if apart is None:
            work = device.Memory(place, math.prod(a.shape) * a.dtype.itemsize)
            strides = strides_of(a.shape, a.dtype.itemsize)
            self.even = a._replace(address=work.address, strides=strides, owner=work)
            apart = strides[first - 1]
            if not result:
                copy(self.even, a, place)
        self.at, self.apart, self.strides = self.even.address, apart, self.even.strides[first:]

    def matrix(self) -> Matrix:
        """Samples × features."""
        return Matrix(self.at, self.apart, self.strides[0])

    def close(self) -> None:
        if self.result and self.even is not self.a:
            copy(self.a, self.even, self.place)


@functools.lru_cache(1024)
def evenly(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, int | None]:
    """The number of samples, and the one stride that steps through all dimensions, or None."""
    apart, rows = 0, 1
    if 0 in shape:
        return 0, apart
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent > 1:
            if rows == 1:
                apart = stride
            elif stride != rows * apart:
                return math.prod(shape), None
            rows *= extent
    return rows, apart


def matrix(a: Operand) -> Matrix:
    """A two-dimensional operand."""
    return Matrix(a.address, *a.strides)


def per_sample(
    a: Operand, b: Matrix, out: Operand, terms: int, bias: Matrix, place: Place
) -> None:
    """C[k, c] = Σ_p A[k, p] · B[c, p] + bias[c] for every sample k."""
    samples, results = Samples(a, 1, place), Samples(out, 1, place, result=True)
    cols = out.shape[-1]
    contract(
        NAMES[a.dtype],
        samples.matrix(),
        b,
        results.matrix(),
        samples.count,
        cols,
        terms,
        bias,
        place=place,
    )
    results.close()


def forward_sums(x: Operand, w: Operand, b: Operand | None, out: Operand, place: Place) -> None:
    bias = NOTHING if b is None else Matrix(b.address, 0, b.strides[0])
    per_sample(x, matrix(w), out, w.shape[1], bias, place)


def input_sums(g: Operand, w: Operand, out: Operand, place: Place) -> None:
    per_sample(g, transposed(matrix(w)), out, w.shape[0], NOTHING, place)


def weight_sums(g: Operand, x: Operand, out: Operand, reduction: str, place: Place) -> None:
    """③–⑦ for each sample, or their mean or sum over the batch."""
    a, b = Samples(g, 1, place), Samples(x, 1, place)
    m, n = g.shape[-1], x.shape[-1]
    over_batch(a.matrix(), b.matrix(), out, 2, a.count, m, n, reduction, place)


def bias_sums(g: Operand, out: Operand, reduction: str, place: Place) -> None:
    """⑧–⑪ for each sample, or their mean or sum over the batch: the terms are 1 · g."""
    b = Samples(g, 1, place)
    over_batch(ONES, b.matrix(), out, 1, b.count, 1, g.shape[-1], reduction, place)


def over_batch(
    a: Matrix,
    b: Matrix,
    out: Operand,
    own: int,
    K: int,
    rows: int,
    cols: int,
    reduction: str,
    place: Place,
) -> None:
    """C[r, c] = Σ_k A[k, r] · B[k, c] over K samples, its mean, or its terms.

    A result of one dimension (own = 1) is a C of one row, and A is all ones.
    """
    dtype = NAMES[out.dtype]
    results = Samples(out, own, place, result=True)
    c = Matrix(results.at, *((0, *results.strides)[-2:]))
    if reduction != "none":
        divisor = K if reduction == "mean" else 0
        a, b = transposed(a), transposed(b)
        contract(dtype, a, b, c, rows, cols, K, divisor=divisor, place=place)
    elif count := K * rows * cols:
        if own == 1:  # so that the features are the rows
            a, b, c, rows, cols = b, ONES, transposed(c), cols, rows
        kernel = multiplying(dtype)
        elementwise(kernel, count, place, (a, b, c), results.apart, rows, cols)
    results.close()

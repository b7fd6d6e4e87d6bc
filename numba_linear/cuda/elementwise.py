"""The other kernels: merging the parts of sums, products that are not summed, copies."""

import functools

import numpy as np
from numba import cuda
from numba.cuda.types import UniTuple

from numba_linear.cpu.matrix import Matrix
from numba_linear.cuda.machine import (
    EACH_THREADS,
    MERGE_LEVELS,
    MERGE_SEGMENTS,
    MERGE_SUMS,
    Number,
)
from numba_linear.cuda.tile import from_number, pending
from numba_linear.cuda.words import (
    FLOAT,
    INT,
    MATRIX,
    NUMBA_TYPES,
    get,
    give,
    int64,
    kernel,
    one,
)


@functools.cache
def merging(dtype):
    """The kernel that adds the parts of sums."""
    NUMBER, SIZE, number = Number(dtype), np.dtype(dtype).itemsize, NUMBA_TYPES[dtype]

    @kernel(
        f"merge {dtype}", MERGE_SUMS * MERGE_SEGMENTS, 1, (MATRIX,) * 2 + (INT,) * 6 + (FLOAT,)
    )
    def merge(c, bias, parts_at, part_bytes, parts, segment, rows, cols, divisor):
        """C, rows × cols, from its parts, each of rows × cols contiguous numbers.

        A part is a node of the rule's tree, and so is an aligned segment of parts. Each thread
        adds one segment of a sum, and the block adds the segments.

        Parameters
        ----------
        c : Matrix
        bias : Matrix
            As in `contract`.
        parts_at, part_bytes, parts : int
            The address of the first part, the distance to the next, and their number.
        segment : int
            Parts in a segment, a power of two.
        rows, cols : int
        divisor : float
        """
        sums = cuda.shared.array((MERGE_SEGMENTS, MERGE_SUMS), number)
        waiting = cuda.local.array(MERGE_LEVELS, number)
        thread = int64(cuda.threadIdx.x)
        beside, s = thread % MERGE_SUMS, thread // MERGE_SUMS
        e = int64(cuda.blockIdx.x) * MERGE_SUMS + beside
        total = number(0)
        if e < rows * cols:
            first = s * segment
            final = min(segment, parts - first) - 1
            for q in range(final + 1):
                total = get(NUMBER, parts_at + (first + q) * part_bytes + e * SIZE)
                levels = pending(q, final)
                level = 0
                while levels >> level:
                    if levels >> level & 1:
                        total = waiting[level] + total
                    level += 1
                if q < final:
                    waiting[level] = total
        sums[s, beside] = total
        cuda.syncthreads()
        reach = 1
        while reach < MERGE_SEGMENTS:
            if s % (2 * reach) == 0 and (s + reach) * segment < parts:
                sums[s, beside] = sums[s, beside] + sums[s + reach, beside]
            cuda.syncthreads()
            reach *= 2
        if s == 0 and e < rows * cols:
            total = sums[0, beside]
            row, col = e // cols, e % cols
            if bias.at != 0:
                total = total + get(NUMBER, from_number(bias, row, col).at)
            if divisor != 0:
                total = total / number(divisor)
            give(NUMBER, from_number(c, row, col).at, total)

    return merge


@functools.cache
def multiplying(dtype):
    """The kernel for products that are not summed."""
    NUMBER, number = Number(dtype), NUMBA_TYPES[dtype]

    @kernel(f"each {dtype}", EACH_THREADS, 1, (MATRIX,) * 3 + (INT,) * 4)
    def each(g, x, out, apart, m, n, count):
        """out[k, i, j] = g[k, i] · x[k, j], a sum of one term; matrix k of out is at k · apart.

        An x at address 0 is all ones. Each thread takes numbers at a fixed stride: it divides once
        for their indices and then counts.
        """
        if x.at == 0:
            x = Matrix(one(NUMBER), int64(0), int64(0))
        stride = int64(cuda.gridDim.x) * EACH_THREADS
        e = int64(cuda.blockIdx.x) * EACH_THREADS + cuda.threadIdx.x
        k, i, j = e // n // m, e // n % m, e % n
        k_step, i_step, j_step = stride // n // m, stride // n % m, stride % n
        while e < count:
            a, b = get(NUMBER, from_number(g, k, i).at), get(NUMBER, from_number(x, k, j).at)
            give(NUMBER, from_number(out, i, j).at + k * apart, cuda.fma(a, b, number(0)))
            e += stride
            k, i, j = k + k_step, i + i_step, j + j_step
            if j >= n:
                j, i = j - n, i + 1
            if i >= m:
                i, k = i - m, k + 1

    return each


@functools.cache
def copying(dtype, ndim):
    """The kernel that copies arrays of any strides."""
    NUMBER = Number(dtype)
    sizes = UniTuple(INT, ndim)

    @kernel(f"copy {dtype} {ndim}", EACH_THREADS, 1, (sizes,) * 3 + (INT,) * 3)
    def copy(to_strides, source_strides, shape, to, source, count):
        stride = int64(cuda.gridDim.x) * EACH_THREADS
        e = int64(cuda.blockIdx.x) * EACH_THREADS + cuda.threadIdx.x
        while e < count:
            into, at, rest = to, source, e
            for d in range(len(shape) - 1, -1, -1):
                i = rest % shape[d]
                rest //= shape[d]
                into += i * to_strides[d]
                at += i * source_strides[d]
            give(NUMBER, into, get(NUMBER, at))
            e += stride

    return copy

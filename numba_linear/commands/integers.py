"""Numbers made from integers alone, the same on every machine and with every version of NumPy.

A random generator's streams may change between versions. SplitMix64 is ten operations on 64-bit
integers, and an integer of 24 or 53 bits is exactly a float32 or float64.
"""

import numpy as np
from numpy.typing import DTypeLike, NDArray


def integers(seed: int, count: int) -> NDArray[np.uint64]:
    """The first `count` numbers of one stream of SplitMix64; each seed has its own stream."""
    z = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)
    z *= np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def floats(seed: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.floating]:
    """Floats in [-1, 1) that use the whole significand, so that their products and sums round."""
    dtype = np.dtype(dtype)
    bits = np.finfo(dtype).nmant + 1
    z = integers(seed, int(np.prod(shape))) >> np.uint64(64 - bits)
    half = 1 << (bits - 1)
    return ((z.astype(np.int64) - half).astype(dtype) / dtype.type(half)).reshape(shape)


def permutation(seed: int, count: int) -> NDArray[np.intp]:
    """The numbers 0 to count - 1 in an order that depends on the seed alone."""
    return np.argsort(integers(seed, count), kind="stable")

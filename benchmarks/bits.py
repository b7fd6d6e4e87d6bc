"""The promise of bits: a number that never changes, whatever the engine does."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numba_linear
from benchmarks.common import DTYPES, THREADS, set_threads
from numba_linear.commands.integers import floats

SHAPES = ((1, 7, 5), (14, 32, 16), (29, 300, 47), (261, 33, 34), (40, 515, 18), (3, 1100, 130))


def results(calls: Any, dtype: str, **keywords: Any) -> Iterator[Any]:
    """Every array that `calls`, the package or its equations, computes from fixed operands."""
    for K, n, m in SHAPES:
        shapes = ((K, n), (m, n), (m,), (K, m))
        x, w, b, g = (floats(seed, shape, dtype) for seed, shape in enumerate(shapes))
        yield calls.forward(x, w, b, **keywords)
        yield calls.forward(x, w, **keywords)
        yield calls.grad_input(g, w, **keywords)
        for reduction in ("mean", "sum", "none"):
            yield calls.grad_weight(g, x, reduction, **keywords)
            yield calls.grad_bias(g, reduction, **keywords)


def digest(arrays: Iterator[Any]) -> int:
    """The first 48 bits of a SHA-256: a whole number that JSON and the graphs hold exactly."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.shape} {array.dtype.name}".encode())
        sha.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return int.from_bytes(sha.digest()[:6])


class Bits:
    version = "1"
    params = (DTYPES, THREADS)
    param_names = ("dtype", "threads")
    unit = "digest of all results"
    timeout = 600

    def setup(self, dtype, threads):
        set_threads(threads)

    def track_bits(self, dtype, threads):
        return digest(results(numba_linear, dtype, parallel=threads > 1))

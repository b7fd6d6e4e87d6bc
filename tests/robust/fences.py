"""Every call with arrays between pages whose access crashes the process.

Arguments: how many random shapes, and the seed.
"""

import ctypes
import itertools
import mmap
import sys

import numpy as np
from operations import OPERATIONS, operands, parts, values

from numba_linear import (
    Accumulator,
    Gradients,
    accumulate,
    accumulated,
    accumulator,
    backward,
)

PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
kept = []


def fenced(a, order, end):
    """A copy of `a` in that order that begins, or ends, at a fence."""
    inside = -(-a.nbytes // PAGE) * PAGE
    memory = mmap.mmap(-1, inside + 2 * PAGE)
    first = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for fence in (first, first + PAGE + inside):
        assert libc.mprotect(fence, PAGE, 0) == 0
    kept.append(memory)
    at = PAGE + (inside - a.nbytes if end else 0)
    copy = np.ndarray(a.shape, a.dtype, memory, at, order=order)
    copy[...] = a
    return copy


rng = np.random.default_rng(int(sys.argv[2]))
sizes = [1, 2, 3, 5, 8, 12, 15, 16, 17, 20, 31, 33, 47, 70]
shapes = [tuple(map(int, rng.choice(sizes, 3))) for _ in range(int(sys.argv[1]))]
shapes += [(1, 700, 40), (3, 300, 20), (300, 20, 9), (100, 24, 24), (2, 30, 2100)]
# few rows and columns beside each half and quarter of a vector, of weights whose rows are long too
shapes += [(16, 20, 9), (64, 100, 4), (13, 20, 5), (16, 20, 6), (9, 600, 7), (64, 3, 9)]
# a few columns beyond whole vectors
shapes += [(16, 20, 10), (16, 20, 17), (9, 31, 20), (24, 33, 35), (10, 20, 41)]
shapes += [(2, 11008, 33)]  # blocks of rows lower than a tile of their sums is wide
for (K, n, m), dtype in itertools.product(shapes, (np.float32, np.float64)):
    plain = operands(K, n, m, dtype)
    for order, end in itertools.product("CF", (False, True)):

        def fenced_values(*like, order=order, end=end):
            return fenced(values(*like), order, end)

        fences = operands(K, n, m, dtype, fenced_values)
        for name, operation in OPERATIONS.items():
            want = operation(plain)
            out = [fenced(np.zeros_like(part), order, end) for part in parts(want).values()]
            out = Gradients(*out) if len(out) == 3 else out[0]
            got = operation(fences, out=out, parallel=bool(K % 2))
            for part, wanted in parts(want).items():
                assert parts(got)[part].tobytes() == wanted.tobytes(), (name, K, n, m, dtype)
        acc = Accumulator(*(fenced(a, "C", end) for a in accumulator(plain.w, K)))
        want = backward(plain.g, plain.x, None)
        for size in (1, 7, 100):
            acc.samples[0] = 0
            for k in range(0, K, size):
                g, x = (fenced(a[k : k + size], order, end) for a in (plain.g, plain.x))
                accumulate(acc, g, x, parallel=bool(K % 2))
            got = accumulated(acc)
            assert got.weight.tobytes() == want.weight.tobytes(), (size, K, n, m, dtype)
            assert got.bias.tobytes() == want.bias.tobytes(), (size, K, n, m, dtype)
    kept.clear()

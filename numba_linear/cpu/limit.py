"""The machine's multiply-add limit: the rate of a tile that never leaves the registers."""

import time

import numpy as np
from numba import types

from numba_linear.cpu.fragment import outer, row_bytes, store, zero
from numba_linear.cpu.machine import largest_tile, tiling_for, tiling_of
from numba_linear.jit.resident import resident
from numba_linear.operand import Operand, address

STEPS = 1 << 21


@resident(no_cpython_wrapper=False)
def spin(numbers: Operand, steps):
    """`steps` steps of the largest tile on the same operands, which stay in registers."""
    tiling = tiling_of(numbers)
    acc = zero(largest_tile(tiling))
    for _ in range(steps):
        acc = outer(acc, address(numbers), 0, address(numbers))
    store(acc, address(numbers), row_bytes(tiling))


def flops(dtype: np.typing.DTypeLike) -> float:
    """Floating-point operations per second of one thread, measured in about 0.1 s.

    A multiply-add counts as two. The best of several short runs counts, since others may share the
    machine.
    """
    dtype = np.dtype(dtype)
    kind = {"float32": types.float32, "float64": types.float64}[dtype.name]
    tiling = tiling_for(kind)
    numbers = np.zeros(tiling.rows * tiling.columns, dtype)
    run = spin.resident.entry(Operand(kind))
    best = np.inf
    for _ in range(10):
        begin = time.perf_counter()
        run(numbers, STEPS)
        best = min(best, time.perf_counter() - begin)
    return float(2 * STEPS * numbers.size / best)

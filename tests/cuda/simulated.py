"""Runs the calls in Numba's CUDA simulator and compares them with the equations.

For a process with NUMBA_ENABLE_CUDASIM=1. The simulator's own multiply-add rounds twice, and its
shared arrays may be made twice where two threads ask at once; both are put right here.
"""

import sys
import threading
import warnings

import cuda_operations
import numpy as np
from cuda_operations import host, on
from exact import fma
from numba import cuda
from numba.cuda.simulator import kernelapi
from operations import DTYPES, OPERATIONS, assert_result, expected, operands

import numba_linear.cuda as nl
from numba_linear.cpu.rule import LEAF
from numba_linear.cuda import contract
from numba_linear.cuda.machine import LARGE, Cut

NAMES = ("forward", "backward mean", "backward none")
SHAPES = [
    (1, 1, 1),
    (1, 16, 3),
    (1, 257, 5),
    (2, 3, 1),
    (3, 15, 33),
    (5, 17, 65),
    (2, 256, 31),
    (3, 513, 4),
    (257, 2, 3),
    (0, 3, 4),
    (3, 0, 4),
]


def repair():
    """Make the simulator's multiply-add exact, and its shared arrays one to a block."""
    lock, array = threading.Lock(), kernelapi.FakeCUDAShared.array

    def locked(self, *arguments):
        # The simulator tells shared arrays apart by the line that asks for them: this one.
        with lock:
            return array(self, *arguments)

    kernelapi.FakeCUDAShared.array = locked
    kernelapi.FakeCUDAModule.fma = lambda self, a, b, c: fma(a, b, c)


def check(name, given, label):
    got = host(cuda_operations.OPERATIONS[name](on(cuda, given)))
    assert_result(f"{name} {label}", got, expected(OPERATIONS[name], given))


def shapes(dtype):
    for shape in SHAPES:
        for name in NAMES:
            if shape[0] or OPERATIONS[name].reduction != "mean":
                check(name, operands(*shape, dtype), shape)
                yield


def cuts(dtype):
    """Sums in parts, and large tiles, whole and not."""
    processors, cut = contract.processors, contract.cut
    contract.processors = lambda: 1000
    check("forward", operands(3, 700, 5, dtype), "in parts")
    yield
    check("grad_bias mean", operands(700, 1, 3, dtype), "in parts")
    yield
    contract.processors = processors
    tile = LARGE[np.dtype(dtype).name, 3]
    contract.cut = lambda *_: Cut(tile, LEAF << tile.levels)
    check("forward", operands(tile.shape[0], 9, tile.shape[1], dtype), "a whole large tile")
    yield
    contract.cut = cut


def calls(dtype):
    for name in OPERATIONS:
        for batch in ((), (2, 2)):
            check(name, operands(batch, 3, 2, dtype), batch)
            yield


def streams(dtype):
    given = on(cuda, operands(2, 3, 2, dtype))
    y = nl.forward(given.x, given.w, stream=cuda.stream())
    assert (y.copy_to_host() == nl.forward(given.x, given.w).copy_to_host()).all()
    out = cuda.device_array(y.shape, dtype)
    assert nl.forward(given.x, given.w, out=out) is out
    assert (out.copy_to_host() == y.copy_to_host()).all()
    yield


if __name__ == "__main__":
    # Infinity and NaN are as good as other numbers, also in the simulator's threads.
    warnings.simplefilter("ignore", RuntimeWarning)
    repair()
    dtype = {dtype.__name__: dtype for dtype in DTYPES}[sys.argv[1]]
    for part in (shapes, cuts, calls, streams):
        print(part.__name__, sum(1 for _ in part(dtype)))

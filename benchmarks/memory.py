"""Peak memory of the whole process, operands and all."""

import numpy as np

import numba_linear
from benchmarks.common import peers, set_threads
from numba_linear.commands.integers import floats


def _operand(seed, shape, dtype):
    """Copies of one block of numbers: to make them all at once would itself be the peak."""
    return np.resize(floats(seed, (64, shape[-1]), dtype), shape)


class Memory:
    version = "1"
    params = (("numba_linear", "numpy"), ((4096, 768, 3072), (1, 4096, 4096)))
    param_names = ("implementation", "shape")
    timeout = 600

    def setup_cache(self):
        # asv runs this in a process of its own, so the memory of compiling is not counted.
        self._run("numba_linear", (1, 4, 4))

    def setup(self, implementation, shape):
        set_threads(1)

    def peakmem_backward(self, implementation, shape):
        self._run(implementation, shape)

    def _run(self, implementation, shape):
        K, n, m = shape
        x = _operand(1, (K, n), "float32")
        w = _operand(2, (m, n), "float32")
        g = _operand(3, (K, m), "float32")
        names = vars(numba_linear) | {"x": x, "w": w, "g": g, "K": K}
        tables = {"numba_linear": peers.OURS, "numpy": peers.NUMPY}
        exec(tables[implementation]["backward"], names)

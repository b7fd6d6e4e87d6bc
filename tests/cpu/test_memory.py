"""Working memory is bounded by the caches, not by the operands."""

from processes import finish, start

SCRIPT = """
import resource
import numpy as np
import numba_linear
from numba import float32
from numba_linear.cpu.machine import tiling_for

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

x, w = np.ones((2048, 8192), np.float32), np.ones((2048, 8192), np.float32)
g, dw = np.ones((2048, 2048), np.float32), np.ones((2048, 8192), np.float32)
y, dx = np.ones((2048, 2048), np.float32), np.ones((2048, 8192), np.float32)
some = np.s_[:8]
numba_linear.forward(x[some], w, out=y[some], parallel=False)
numba_linear.backward(
    g[some], x[some], w, out=numba_linear.Gradients(dx[some], dw, np.ones(2048, np.float32)),
    parallel=False,
)
before = peak()
numba_linear.forward(x, w, out=y, parallel=False)
numba_linear.grad_input(g, w, out=dx, parallel=False)
numba_linear.grad_weight(g, x, out=dw, parallel=False)
tiling = tiling_for(float32)
print(peak() - before, 2 * (tiling.a_bytes + tiling.b_bytes))
"""


def test_a_large_contraction_takes_no_more_than_the_documented_bound():
    (output,) = finish(start("-c", SCRIPT))
    extra, bound = map(int, output.split())
    assert extra <= bound

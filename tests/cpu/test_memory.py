"""Working memory is bounded by the caches, not by the operands."""

import sys

import pytest
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
# few samples whose features lie apart
apart, long, few = np.ones((1 << 20, 16), np.float32).T, np.ones((16, 1 << 20), np.float32), y[:16]
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
numba_linear.forward(apart, long, out=few[:, :16], parallel=False)
tiling = tiling_for(float32)
print(peak() - before, 2 * (tiling.a_bytes + tiling.b_bytes))
"""


def test_a_large_contraction_takes_no_more_than_the_documented_bound():
    (output,) = finish(start("-c", SCRIPT))
    extra, bound = map(int, output.split())
    assert extra <= bound


NONE_LEFT = """
import resource
import numpy as np
from numba import njit
from numba_linear import forward, grad_weight

def in_use():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmSize")]
    return int(line.split()[1]) << 10

@njit
def compiled(x, w, y):
    forward(x, w, out=y)

# so large that no block of them fits what is left below
x, w, y = (np.ones((800, 800)) for _ in range(3))
batches = x.reshape(20, 40, 800)[:, ::2]  # whose samples do not lie evenly
calls = [
    lambda: forward(x, w, out=y, parallel=False),
    lambda: forward(x, w, out=y, parallel=True),
    lambda: forward(x, w, x[:, 0], out=y[:, ::-1]),
    lambda: grad_weight(batches, batches, out=y),
    lambda: compiled(x, w, y),
]
for call in calls:
    call()
resource.setrlimit(resource.RLIMIT_AS, (in_use(), resource.RLIM_INFINITY))
taken = []
for size in (1 << 20, 1 << 16):
    try:
        while True:
            taken.append(bytearray(size))
    except MemoryError:
        pass
words = []
for call in calls:
    try:
        call()
        words.append("no error")
    except MemoryError as error:
        words.append(str(error))
del taken
print(*words, sep="\\n")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="sets Linux's limit of memory")
def test_without_memory_to_work_in_a_call_raises():
    (output,) = finish(start("-c", NONE_LEFT))
    operations = 3 * ["forward"] + ["grad_weight", "forward"]
    assert output.splitlines() == [
        f"{operation}: there is no memory to work in" for operation in operations
    ]

"""Children of a process whose kernels ran: fork, spawn, forkserver, pools and joblib."""

import sys

import pytest
from layers import FORKED, LAYERS, on_layer
from processes import finish, start
from scale import FULL

CHILD = """
import os
import signal
import sys
import threading

import numba
import numpy as np
from numba import njit

from numba_linear import forward, grad_weight

rng = np.random.default_rng(0)
large = [rng.normal(size=shape).astype(np.float32) for shape in [(300, 200), (250, 200), 250]]
tall = [rng.normal(size=shape).astype(np.float32) for shape in [(20000, 8), (20000, 9)]]


def same(got, want):
    assert (got == want).all()


@njit
def inside(x, w, b):
    return forward(x, w, b, parallel=True)


def child(work):
    pid = os.fork()
    if pid == 0:
        signal.alarm(900)  # hanging is failing; an emulated child compiles for minutes
        try:
            work()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
"""

FORK = """
same(forward(*large), forward(*large, parallel=False))
want = forward(*large), grad_weight(*tall), inside(*large)
assert numba.threading_layer() == sys.argv[1]


def work():
    for _ in range(3):
        same(forward(*large), want[0])
        same(grad_weight(*tall, parallel=True), want[1])
        same(inside(*large), want[2])


child(work)
child(lambda: child(work))  # a child's child
thread = threading.Thread(target=child, args=(work,))  # a fork that is not the main thread's
thread.start()
thread.join()
work()
"""

BEFORE = """
# The layer is not started yet: a child starts its own, with its own threads.
def work():
    same(forward(*large), forward(*large, parallel=False))
    if sys.argv[1] == "omp":
        assert len(os.listdir("/proc/self/task")) > 1


child(work)
work()
child(lambda: same(forward(*large), forward(*large, parallel=False)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.parametrize("layer", LAYERS)
def test_fork(layer):
    """GNU OpenMP kills a forked child that launches, so there a call runs on one thread."""
    on_layer(layer, CHILD + FORK, layer)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_fork_before_a_kernel_ran():
    on_layer("omp", CHILD + BEFORE, "omp")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc; only there a launch kills")
def test_fork_before_the_package_was_imported():
    """By a parent with its own parallel code. Without a fork there are threads as usual."""
    program = """
import os
import sys

import numba
import numpy as np


@numba.njit(parallel=True)
def own(a):
    for i in numba.prange(len(a)):
        a[i] += i


def work(forked):
    from numba_linear import forward
    from numba_linear.cpu import launch

    x = np.ones((300, 200))
    for parallel in (True, None):
        assert (forward(x, x, parallel=parallel) == 200).all()
    assert launch.forked == forked
    assert launch.TOKEN.value == (launch.HELD if forked else launch.FREE)


own(np.ones(100))
if sys.argv[1] == "fork":
    pid = os.fork()
    if pid == 0:
        work(True)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
work(False)
"""
    on_layer("omp", program, "fork")
    on_layer("omp", program, "stay")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_fork_while_another_thread_compiles(tmp_path):
    """The fork waits, or the child would wait for ever for the compiler's locks."""
    program = """
def compile_and_call():
    x = np.ones((3, 4))
    assert (forward(x, x) == 4).all()


thread = threading.Thread(target=compile_and_call)
thread.start()
thread.join(float(sys.argv[1]))
assert thread.is_alive()
child(compile_and_call)
thread.join()
"""
    for delay in (0.2, 0.7, 1.5, 3) if FULL else (0.7,):
        folder = str(tmp_path / str(delay))
        finish(start("-W", FORKED, "-c", CHILD + program, delay, NUMBA_CACHE_DIR=folder))


POOLS = """
import concurrent.futures
import multiprocessing
import sys

import numpy as np

from numba_linear import forward

rng = np.random.default_rng(0)
x, w = rng.normal(size=(300, 200)), rng.normal(size=(250, 200))


def work(k):
    return forward(x, w)[k]


if __name__ == "__main__":
    want = forward(x, w)
    rows = range(0, 300, 50)
    for method in sys.argv[1:]:
        context = multiprocessing.get_context(method)
        if method != "spawn":
            with context.Pool(2) as pool:
                got = pool.map(work, rows)
            assert (np.array(got) == want[::50]).all(), method
        if method != "forkserver":
            with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
                got = list(pool.map(work, rows))
            assert (np.array(got) == want[::50]).all(), method
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert (np.array(list(pool.map(work, rows))) == want[::50]).all()
"""


def test_pools(tmp_path):
    script = tmp_path / "pools.py"
    script.write_text(POOLS)
    methods = ["spawn"] if sys.platform == "win32" else ["fork", "forkserver", "spawn"]
    finish(start("-W", FORKED, script, *methods))


ERRORS = """
import multiprocessing
import re
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from numba import njit

from numba_linear import forward, grad_weight
from numba_linear.commands import UserError
from numba_linear.cuda import CudaUnavailableError


@njit
def layer(x, w):
    return forward(x, w)


@njit
def gradient(g, x, reduction, out):
    return grad_weight(g, x, reduction, out)


x = np.ones((2, 3))


def work(case):
    if case == "values":
        layer(x, x.T)
    elif case == "types":
        layer(x, x.astype(np.float32))
    elif case == "reduction":
        gradient(x, x, "max", np.empty((3, 3)))
    elif case == "values, from Python":
        forward(x, x.T)
    elif case == "types, from Python":
        forward(x, [1.0])
    elif case == "CUDA":
        raise CudaUnavailableError("no GPU")
    else:
        raise UserError("no such file")


CASES = (
    "values", "types", "reduction", "values, from Python", "types, from Python", "CUDA", "command"
)


def check(outcome, label):
    for case in CASES:
        try:
            work(case)
        except Exception as error:
            want = error
        try:
            outcome(case)
        except Exception as got:
            assert type(got) is type(want), (label, case, got)
            words = [re.sub("0x[0-9a-f]+", "", str(error)) for error in (got, want)]
            assert words[0] == words[1], (label, case, got)
        else:
            raise AssertionError((label, case))
"""

ERRORS_IN_POOLS = """
if __name__ == "__main__":
    for method in sys.argv[1:]:
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            check(lambda case: pool.apply_async(work, (case,)).get(120), method)
        with ProcessPoolExecutor(2, context) as pool:
            check(lambda case: pool.submit(work, case).result(120), method)
"""

ERRORS_IN_JOBLIB = """
from joblib import Parallel, delayed

if __name__ == "__main__":
    for backend in ("loky", "multiprocessing", "threading"):
        timeout = None if backend == "threading" else 120
        with Parallel(2, backend, timeout=timeout) as jobs:
            check(lambda case: jobs(delayed(work)(each) for each in (case, case)), backend)
"""


def test_errors_leave_a_pool(tmp_path):
    """An error that cannot be unpickled makes `Pool` wait for ever and breaks an executor."""
    script = tmp_path / "errors.py"
    script.write_text(ERRORS + ERRORS_IN_POOLS)
    methods = ["spawn"] if sys.platform == "win32" else ["fork", "forkserver", "spawn"]
    finish(start("-W", FORKED, script, *methods))


def test_errors_leave_joblib(tmp_path):
    pytest.importorskip("joblib")
    script = tmp_path / "errors.py"
    script.write_text(ERRORS + ERRORS_IN_JOBLIB)
    finish(start("-W", FORKED, script))


def test_joblib(tmp_path):
    pytest.importorskip("joblib")
    script = tmp_path / "jobs.py"
    script.write_text("""
import numpy as np
from joblib import Parallel, delayed

from numba_linear import forward

rng = np.random.default_rng(0)
x, w = rng.normal(size=(300, 200)), rng.normal(size=(250, 200))


def work(k):
    return forward(x, w)[k]


if __name__ == "__main__":
    want = forward(x, w)
    for backend in ("loky", "multiprocessing", "threading"):
        got = Parallel(2, backend)(delayed(work)(k) for k in range(0, 300, 50))
        assert (np.array(got) == want[::50]).all(), backend
""")
    finish(start("-W", FORKED, script))

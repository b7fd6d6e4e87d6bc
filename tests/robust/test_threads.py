"""Many threads at once, on every threading layer: no abort, and the same bits."""

import sys
from pathlib import Path

import pytest
from layers import FORKED, LAYERS, on_layer
from processes import finish, start
from scale import FULL

OPERANDS = """
import sys
import threading

import numba
import numpy as np
from numba import njit, prange

from numba_linear import backward, forward, grad_weight

rng = np.random.default_rng(0)
large = [rng.normal(size=shape).astype(np.float32) for shape in [(300, 200), (250, 200), 250]]
small = [a[:3] for a in large]
small[1], small[2] = large[1][:4], large[2][:4]
tall = [rng.normal(size=shape) for shape in [(20000, 8), (20000, 9)]]
want_large = forward(*large, parallel=False)
want_small = forward(*small, parallel=False)
want_tall = grad_weight(*tall, parallel=False)


def same(got, want):
    assert (got == want).all()


def at_once(count, work):
    gate, errors = threading.Barrier(count), []

    def run(i):
        try:
            gate.wait()
            work(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
"""

PYTHON_THREADS = """
@njit(nogil=True)
def inside(x, w, b):
    return forward(x, w, b, parallel=True)


def work(i):
    for _ in range(int(sys.argv[1])):
        same(forward(*large), want_large)
        same(forward(*small), want_small)
        same(grad_weight(*tall), want_tall)
        same(forward(*small, parallel=True), want_small)
        same(inside(*large), want_large)


at_once(8, work)
for _ in range(3):  # and again, where this is the only thread
    same(forward(*large), want_large)
assert numba.threading_layer() == sys.argv[2], numba.threading_layer()
"""

NESTED = """
@njit(parallel=True)
def nested(x, w, b, out):
    for i in prange(len(out)):
        forward(x, w, b, out[i], parallel=True)


@njit(parallel=True)
def beside(x, w, b, a):
    a = a * 2 + 1  # a parallel loop of the caller's own
    return forward(x, w, b, parallel=True), a.sum()


out = np.empty((8, *want_large.shape), np.float32)
for _ in range(int(sys.argv[1])):
    nested(*large, out)
    same(out, want_large)
    y, _ = beside(*large, np.ones(1000))
    same(y, want_large)
"""

BESIDE_THE_USERS_KERNEL = """
@njit(parallel=True, nogil=True)
def own(a):
    for i in prange(len(a)):
        a[i] = np.sqrt(a[i] + i)


def work(i):
    a = np.ones(100_000)
    for _ in range(int(sys.argv[1]) * 5):
        if i == 0:
            own(a)
        else:
            same(forward(*large), want_large)


own(np.ones(10))
at_once(4, work)
"""


NUMBER_OF_THREADS = """
from pathlib import Path


def running():
    return len(list(Path("/proc/self/task").iterdir()))


for threads in (1, 2, 3):
    before = running()
    numba.set_num_threads(threads)
    same(forward(*large), want_large)
    same(grad_weight(*tall, parallel=True), want_tall)
    assert numba.get_num_threads() == threads
    if sys.argv[2] == "omp":  # starts as many more as are asked for
        assert running() - before == (threads > 1), (threads, before, running())


def work(i):
    numba.set_num_threads(1 + i)
    same(forward(*large), want_large)
    assert numba.get_num_threads() == 1 + i


at_once(4, work)
assert numba.get_num_threads() == 3
numba.set_num_threads(4)
"""

THE_ONLY_THREAD = """
import ctypes
import time

from numba_linear.cpu.launch import lock_threads, only_thread, unlock_threads


@njit(nogil=True)
def takes(count):
    taken = 0
    for _ in range(count):
        if lock_threads():
            taken += 1
            unlock_threads()
    return taken


@njit(parallel=True)
def in_prange(count):
    taken = 0
    for _ in prange(count):
        taken += only_thread()
    return taken


def seconds(count):
    start = time.perf_counter()
    assert takes(count) == count
    return time.perf_counter() - start


same(forward(*large), want_large)
assert takes(1) == 1 and in_prange(100) == 0
print(min(seconds(100_000) for _ in range(20)) / 100_000 * 1e9)

# A thread of Python's, and one that enters Python from C and that `threading` never started.
came, go = threading.Event(), threading.Event()


def wait():
    came.set()
    go.wait()


def beside_another(start, join):
    came.clear(), go.clear()
    start()
    came.wait()
    assert takes(1) == 0
    same(forward(*large), want_large)
    go.set()
    join()
    assert takes(1) == 1


thread = threading.Thread(target=wait)
beside_another(thread.start, thread.join)

routine = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _: wait())
libc, foreign = ctypes.CDLL(None), ctypes.c_void_p()
beside_another(
    lambda: libc.pthread_create(ctypes.byref(foreign), None, routine, None),
    lambda: libc.pthread_join(foreign, None),
)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="starts a thread with pthread_create")
def test_who_may_enter_workqueue():
    """Python's only thread; the check takes far less than a launch's 130 µs."""
    nanoseconds = float(on_layer("workqueue", OPERANDS + THE_ONLY_THREAD))
    assert nanoseconds < 100


@pytest.mark.parametrize("layer", LAYERS)
def test_threads(layer):
    """Python's threads, the caller's prange and parallel loops; the number of threads is honoured
    and left unchanged.
    """
    program = OPERANDS + NUMBER_OF_THREADS + PYTHON_THREADS + NESTED + BESIDE_THE_USERS_KERNEL
    on_layer(layer, program, "100" if FULL else "3", layer)


def test_first_calls_at_once(tmp_path):
    """Threads that all need code that is not compiled yet, with an empty cache and a full one."""
    program = """
def work(i):
    x, w = np.ones((70, 90)), np.ones((90, 90))
    assert (forward(x, w) == 90).all()

at_once(8, work)
"""
    operands = (
        OPERANDS[: OPERANDS.index("want_large")] + OPERANDS[OPERANDS.index("\n\ndef same") :]
    )
    for _ in range(2):
        finish(start("-c", operands + program, NUMBA_CACHE_DIR=str(tmp_path)))


STOP = """
import os
import signal
import sys
import threading

import numpy as np

from numba_linear import grad_bias


def stop():
    os.kill(os.getpid(), signal.SIGINT)
"""


def test_a_stop_signal_waits_for_the_compiler(tmp_path):
    """A Ctrl-C during LLVM's ownership transfer would crash the process.

    After it the next call is right.
    """
    program = """
timer = threading.Timer(float(sys.argv[1]), stop)
try:
    timer.start()
    grad_bias(np.ones((3, 4)))
    timer.join()
except KeyboardInterrupt:
    print("stopped")
assert (grad_bias(np.ones((3, 4))) == 1).all()
"""
    delays = [i / 50 for i in range(1, 21)] if FULL else [0.06]
    for delay in delays:
        folder = str(tmp_path / str(delay))
        (output,) = finish(start("-c", STOP + program, delay, NUMBA_CACHE_DIR=folder))
        assert output == "stopped\n", delay


@pytest.mark.parametrize("callback", ["cb", "_on_type_disposal"])
def test_no_stop_signal_is_lost(tmp_path, callback):
    """Python drops exceptions in weak references' callbacks, here an import's and Numba's."""
    program = """
def stop_in_it(frame, event, argument):
    if event == "call" and frame.f_code.co_name == sys.argv[1]:
        sys.setprofile(None)
        stop()


try:
    sys.setprofile(stop_in_it)
    grad_bias(np.ones((3, 4)))
except KeyboardInterrupt:
    print("stopped")
"""
    (output,) = finish(start("-c", STOP + program, callback, NUMBA_CACHE_DIR=str(tmp_path)))
    assert output == "stopped\n"


NOT_OURS = """
import _thread
import sys
import time

done = []


def first():
    import threading

    done.append(threading.main_thread().ident)


_thread.start_new_thread(first, ())
while not done:
    time.sleep(0.01)

import signal
import threading

import numpy as np

from numba_linear import backward, forward

strange = threading.main_thread().ident != threading.get_ident()
x = np.ones((4, 3))


def work():
    assert (forward(x, x) == 3).all()
    assert (backward(x[:, :2], x, np.ones((2, 3))).bias == 1).all()


if sys.argv[1] == "main":
    work()
else:
    _thread.start_new_thread(lambda: (work(), done.append(0)), ())
    while len(done) < 2:
        time.sleep(0.01)
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
print(strange or sys.version_info >= (3, 13))
"""

SET_IN_C = """
import ctypes
import signal

import numpy as np

ctypes.CDLL(None).signal(signal.SIGINT, ctypes.c_void_p(1))  # SIG_IGN, of which Python knows not

from numba_linear import forward

x = np.ones((4, 3))
assert (forward(x, x) == 3).all()
"""


@pytest.mark.parametrize("caller", ["main", "other"])
def test_a_main_thread_that_is_not_ours(caller):
    """Another thread may have imported `threading` first, as in an embedding program.

    Only Python's main thread may handle signals, and `threading` may take another for it.
    """
    (known,) = finish(start("-c", NOT_OURS, caller))
    assert known == "True\n"


@pytest.mark.skipif(sys.platform == "win32", reason="calls into libc")
def test_a_handler_of_ctrl_c_that_python_does_not_know():
    finish(start("-c", SET_IN_C))


ODD_HOST = """
import ctypes
import logging

import numba
import numpy as np

# A name that is no text, as the kernel's cut after fifteen bytes may leave one.
ctypes.CDLL(None).prctl(15, b"\\xd0\\xbe) \\xff(", 0, 0, 0)


def record(*arguments, **keywords):
    raise ValueError("the program's own records want more")


logging.setLogRecordFactory(record)
numba.get_num_threads()  # starts the layer, so that the import looks at the process

from numba_linear import forward
from numba_linear.cpu import launch

assert not launch.forked
assert (forward(np.ones((300, 200)), np.ones((300, 200)), parallel=True) == 200).all()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux names processes so")
def test_a_host_with_a_name_and_a_log_of_its_own():
    """The check for a fork at import never makes the import fail."""
    finish(start("-c", ODD_HOST))


SMALL_STACK = """
import sys
import threading

import numpy as np
from operations import DTYPES, OPERATIONS, operands


def every_operation():
    for dtype in DTYPES:
        for K, n, m in ((1, 3, 2), (64, 64, 64), (300, 520, 200), (1, 4096, 64), (2000, 16, 8)):
            given = operands(K, n, m, dtype)
            for name, operation in OPERATIONS.items():
                if not name.endswith("none") or K * n * m < 1 << 21:
                    operation(given, parallel=False)
                    operation(given, parallel=True)


def in_a_thread(stack):
    done = []
    threading.stack_size(stack << 10)
    thread = threading.Thread(target=lambda: done.append(every_operation()))
    thread.start()
    thread.join()
    assert done


in_a_thread(128)  # which reads the code, or compiles it
in_a_thread(64)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="tried on Linux alone")
def test_small_stacks():
    """musl gives a thread 128 KiB; the page on threads promises to need even less."""
    finish(start("-c", SMALL_STACK, PYTHONPATH=str(Path(__file__).parents[1])))


OTHER_TEAM = """
import ctypes
import os
import signal
import sys

import numpy as np

team = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda data: None)
try:
    ctypes.CDLL("libgomp.so.1").GOMP_parallel(team, None, 2, 0)
except OSError:
    sys.exit(0)  # there is no GNU OpenMP

from numba_linear import forward

x = np.ones((300, 200))
pid = os.fork()
if pid == 0:
    signal.alarm(300)
    assert (forward(x, x, parallel=False) == 200).all()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert (forward(x, x) == 200).all()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="calls GNU OpenMP")
def test_fork_after_another_library_ran_openmp():
    """A launch in the child would wait for ever, as Numba's own does; one thread works."""
    finish(start("-W", FORKED, "-c", OTHER_TEAM))

"""An interrupt of compiling or reading the cache is raised unchanged, and the next call works."""

import numpy as np
import pytest
from processes import finish, start
from scale import FULL

from numba_linear import equations

# Each child is forked before the first call, interrupts that call, and calls again.
CHILDREN = """
import os
import signal
import sys
import threading
import time

import numba
import numpy as np

from numba_linear import backward, forward

x = np.arange(12.0).reshape(4, 3) / 7
w = np.arange(6.0).reshape(2, 3) / 3
g = np.arange(8.0).reshape(4, 2) / 5
*want, count = sys.argv[1:]
numba.njit(lambda a: a * 2)(x)  # Numba itself is loaded before


class Alarm(Exception):
    pass


class Late(TimeoutError):  # an OSError, as a missing file is
    pass


class Wrong(ValueError):
    pass


class Key(KeyError):
    pass


def works():
    got = forward(x, w), backward(g, x, w).weight
    return [a.tobytes().hex() for a in got] == want


def in_children(moments, child):
    for moment in moments:
        pid = os.fork()
        if not pid:
            try:
                child(moment)
            except BaseException as error:
                sys.stderr.write(f"{moment}: {error!r}\\n")
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        assert status == 0, moment


def interrupted(moment):
    seconds, error = moment
    came = []

    def handler(*_):
        came.append(error)
        raise error("this very one")

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    raised = None
    try:
        forward(x, w)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Exception as caught:
        raised = caught
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert (type(raised) is error and "this very one" in str(raised)) if came else raised is None
    assert signal.getsignal(signal.SIGALRM) is handler
    assert works()
"""

ALARMS = """
begin, end, count = map(float, count.split())
errors = [Alarm, Late, Wrong, Key]
moments = [
    (begin + (end - begin) * i / count, errors[i % len(errors)]) for i in range(int(count))
]
in_children(moments, interrupted)
"""

RECURSION = """
def deep(left):
    return forward(x, w) if left == 0 else deep(left - 1)


def close_to_the_limit(room):
    depth = len([*iter_frames()])
    try:
        deep(sys.getrecursionlimit() - depth - room)
    except RecursionError:
        pass
    assert works()


def iter_frames():
    frame = sys._getframe(1)
    while frame:
        yield frame
        frame = frame.f_back


in_children(range(5, 600, int(count)), close_to_the_limit)
"""

MEMORY = """
def without_memory(moment):
    left = moment

    def trace(frame, event, argument):
        nonlocal left
        if "numba_linear" in frame.f_code.co_filename and event == "call":
            left -= 1
            if left == 0:
                sys.setprofile(None)
                raise MemoryError("this very one")

    raised = None
    sys.setprofile(trace)
    try:
        forward(x, w)
    except MemoryError as error:
        raised = error
    sys.setprofile(None)
    assert left > 0 or str(raised) == "this very one"
    assert works()


in_children(range(1, 4000, int(count)), without_memory)
"""

WARM = "assert works()"


def run(program, count, folder):
    """The equations' results are passed on: each process would have to compile them."""
    x = np.arange(12.0).reshape(4, 3) / 7
    w = np.arange(6.0).reshape(2, 3) / 3
    g = np.arange(8.0).reshape(4, 2) / 5
    want = equations.forward(x, w), equations.grad_weight(g, x, "mean")
    finish(
        start(
            "-c",
            CHILDREN + program,
            *(a.tobytes().hex() for a in want),
            count,
            NUMBA_CACHE_DIR=str(folder),
        )
    )


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    run(WARM, "", folder)
    return folder


def test_alarms_on_a_warm_cache(warm):
    run(ALARMS, f"0.001 0.5 {200 if FULL else 24}", warm)


def test_alarms_on_a_cold_cache(tmp_path):
    """A child reads what the interrupted ones compiled, so each is interrupted elsewhere."""
    run(ALARMS, "0.05 1.5 6", tmp_path)


def test_close_to_the_recursion_limit(warm, tmp_path):
    run(RECURSION, 2 if FULL else 29, warm)
    run(RECURSION, 9 if FULL else 199, tmp_path)


def test_out_of_memory(warm):
    run(MEMORY, 7 if FULL else 197, warm)

"""At scale: random calls, no leak over a million calls, no byte read that was not written."""

import sys
from pathlib import Path

import digest
import fuzz
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import finish, start
from scale import FULL


@pytest.mark.parametrize("seed", range(20) if FULL else [0])
def test_random_calls(seed):
    counts = fuzz.run(6000 if FULL else 3000, seed)
    assert counts["right"] > 1000
    assert len(counts) > len(fuzz.ERRORS) - 3  # the errors happen


@settings(max_examples=200 if FULL else 20)
@given(st.integers(0, 2**63))
def test_random_seeds(seed):
    """With HYPOTHESIS_PROFILE=search, new ones each time."""
    fuzz.run(5, seed)


LEAK = """
import gc
import resource
import sys

import numpy as np

from numba_linear import Gradients, backward, forward, grad_bias, grad_input, grad_weight


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


rng = np.random.default_rng(0)
x, w, b = rng.normal(size=(9, 33)), rng.normal(size=(40, 33)), rng.normal(size=40)
g = rng.normal(size=(9, 40))
cube, batch = rng.normal(size=(3, 4, 33))[::2], rng.normal(size=(3, 4, 40))[::2]
wide, one = rng.normal(size=(2, 5000)), rng.normal(size=5000)  # past what lies on the stack
out = Gradients(np.empty((9, 33)), np.empty((40, 33)), np.empty(40))


def right():
    forward(x, w, b)
    forward(x[0], w[:, ::-1], b[::-1], parallel=True)
    backward(g, x, w)
    backward(g, x, w, "sum", out)
    grad_input(g, w)
    grad_weight(g, x, "none")
    grad_weight(batch, cube)  # copies
    grad_bias(g)
    forward(wide, wide)
    forward(one, wide)
    forward(x, w, out=np.empty((40, 9)).T)


def wrong():
    for call in (
        lambda: forward(x, w.T),
        lambda: forward(x, w, b, x),
        lambda: forward(x, w.astype(np.float32)),
        lambda: backward(g, x, w, "max"),
        lambda: grad_bias(g[:0]),
    ):
        try:
            call()
        except (TypeError, ValueError):
            continue
        raise AssertionError(call)


def repeat(call, count):
    for _ in range(count):
        call()
    gc.collect()
    return resident()


count = int(sys.argv[1])
for call, calls in ((right, 11), (wrong, 5)):
    before = repeat(call, 300)
    after = repeat(call, count // 2 // calls)
    print(call.__name__, after - before)
    assert after - before < 1 << 20, (call, before, after)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_is_flat():
    finish(start("-c", LEAK, "1000000" if FULL else "30000"))


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
def test_poisoned_memory():
    """glibc fills the memory that it returns with a byte: the bits do not depend on it."""
    tests = str(Path(digest.__file__).parent)
    poisons = ("1", "128", "255") if FULL else ("128",)  # the byte is its complement
    started = [
        start(digest.__file__, "package", MALLOC_PERTURB_=p, PYTHONPATH=tests) for p in poisons
    ]
    for output in finish(*started):
        assert output.strip() == digest.of_equations()

"""Numba without its compiler, its OpenMP layer or a C compiler; Python without the GIL.

`noxfile.py` runs the whole suite on the oldest and the newest versions.
"""

import importlib.metadata
import re
import sys
import sysconfig
from pathlib import Path

import pytest
from processes import finish, start

INTERPRETED = """
import sys
import traceback

import numpy as np
from numba import config, njit
from numba_linear import forward
from operations import DTYPES, OPERATIONS, operands, parts

assert config.DISABLE_JIT


@njit
def user(x, w, b):
    return forward(x, w, b, parallel=True)


# shapes on both sides of a leaf; NaN, infinity and overflow on the way
shapes = [((), 3, 2), (4, 5, 3), (257, 2, 1), ((2, 2), 1, 259), (3, 0, 2)]
for name, operation in OPERATIONS.items():
    for dtype in DTYPES:
        for number, shape in enumerate(shapes):
            given = operands(*shape, dtype)
            if number == 1:
                given.x[0, 1], given.w[2, 3], given.g[3] = np.inf, np.nan, np.finfo(dtype).max
            for part, a in parts(operation(given)).items():
                a[np.isnan(a)] = np.nan
                print(name, dtype.__name__, number, part, a.shape, a.tobytes().hex())

given = operands(4, 5, 3, np.float32)
assert (user(given.x, given.w, given.b) == forward(given.x, given.w, given.b)).all()
"""


def test_without_compiling():
    """NUMBA_DISABLE_JIT=1: the equations, interpreted, have the compiled layer's bits."""
    program = INTERPRETED
    tests = str(Path(__file__).parents[1])
    compiled = program.replace("assert config.DISABLE_JIT", "")
    outputs = finish(
        start("-c", program, NUMBA_DISABLE_JIT="1", PYTHONPATH=tests),
        start("-c", compiled, PYTHONPATH=tests),
    )
    assert outputs[0] == outputs[1]
    assert len(outputs[0].splitlines()) == 180


def test_errors_without_compiling():
    """The same words, for every case of `test_errors`."""
    program = """
import test_errors

for case in test_errors.ALL:
    test_errors.test_from_python(*case.values)
for call in (test_errors.call_forward, test_errors.call_grad_input, test_errors.call_grad_weight):
    arguments = test_errors.right(call)
    first = next(iter(arguments))
    arguments["out"] = arguments[first]  # of another shape, or overlapping
    test_errors.raised(call, arguments, ValueError)
x = test_errors.ones(4, 5)
try:
    test_errors.forward(x, test_errors.ones(5, 5), out=x)
except ValueError as error:
    print(error)
"""
    tests = str(Path(__file__).parents[1])
    (output,) = finish(start("-c", program, NUMBA_DISABLE_JIT="1", PYTHONPATH=tests))
    assert output == "forward: out overlaps x in memory; wanted an array of its own\n"


SIMPLE = """
import sys


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in sys.argv[1:]:
            raise ImportError(name)


sys.meta_path.insert(0, Missing())

import numba
import numpy as np
from numba_linear import backward, forward

x, w = np.ones((300, 200)), np.ones((250, 200))
y = forward(x, w)
assert (y == 200).all()
assert (backward(y, x, w, parallel=True).bias == 200).all()
print(numba.threading_layer())
"""


def test_without_openmp():
    """Where libgomp is missing Numba's OpenMP layer does not import."""
    missing = ["numba.np.ufunc.omppool", "numba.np.ufunc.tbbpool"]
    (layer,) = finish(start("-c", SIMPLE, *missing))
    assert layer == "workqueue\n"


@pytest.mark.skipif(sys.platform == "win32", reason="PATH finds libraries too")
def test_without_a_c_compiler(tmp_path):
    """Nothing on PATH: no compiler, linker or shell tool."""
    (layer,) = finish(start("-c", SIMPLE, PATH=str(tmp_path), CC="", CXX=""))
    assert layer in ("omp\n", "tbb\n", "workqueue\n")


def test_the_versions_are_those_of_the_metadata():
    """The suite runs on nothing older than the package allows."""
    needs = importlib.metadata.requires("numba_linear")
    for line in needs:
        found = re.fullmatch(r"(numba|numpy)>=([\d.]+)", line)
        if found:
            oldest = tuple(map(int, found[2].split(".")))
            version = importlib.metadata.version(found[1])
            assert tuple(map(int, re.findall(r"\d+", version)[: len(oldest)])) >= oldest


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has the GIL"
)
def test_without_the_gil():
    finish(start("-c", SIMPLE, PYTHON_GIL="0"))

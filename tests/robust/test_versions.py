"""Numba without its compiler, its OpenMP layer or a C compiler; Python without the GIL.

`noxfile.py` runs the whole suite on the oldest and the newest versions.
"""

import importlib.metadata
import inspect
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
    """The same messages, for every case of `test_errors`."""
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


SWITCHED_ON = """
import numpy as np
from numba import config, njit

from numba_linear import backward, forward

assert config.DISABLE_JIT
x, w = np.random.default_rng(0).normal(size=(2, 5, 300))
y = forward(x, w)
d = backward(y, x, w)
config.DISABLE_JIT = False
assert (forward(x, w) == y).all()  # by the table that held the interpreted call
assert all((a == c).all() for a, c in zip(backward(y, x, w), d))
assert (forward(x, w, parallel=True) == y).all()


@njit
def user(x, w):
    return forward(x, w, parallel=True)


assert (user(x, w) == y).all()
config.DISABLE_JIT = True
assert (forward(x, w) == y).all()
assert forward(x.astype(np.float32), w.astype(np.float32)).dtype == np.float32
config.DISABLE_JIT = False
assert forward(x.astype(np.float32), w.astype(np.float32)).dtype == np.float32

from numba_linear.layer import FORWARD

print(*(type(call).__name__ for call in FORWARD.values()))
"""

SWITCHED_OFF = """
import numpy as np
from numba import config, njit

from numba_linear import forward

x, w = np.random.default_rng(0).normal(size=(2, 5, 300))
y = forward(x, w)
config.DISABLE_JIT = True
large = np.ones((300, 200))
assert (forward(large, large) == 200).all()  # code for threads, and for float32, is new
assert (forward(x, w) == y).all()
assert forward(x.astype(np.float32), w.astype(np.float32)).dtype == np.float32
assert config.DISABLE_JIT == True


@njit
def user(x, w):
    return forward(x, w)


assert (user(x, w) == y).all()  # Python, for it was told so
"""


def test_compiling_is_switched_on_and_off_later():
    """By `numba.config.DISABLE_JIT`, in a program that began with the other setting."""
    outputs = finish(start("-c", SWITCHED_ON, NUMBA_DISABLE_JIT="1"), start("-c", SWITCHED_OFF))
    assert outputs[0] == "builtin_function_or_method builtin_function_or_method\n"


NO_LAYER = """
import sys


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "numba.np.ufunc.tbbpool":
            raise ImportError(name)


sys.meta_path.insert(0, Missing())

import numba
import numpy as np
from numba import config, njit
from numba.core.errors import TypingError

from numba_linear import backward, forward, grad_weight

WORDS = "parallel is {} and Numba can start no threads ("


def refused(error, words, function, *arguments, **keywords):
    try:
        function(*arguments, **keywords)
    except error as raised:
        assert words in str(raised), raised
    else:
        raise AssertionError(words)


@njit
def without(x):
    return forward(x, x)


@njit
def with_threads(x):
    return forward(x, x, parallel=True)


@njit
def either(x, parallel):
    return forward(x, x, parallel=parallel)


x = np.ones((300, 200))
for _ in range(2):
    for parallel in (None, False):
        assert (forward(x, x, parallel=parallel) == 200).all()
        assert (grad_weight(x, x, "sum", parallel=parallel) == 300).all()
        assert (backward(x, x, np.ones((200, 200)), parallel=parallel).bias == 1).all()
    assert (without(x) == 200).all()
    y = np.zeros((300, 300))
    refused(RuntimeError, "forward: " + WORDS.format(True), forward, x, x, None, y, parallel=True)
    assert (y == 0).all()
    refused(RuntimeError, "grad_weight: " + WORDS.format(True), grad_weight, x, x, parallel=True)
    refused(TypingError, "forward: " + WORDS.format(True), with_threads, x)
    refused(TypingError, "forward: " + WORDS.format("of type bool"), either, x, False)
config.THREADING_LAYER = "workqueue"
assert (forward(x, x) == 200).all()
assert (forward(x, x, parallel=True) == 200).all()
assert numba.threading_layer() == "workqueue"
"""


@pytest.mark.parametrize("layer", ["tbb", "no such layer"])
def test_a_threading_layer_that_is_not_there(layer):
    """By default calls run on one thread; only calls that demand threads are refused."""
    finish(start("-c", NO_LAYER, NUMBA_THREADING_LAYER=layer))


CACHED = """
import numpy as np
from numba import njit

from numba_linear import grad_bias


@njit(cache=True)
def mean(g):
    return grad_bias(g, parallel=True)


try:
    print(mean(np.ones((3, 2)))[0], sum(mean.stats.cache_hits.values()))
except RuntimeError as error:
    print(error)
"""


def test_a_cached_caller_without_its_threading_layer(tmp_path):
    """No cache file is dropped for that."""
    script = tmp_path / "user.py"
    script.write_text(CACHED)
    settings = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert finish(start(script, **settings)) == ["1.0 0\n"]
    (refused,) = finish(start(script, NUMBA_THREADING_LAYER="no such layer", **settings))
    assert refused.startswith("numba_linear: Numba can start no threads (The threading layer")
    assert finish(start(script, **settings)) == ["1.0 1\n"]


def test_commands_without_a_threading_layer():
    command = ["-m", "numba_linear"]
    settings = {"NUMBA_THREADING_LAYER": "no such layer"}
    (facts,) = finish(start(*command, "info", **settings))
    assert "none can be started: The threading layer requested" in facts
    process = start(*command, "bench", **settings)
    _, err = process.communicate()
    assert process.returncode == 2
    assert err.startswith("numba_linear: Numba can start no threads (")
    assert err.count("\n") == 1


AHEAD = """
import sys

import numpy as np
from numba import njit
from numba.core.errors import NumbaError
from numba.pycc import CC

from numba_linear import forward

SIGNATURE = "f8[:,::1](f8[:,::1])"


@njit
def helper(x):
    return forward(x, x)


x = np.ones((2, 3))
if sys.argv[2:]:
    helper(x)  # compiled before, for this process
direct, indirect = CC("ahead_direct"), CC("ahead_indirect")


@direct.export("f", SIGNATURE)
def call(x):
    return forward(x, x)


@indirect.export("f", SIGNATURE)
def call_by_way(x):
    return helper(x)


for module in (direct, indirect):
    module.output_dir = sys.argv[1]
    try:
        module.compile()
    except NumbaError as error:
        assert "numba_linear cannot be compiled ahead of time" in str(error), error
        assert "entry.py" not in str(error), error
    else:
        raise AssertionError("built")
assert (forward(x, x) == 3).all()
"""


@pytest.mark.parametrize("before", [[], ["compiled before"]])
def test_compiling_ahead_of_time_is_refused(before, tmp_path):
    """While building: the result could not be imported."""
    pytest.importorskip("setuptools")
    compiler = pytest.importorskip("numba.pycc.compiler")
    if before and "extra_environments" not in inspect.getsource(compiler):
        pytest.skip("this Numba does not look at what was compiled before")
    finish(start("-W", "ignore", "-c", AHEAD, tmp_path, *before))
    assert not list(tmp_path.iterdir())


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
    """Without libgomp Numba's OpenMP layer cannot be imported."""
    missing = ["numba.np.ufunc.omppool", "numba.np.ufunc.tbbpool"]
    (layer,) = finish(start("-c", SIMPLE, *missing))
    assert layer == "workqueue\n"


@pytest.mark.skipif(sys.platform == "win32", reason="PATH finds libraries too")
def test_without_a_c_compiler(tmp_path):
    """Nothing is on PATH: no compiler, linker or shell tool."""
    (layer,) = finish(start("-c", SIMPLE, PATH=str(tmp_path), CC="", CXX=""))
    assert layer in ("omp\n", "tbb\n", "workqueue\n")


def test_the_versions_are_those_of_the_metadata():
    """The suite runs on no older versions than the package allows."""
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

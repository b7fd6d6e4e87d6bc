"""No option of a caller affects the package's code, and none of the package's a caller's."""

import numpy as np
import pytest
from numba.core import options
from numba.core.compiler import Flags
from numba.core.cpu import CPUTargetOptions
from processes import finish, start

from numba_linear import equations
from numba_linear.jit.compiler import INLINED, OPTIONS, PLAIN
from numba_linear.jit.resident import RESIDENTS

#: Flags that no option sets, and what decides them.
DECIDED = {
    "enable_pyobject": "njit: no object mode",
    "enable_pyobject_looplift": "of object mode",
    "enable_looplift": "looplift",
    "force_pyobject": "njit: no object mode",
    "enable_ssa": "Numba's own functions for prange only",
    "no_compile": "the engine's inlined functions",
    "noalias": "prange",
    "dbg_directives_only": "CUDA's lineinfo",
}
#: Options that `njit` itself decides.
OF_NJIT = {"nopython", "forceobj"}


def names_of_options():
    return {
        name
        for name in dir(CPUTargetOptions)
        if isinstance(getattr(CPUTargetOptions, name), options.TargetOptions.Mapping)
    }


def test_every_option_of_numba_is_set():
    assert names_of_options() - OF_NJIT == set(PLAIN)


def test_every_flag_of_numba_is_decided():
    by_option = {getattr(CPUTargetOptions, name).flag_name for name in names_of_options()}
    assert set(Flags.options) - by_option - set(DECIDED) == set()


def test_the_engine_sets_every_option():
    for each in (PLAIN, OPTIONS, INLINED):
        assert set(PLAIN) <= set(each)
    for resident in RESIDENTS.values():
        assert set(PLAIN) <= set(resident.dispatcher.targetoptions)


# The flags of all the package's functions that are compiled during a caller with other flags.
RECORD = """
import sys

import numba
import numpy as np
from numba.core import compiler
from numba.core.compiler import Flags
from numba.core.cpu import FastMathOptions, InlineOptions, ParallelOptions
from numba.core.targetconfig import ConfigStack

from numba_linear import backward, forward, grad_bias, grad_input, grad_weight

HOSTILE = {
    "debuginfo": True, "boundscheck": True, "nrt": True, "fastmath": FastMathOptions(True),
    "error_model": "python", "forceinline": True, "no_rewrites": True, "release_gil": True,
    "dbg_extend_lifetimes": True, "noalias": True,
}
flags = Flags()
for name, value in HOSTILE.items():
    setattr(flags, name, value)

seen = {}
original = compiler.CompilerBase.__init__


def record(self, typingctx, targetctx, library, args, return_type, flags, locals):
    function = sys._getframe(1).f_locals.get("func")
    if getattr(function, "__module__", "").startswith("numba_linear"):
        seen[function.__module__, function.__qualname__] = flags.copy()
    original(self, typingctx, targetctx, library, args, return_type, flags, locals)


compiler.CompilerBase.__init__ = record


@numba.njit
def user(g, x, w, b):
    forward(x, w, b)
    grad_input(g, w)
    grad_weight(g, x, parallel=True)
    grad_bias(g)
    return backward(g, x, w)


g, x, w, b = np.ones((3, 4)), np.ones((3, 5)), np.ones((4, 5)), np.ones(4)
with ConfigStack().enter(flags):
    user(g, x, w, b)

assert len(seen) > 50, len(seen)
for name, given in seen.items():
    assert not given.fastmath.flags, name
    assert not given.debuginfo and not given.boundscheck and not given.no_rewrites, name
    assert given.release_gil and not given.dbg_extend_lifetimes, name
    assert given.error_model == ("python" if name[0] == "numba_linear.layer" else "numpy"), name
print(len(seen))
"""


def test_no_flag_is_inherited(tmp_path):
    finish(start("-c", RECORD, NUMBA_CACHE_DIR=str(tmp_path)))


CALLS = {
    "njit": "@njit(fastmath=True)\ndef go(g, x): return grad_weight(g, x)",
    "njit, some flags": "@njit(fastmath={'arcp', 'contract'})\n"
    "def go(g, x): return grad_weight(g, x)",
    "njit, other options": "@njit(fastmath=True, debug=True, boundscheck=True, nogil=True,"
    " error_model='numpy')\ndef go(g, x): return grad_weight(g, x)",
    "parallel": "@njit(fastmath=True, parallel=True)\n"
    "def go(g, x):\n"
    "    out = np.empty((2, 3, 8))\n"
    "    for k in prange(2):\n"
    "        grad_weight(g, x, 'mean', out[k])\n"
    "    return out[1]",
    "helper": "@njit\ndef helper(g, x): return grad_weight(g, x)\n"
    "@njit(fastmath=True)\ndef go(g, x): return helper(g, x)",
    "inline": "@njit(inline='always')\ndef helper(g, x): return grad_weight(g, x)\n"
    "@njit(fastmath=True)\ndef go(g, x): return helper(g, x)",
    "guvectorize": "@guvectorize(['(f8[:,:], f8[:,:], f8[:,:])'], '(k,m),(k,n)->(m,n)',"
    " fastmath=True, nopython=True)\n"
    "def go(g, x, out): grad_weight(g, x, 'mean', out)",
    "vectorize": "@vectorize(['f8(f8, i8, i8)'], fastmath=True, nopython=True)\n"
    "def pick(_, i, j): return grad_weight(G, X)[i, j]\n"
    "def go(g, x): return pick(0.0, np.arange(3)[:, None], np.arange(8))",
    "cfunc": "@cfunc('f8(i8, i8)', fastmath=True)\n"
    "def pick(i, j): return grad_weight(G, X)[i, j]\n"
    "def go(g, x): return np.array([[pick.ctypes(i, j) for j in range(8)] for i in range(3)])",
    "jitclass": "@jitclass([('w', float64[:, :])])\n"
    "class Layer:\n"
    "    def __init__(self): self.w = np.zeros((3, 8))\n"
    "    def go(self, g, x): return grad_weight(g, x)\n"
    "@njit(fastmath=True)\ndef go(g, x): return Layer().go(g, x)",
    "overload": "def other(g, x): pass\n"
    "@overload(other, jit_options={'fastmath': True})\n"
    "def _other(g, x): return lambda g, x: grad_weight(g, x)\n"
    "@njit\ndef go(g, x): return other(g, x)",
    "stencil": "@njit(fastmath=True)\n"
    "def go(g, x):\n"
    "    pick = stencil(lambda a: a[0, 0] * 0.0 + grad_weight(G, X)[0, 0])\n"
    "    d = grad_weight(g, x)\n"
    "    assert pick(g)[0, 0] == d[0, 0]\n"
    "    return d",
    "equations": "@njit(fastmath=True)\ndef inside(g, x): return dL_dw_mean(g, x)\n"
    "def go(g, x):\n"
    "    d = inside(g, x)\n"
    "    assert (dL_dw_mean(g, x) == d).all()\n"
    "    return d",
}

G = np.outer([1.0, 2.0, 2.1], np.arange(1, 9.0)).T[:3].copy()[:, :3] + 1 / 3
X = np.outer(np.arange(3.0) + 1 / 3, np.ones(8))
FIRST = """
import sys

import numpy as np
from numba import cfunc, float64, guvectorize, njit, prange, stencil, vectorize
from numba.experimental import jitclass
from numba.extending import overload

from numba_linear import grad_weight
from numba_linear.equations import dL_dw_mean

G = g = np.outer([1., 2., 2.1], np.arange(1, 9.)).T[:3].copy()[:, :3] + 1 / 3
X = x = np.outer(np.arange(3.) + 1 / 3, np.ones(8))
{call}
theirs, ours = {order}
assert ours.tobytes().hex() == theirs.tobytes().hex() == sys.argv[1], theirs
"""
ORDERS = {
    "the caller first": "go(g, x), grad_weight(g, x)",
    "the package first": "(grad_weight(g, x), go(g, x))[::-1]",
}
AGAIN_G, AGAIN_X = np.outer([1.0, 2.0, 2.1], np.arange(1, 9.0)), np.ones((3, 8))
AGAIN = """
import sys

import numpy as np

from numba_linear import grad_weight

for _ in range(2):
    g = np.outer([1., 2., 2.1], np.arange(1, 9.)); x = np.ones((3, 8))
    assert grad_weight(g, x).tobytes().hex() == sys.argv[1]
"""


def wanted(g, x):
    """The equations' bits, computed once: each process would compile them for seconds."""
    return equations.grad_weight(g, x, "mean").tobytes().hex()


def run(call, order, folder):
    program = FIRST.format(call=CALLS[call], order=ORDERS[order])
    return start("-W", "ignore", "-c", program, wanted(G, X), NUMBA_CACHE_DIR=str(folder))


def run_again(folder):
    return start("-c", AGAIN, wanted(AGAIN_G, AGAIN_X), NUMBA_CACHE_DIR=str(folder))


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A cache that holds the engine, compiled by a caller with fastmath."""
    folder = tmp_path_factory.mktemp("cache")
    finish(run("njit", "the caller first", folder))
    finish(run_again(folder))
    return folder


@pytest.mark.parametrize("call", CALLS)
def test_whoever_calls(call, warm):
    finish(*(run(call, order, warm) for order in ORDERS))


@pytest.mark.parametrize(
    "call",
    ["guvectorize", *(pytest.param(call, marks=pytest.mark.once) for call in ("cfunc", "helper"))],
)
def test_whoever_compiles_the_engine(call, tmp_path):
    finish(run(call, "the caller first", tmp_path))
    finish(run_again(tmp_path))


def test_nothing_of_ours_reaches_a_caller():
    """A caller keeps its own error model."""
    from numba import njit

    from numba_linear import forward

    @njit
    def divides(x, w, a, b):
        return forward(x, w)[0] + a / b

    with pytest.raises(ZeroDivisionError):
        divides(np.ones(2), np.ones((2, 2)), 1, 0)

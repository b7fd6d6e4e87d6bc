"""Loops of calls count no references, whatever LLVM makes of the loop."""

import numpy as np
import pytest
from llvmlite import binding
from numba import njit

from numba_linear import (
    Gradients,
    accumulate,
    accumulator,
    backward,
    forward,
    grad_bias,
    grad_input,
    grad_weight,
)

if binding.llvm_version_info < (20,):
    pytest.skip("older versions of LLVM copy some of the loops", allow_module_level=True)


@njit
def forwards(count, x, w, b, y):
    for _ in range(count):
        forward(x, w, b, y)


@njit
def grad_inputs(count, g, w, dx):
    for _ in range(count):
        grad_input(g, w, dx)


@njit
def grad_weights(count, g, x, dw):
    for _ in range(count):
        grad_weight(g, x, "sum", dw)


@njit
def grad_biases(count, g, db):
    for _ in range(count):
        grad_bias(g, "sum", db)


@njit
def backwards(count, out, g, x, w):
    for _ in range(count):
        backward(g, x, w, "sum", out)


@njit
def accumulates(count, acc, g, x):
    for _ in range(count):
        accumulate(acc, g, x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_loops_count_no_references(dtype):
    x, g, w, b = (np.ones(shape, dtype) for shape in (16, 2, (2, 16), 2))
    loops = [(forwards, (x, w, b, g)), (grad_inputs, (g, w, x)), (grad_weights, (g, x, w))]
    loops += [(grad_biases, (g, b)), (accumulates, (accumulator(w, 100), g, x))]
    loops += [(backwards, (Gradients(*map(np.empty_like, (x, w, b))), g, x, w))]
    for loop, arrays in loops:
        loop(2, *arrays)
        text = loop.inspect_llvm(loop.signatures[-1])
        body = text[text.index("define") :]
        body = body[: body.index("\n}\n")]
        counted = len(arrays) + 2 * isinstance(arrays[0], tuple)  # three arrays
        assert body.count("call void @NRT_incref") == counted, loop.__name__
        assert body.count("call void @NRT_decref") == counted, loop.__name__

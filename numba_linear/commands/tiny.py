"""Small layers in compiled code, beside a user's own loops and `np.dot`."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from numba import njit

import numba_linear
from numba_linear.commands.peers import Shape, dots, forwards, operands
from numba_linear.commands.timing import Contestant


def contest(operation: str, shape: Shape, dtype: str, threads: int) -> list[Contestant]:
    """The package, plain loops and, where it can do the operation, `np.dot`. All write to existing
    arrays, and a single sample has no batch."""
    arrays = operands(shape, dtype)
    x, w, b, g = (arrays[name] for name in "xwbg")
    wt = np.ascontiguousarray(w.T)
    y, dx, dw, db = map(np.empty_like, (g, x, w, b))
    one = shape[0] == 1
    xs, gs, ys, dxs = (a[0] if one else a for a in (x, g, y, dx))
    gradients = numba_linear.Gradients(dxs, dw, db)
    runs: dict[str, list[tuple[str, Callable[..., None], tuple[Any, ...]]]] = {
        "forward": [
            ("numba_linear", forwards, (xs, w, b, ys)),
            ("loop", _forward_loops, (x, w, b, y)),
            ("np.dot", dots, (x, wt, b, y)),
        ],
        "grad_input": [
            ("numba_linear", _grad_input, (gs, w, dxs)),
            ("loop", _grad_input_loops, (g, w, dx)),
            ("np.dot", _dot, (g, w, dx)),
        ],
        "grad_weight": [
            ("numba_linear", _grad_weight, (gs, xs, dw)),
            ("loop", _grad_weight_loops, (g, x, dw)),
            *([] if one else [("np.dot", _dot, (np.ascontiguousarray(g.T), x, dw))]),
        ],
        "backward": [
            ("numba_linear", _backward, (gs, xs, w, gradients)),
            ("loop", _backward_loops, (g, x, w, dx, dw, db)),
        ],
    }
    return [_timed(name, function, given) for name, function, given in runs[operation]]


def _timed(name: str, function: Callable[..., None], arrays: tuple[Any, ...]) -> Contestant:
    def run(count: int) -> float:
        start = perf_counter()
        function(count, *arrays)
        return perf_counter() - start

    return Contestant(name, run)


@njit
def _grad_input(count, g, w, dx):
    for _ in range(count):
        numba_linear.grad_input(g, w, dx)


@njit
def _grad_weight(count, g, x, dw):
    for _ in range(count):
        numba_linear.grad_weight(g, x, "sum", dw)


@njit
def _backward(count, g, x, w, out):
    for _ in range(count):
        numba_linear.backward(g, x, w, "sum", out)


@njit
def _dot(count, a, b, out):
    for _ in range(count):
        np.dot(a, b, out)


@njit
def _forward_loop(x, w, b, y):
    for i in range(w.shape[0]):
        s = b[i]
        for l in range(w.shape[1]):  # noqa: E741
            s += w[i, l] * x[l]
        y[i] = s


@njit
def _forward_loops(count, x, w, b, y):
    for _ in range(count):
        for k in range(x.shape[0]):
            _forward_loop(x[k], w, b, y[k])


@njit
def _grad_input_loop(g, w, dx):
    dx[:] = 0
    for i in range(w.shape[0]):
        for l in range(w.shape[1]):  # noqa: E741
            dx[l] += g[i] * w[i, l]


@njit
def _grad_input_loops(count, g, w, dx):
    for _ in range(count):
        for k in range(g.shape[0]):
            _grad_input_loop(g[k], w, dx[k])


@njit
def _grad_weight_loop(g, x, dw):
    for i in range(g.shape[1]):
        for l in range(x.shape[1]):  # noqa: E741
            dw[i, l] = g[0, i] * x[0, l]
    for k in range(1, g.shape[0]):
        for i in range(g.shape[1]):
            for l in range(x.shape[1]):  # noqa: E741
                dw[i, l] += g[k, i] * x[k, l]


@njit
def _grad_weight_loops(count, g, x, dw):
    for _ in range(count):
        _grad_weight_loop(g, x, dw)


@njit
def _backward_loops(count, g, x, w, dx, dw, db):
    for _ in range(count):
        for k in range(g.shape[0]):
            _grad_input_loop(g[k], w, dx[k])
        _grad_weight_loop(g, x, dw)
        db[:] = 0
        for k in range(g.shape[0]):
            for i in range(g.shape[1]):
                db[i] += g[k, i]

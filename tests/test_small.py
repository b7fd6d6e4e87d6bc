"""Few multiply-adds: the loops at the call, the engine, and the switch between them."""

import numpy as np
import pytest
from bits import assert_bits
from numba import njit, prange
from operations import DTYPES, operands

from numba_linear import (
    Gradients,
    backward,
    equations,
    forward,
    grad_bias,
    grad_input,
    grad_weight,
)
from numba_linear.cpu.tuning import FEW_WORK, VECTOR_WORK

SIZES = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33]


@njit
def inside(x, w, b, g, y, dx, dw, db, each):
    forward(x, w, b, y)
    grad_input(g, w, dx)
    grad_weight(g, x, "sum", dw)
    grad_bias(g, "sum", db)
    backward(g, x, w, "sum", each)


@njit(parallel=True)
def in_prange(x, w, b, g, y, dx, dw, db, each):
    for k in prange(len(y)):
        forward(x[k], w[k], b[k], y[k])
        grad_input(g[k], w[k], dx[k])
        grad_weight(g[k], x[k], "sum", dw[k])
        grad_bias(g[k], "sum", db[k])
        backward(g[k], x[k], w[k], "sum", Gradients(each[0][k], each[1][k], each[2][k]))


def outs(given):
    shapes = given.g.shape, given.x.shape, given.w.shape, given.b.shape
    y, dx, dw, db = (np.full(shape, np.nan, given.x.dtype) for shape in shapes)
    return y, dx, dw, db, Gradients(dx.copy(), dw.copy(), db.copy())


def wanted(given):
    x, g = np.atleast_2d(given.x), np.atleast_2d(given.g)
    y = equations.forward(x, given.w, given.b).reshape(given.g.shape)
    dx = equations.grad_input(g, given.w).reshape(given.x.shape)
    dw, db = equations.grad_weight(g, x, "sum"), equations.grad_bias(g, "sum")
    return y, dx, dw, db, Gradients(dx, dw, db)


def assert_all(label, got, want):
    names = ("y", "dx", "dw", "db")
    for name, a, b in zip(names, got[:4], want[:4], strict=True):
        assert_bits(f"{label} {name}", a, b)
    for name, a, b in zip(names[1:], got[4], want[4], strict=True):
        assert_bits(f"{label} backward {name}", a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [(), (1,), (3,), (4,), (13,), (16,)], ids=str)
def test_every_small_size(batch, dtype):
    for n in SIZES:
        for m in SIZES:
            given = operands(batch, n, m, dtype)
            want = wanted(given)
            padded = np.pad(given.w, ((0, 0), (0, 3)))[:, :n]
            apart = np.repeat(given.w, 2, 1)[:, ::2]
            for w in (given.w, np.asfortranarray(given.w), padded, apart):
                got = outs(given)
                inside(given.x, w, given.b, given.g, *got)
                assert_all(f"{batch} {n} {m}", got, want)


def edges(work):
    """Shapes on both sides of a number of multiply-adds; each sum counts as two more."""
    for K, m in ((1, 7), (1, 16), (5, 3), (12, 8)):
        n = work // (K * m) - 2
        yield from ((K, n + d, m) for d in (-1, 0, 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_where_the_engine_takes_over(dtype):
    shapes = [*edges(FEW_WORK)]
    shapes += [(K, n, 64) for K in (1, 8, 40) for n in (VECTOR_WORK // (K * 64) - 2,) if n < 999]
    shapes += [(8, 256, 48), (8, 257, 48), (4, 128, 16), (4, 129, 16)]
    for K, n, m in shapes:
        given = operands(K, n, m, dtype)
        want = wanted(given)
        for w in (given.w, np.asfortranarray(given.w)):
            got = outs(given)
            inside(given.x, w, given.b, given.g, *got)
            assert_all(f"{K} {n} {m}", got, want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_population_in_a_prange(dtype):
    """Slices of larger arrays, one layer for each member of a population."""
    for n, m in ((3, 5), (8, 8), (4, 16), (33, 20)):
        one = [operands((), n, m, dtype) for _ in range(6)]
        stacked = [
            np.stack([getattr(o, name) * (i + 1) for i, o in enumerate(one)]) for name in "xwbg"
        ]
        got = [np.full_like(stacked[i], np.nan) for i in (3, 0, 1, 2)]
        each = Gradients(*(np.full_like(stacked[i], np.nan) for i in (0, 1, 2)))
        in_prange(*stacked, *got, each)
        for i, given in enumerate(one):
            given.x, given.w, given.b, given.g = (a[i] for a in stacked)
            mine = [a[i] for a in got], Gradients(*(a[i] for a in each))
            assert_all(f"{i} {n} {m}", [*mine[0], mine[1]], wanted(given))


@njit
def grad(g, x, out):
    grad_weight(g, x, "sum", out)


def test_guards():
    """Nothing but the result is written: views inside larger arrays keep what lies around them."""
    for dtype in DTYPES:
        for n, m in ((3, 5), (8, 8), (17, 33), (2, 64)):
            given = operands((), n, m, dtype)
            around = np.full((m + 2, n + 2), 7, dtype)
            dw = around[1:-1, 1:-1]
            grad(given.g, given.x, dw)
            assert_bits("dw", dw.copy(), wanted(given)[2])
            dw[:] = 7
            assert (around == 7).all()

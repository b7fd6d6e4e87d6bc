"""The paths of one row and of few alone, called as planned, against the equations bit for bit."""

import numpy as np
import pytest
from bits import assert_bits
from numba import njit, types

from numba_linear import equations
from numba_linear.codes import FINE
from numba_linear.cpu.dotxf import contract_dotxf
from numba_linear.cpu.fragment import columns_of
from numba_linear.cpu.gemv import contract_dots, contract_rows
from numba_linear.cpu.machine import instructions, stripe, tiling_for, tiling_of
from numba_linear.cpu.matrix import Matrix
from numba_linear.cpu.plan import by_dots, by_dotxf, by_rows
from numba_linear.cpu.problem import Epilogue, Problem
from numba_linear.cpu.tuning import DOTXF_VECTORS

HAS_DOTXF = all(DOTXF_VECTORS[instructions()])


@pytest.fixture(autouse=True, scope="module")
def late():
    paths = (contract_dots, contract_rows, *([contract_dotxf] if HAS_DOTXF else []))
    for contract in paths:
        for dtype in (types.float32, types.float64):
            contract.resident.load(tiling_for(dtype))


@njit
def problem_of(a, b, c, bias, divisor):
    (rows, terms), cols = a.shape, b.shape[0]
    step = bias.strides[0] if len(bias) else 0
    return Problem(
        Matrix(np.intp(a.ctypes.data), a.strides[0], a.strides[1]),
        Matrix(np.intp(b.ctypes.data), b.strides[0], b.strides[1]),
        Matrix(np.intp(c.ctypes.data), c.strides[0], c.strides[1]),
        rows,
        cols,
        terms,
        Epilogue(np.intp(bias.ctypes.data) if len(bias) else 0, step, divisor),
    )


@njit
def dots(a, b, c, bias, divisor):
    problem = problem_of(a, b, c, bias, divisor)
    return by_dots(tiling_of(a), problem), contract_dots(tiling_of(a), problem)


@njit
def dotxf(a, b, c, bias, divisor):
    problem = problem_of(a, b, c, bias, divisor)
    return by_dotxf(tiling_of(a), problem), contract_dotxf(tiling_of(a), problem)


@njit
def stripe_width(like):
    return columns_of(stripe(tiling_of(like)))


@njit
def are_rows(a, b, c, bias):
    return by_rows(tiling_of(a), problem_of(a, b, c, bias, 0.0))


@njit
def rows(a, b, c, bias, divisor):
    problem = problem_of(a, b, c, bias, divisor)
    return by_rows(tiling_of(a), problem), contract_rows(tiling_of(a), problem)


@njit
def width(like):
    return columns_of(tiling_of(like))


def compare(contract, shape, b_order, dtype, with_bias, a_order="C"):
    count, cols, terms = shape
    rng = np.random.default_rng(cols * terms)
    a = np.array(rng.standard_normal((count, terms)), dtype, order=a_order)
    b = np.array(rng.standard_normal((cols, terms)), dtype, order=b_order)
    bias = rng.standard_normal(cols if with_bias else 0).astype(dtype)
    # nothing is written beside C, and nothing of C is read
    buffer = np.full((count, cols + 8), np.nan, dtype)
    c = buffer[:, :cols]
    assert contract(a, b, c, bias, 0.0) == (True, FINE)
    assert_bits(f"{shape}", c, equations.forward(a, b, bias if with_bias else None))
    assert np.isnan(buffer[:, cols:]).all()


TERMS = (1, 255, 256, 257, 2100)


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dots(dtype, with_bias, terms):
    wide = width(np.empty(0, dtype))
    for cols in (1, wide // 2, wide, wide + 1, 3 * wide + 5):
        compare(dots, (1, cols, terms), "C", dtype, with_bias)
        if cols > 1:
            compare(dots, (3, cols, terms), "C", dtype, with_bias)


def test_dots_gather_the_terms_of_a():
    compare(dots, (3, 33, 300), "C", np.float32, True, a_order="F")


@pytest.mark.skipif(not HAS_DOTXF, reason="not with this machine's vectors")
@pytest.mark.parametrize("terms", [7, 255, 257, 258, 300, 2110])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dotxf(dtype, with_bias, terms):
    for cols in (24, 25, 71, 2000 if terms == 2110 else 48):
        for count in (1, 2):
            compare(dotxf, (count, cols, terms), "C", dtype, with_bias)


@pytest.mark.parametrize("terms", TERMS[1:])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows(dtype, with_bias, terms):
    wide = stripe_width(np.empty(0, dtype))
    for count in (1, 2):
        for cols in (wide, wide + 1, 3 * wide + 5, 3000):
            compare(rows, (count, cols, terms), "F", dtype, with_bias)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_take_at_least_a_stripe(dtype):
    a, c, none = np.ones((1, 9), dtype), np.ones((1, 999), dtype), np.empty(0, dtype)
    wide = stripe_width(a)
    for cols, wanted in ((wide, True), (wide - 1, False)):
        b = np.ones((9, cols), dtype).T
        assert are_rows(a, b, c[:, :cols], none) == wanted

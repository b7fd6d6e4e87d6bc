"""Every result is the equation, bit for bit."""

import math

import numba
import numpy as np
import pytest
from bits import assert_bits
from operations import (
    DTYPES,
    OPERATIONS,
    assert_result,
    expected,
    operands,
    parts,
    unwritten,
)

from numba_linear import backward, forward, grad_bias, grad_input, grad_weight

# Sizes at which a loop changes its path: vectors of 2 to 16 lanes and tiles of one to four of
# them, tiles of up to 16 rows, leaves of 256 terms.
EDGES = (0, 1, 2, 3, 4, 5, 7, 8, 9, 13, 14, 15, 16, 17, 27, 28, 29, 31, 32, 33, 47, 48, 49, 63, 64)
EDGES += (65, 255, 256, 257, 511, 512, 513, 769, 1025)

SHAPES = [
    *((e, 6, 3) for e in EDGES),
    *((5, e, 3) for e in EDGES),
    *((5, 6, e) for e in EDGES),
    (1, 1, 1),
    (0, 0, 0),
    (14, 257, 32),
    (15, 513, 33),
    (29, 31, 257),
    (257, 65, 17),
    (513, 255, 65),
    (65, 1025, 255),
    (511, 513, 257),
    # More rows, columns or leaves than one block of a cache holds.
    (3001, 35, 18),
    (19, 3001, 37),
    (34, 21, 3001),
    (70_001, 3, 2),
    (2, 70_001, 3),
    (3, 2, 70_001),
    # Few samples, and a weight with a large row stride.
    (2, 1100, 300),
    (5, 4100, 600),
    # One sample, and a weight whose rows are long.
    (1, 4100, 70),
    (1, 4096, 50),
    # Rows that are aligned to cache lines if the first is; few samples, and many.
    (16, 336, 290),
    (40, 1008, 203),
    (200, 528, 70),
    (200, 64, 10),
    (300, 9, 96),
    # Blocks of fewer rows than the width of the tile that sums grad_bias.
    (2, 12_001, 20),
]


def defined(operation, K, n, m):
    """A mean needs a sample; per-sample gradients of the largest shapes would fill memory."""
    if operation.reduction == "mean":
        return K > 0
    return operation.reduction != "none" or K * n * m <= 2**22


CASES = [
    pytest.param(name, shape, id=f"{name} {shape}")
    for name, operation in OPERATIONS.items()
    for shape in SHAPES
    if defined(operation, *shape)
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "shape"), CASES)
def test_shapes(name, shape, dtype):
    operation, given = OPERATIONS[name], operands(*shape, dtype)
    assert_result(f"{name} (K, n, m) = {shape}", operation(given), expected(operation, given))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_batches_of_any_dimensions(name, dtype):
    operation = OPERATIONS[name]
    for batch in [(), (1,), (7, 1), (2, 3, 5), (4, 1, 2, 3), (2, 0, 3)]:
        if defined(operation, math.prod(batch), 9, 4):
            given = operands(batch, 9, 4, dtype)
            assert_result(f"{name} {batch}", operation(given), expected(operation, given))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_integers_are_exact(name, dtype):
    """Sums of small integers are exact in any order, so NumPy's integers are an oracle too."""

    def integers(shape, dtype, seed):
        return np.random.default_rng([seed, *shape]).integers(-8, 9, shape).astype(dtype)

    operation, given = OPERATIONS[name], operands(128, 300, 77, dtype, integers)
    x, w, b, g = (a.astype(np.int64) for a in (given.x, given.w, given.b, given.g))
    K = 128  # a power of two, so that the mean is exact too
    weight = {"mean": (g.T @ x) / K, "sum": g.T @ x, "none": g[:, :, None] * x[:, None, :]}
    bias = {"mean": g.sum(0) / K, "sum": g.sum(0), "none": g}
    want = {
        forward: lambda: {"": x @ w.T + (b if "b" in operation.operands else 0)},
        grad_input: lambda: {"": g @ w},
        grad_weight: lambda: {"": weight[operation.reduction]},
        grad_bias: lambda: {"": bias[operation.reduction]},
        backward: lambda: {
            "input": g @ w,
            "weight": weight[operation.reduction],
            "bias": bias[operation.reduction],
        },
    }[operation.function]()
    for part, got in parts(operation(given)).items():
        np.testing.assert_array_equal(got, want[part].astype(dtype), f"{name} {part}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(33, 70, 50), (130, 300, 257)], ids=str)
def test_a_row_of_a_batch_is_that_row_alone(shape, dtype):
    given = operands(*shape, dtype)
    x, w, b, g = given.x, given.w, given.b, given.g
    y, dL_dx = forward(x, w, b), grad_input(g, w)
    dL_dw, dL_db = grad_weight(g, x, "none"), grad_bias(g, "none")
    for k in {0, 1, 13, 14, 31, 32, len(x) // 2, len(x) - 1}:
        assert_bits(f"forward, row {k}", y[k], forward(x[k], w, b))
        assert_bits(f"grad_input, row {k}", dL_dx[k], grad_input(g[k], w))
        assert_bits(f"grad_weight, row {k}", dL_dw[k], grad_weight(g[k], x[k]))
        assert_bits(f"grad_bias, row {k}", dL_db[k], grad_bias(g[k]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_permuting_a_batch_permutes_its_rows(dtype):
    given = operands(77, 300, 40, dtype)
    x, w, b, g = given.x, given.w, given.b, given.g
    order = np.random.default_rng(5).permutation(77)
    assert_bits("forward", forward(x[order], w, b), forward(x, w, b)[order])
    assert_bits("grad_input", grad_input(g[order], w), grad_input(g, w)[order])
    each, each_permuted = backward(g, x, w, "none"), backward(g[order], x[order], w, "none")
    for part in each._fields:
        assert_bits(part, getattr(each_permuted, part), getattr(each, part)[order])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("call", ["grad_weight", "grad_bias", "backward"])
def test_one_sample_has_one_gradient(call, dtype):
    """Its mean, its sum and its gradient alone."""
    given = operands((), 33, 17, dtype)
    total = OPERATIONS[f"{call} sum"](given)
    for reduction in ("mean", "none"):
        assert_result(f"{call} {reduction}", OPERATIONS[f"{call} {reduction}"](given), total)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape",
    [
        (1, 40, 50),
        (6, 40, 4),
        (150, 270, 100),
        (33, 17, 16),
        (300, 33, 100),
        (2100, 20, 40),
        (1, 2100, 40),
        (1, 2100, 300),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", OPERATIONS)
def test_thread_counts(name, shape, dtype):
    operation, given = OPERATIONS[name], operands(*shape, dtype)
    want = expected(operation, given)
    before = numba.get_num_threads()
    try:
        for threads in sorted({1, 2, 3, 4, numba.config.NUMBA_NUM_THREADS}):
            numba.set_num_threads(threads)
            for parallel in (None, True, False):
                got = operation(given, out=unwritten(want), parallel=parallel)
                assert_result(f"{name} {shape}, {threads} threads, parallel={parallel}", got, want)
                assert numba.get_num_threads() == threads
    finally:
        numba.set_num_threads(before)


def special(dtype):
    limits = np.finfo(dtype)
    return {
        "nan": np.nan,
        "+inf": np.inf,
        "-inf": -np.inf,
        "+0": 0.0,
        "-0": -0.0,
        "largest": limits.max,
        "least": limits.smallest_subnormal,
        "least normal": -limits.smallest_normal,
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("special_name", special(np.float64))
@pytest.mark.parametrize("name", OPERATIONS)
def test_special_values(name, special_name, dtype):
    """One special number at a time, at the corners and in the middle of each operand.

    No shape here is a multiple of a vector or tile, so padding must not meet infinity or NaN.
    """
    operation = OPERATIONS[name]
    for operand in set(operation.operands):
        clean = operands(19, 37, 21, dtype)
        size = getattr(clean, operand).size
        for place in (0, size // 2, size - 1):
            given = operands(19, 37, 21, dtype)
            getattr(given, operand).flat[place] = special(dtype)[special_name]
            label = f"{name}, {special_name} in {operand} at {place}"
            assert_result(label, operation(given), expected(operation, given))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_all_special_values_mixed(name, dtype):
    specials = np.array(list(special(dtype).values()), dtype)

    def mixed(shape, dtype, seed):
        rng = np.random.default_rng([seed, *shape])
        numbers = rng.standard_normal(shape).astype(dtype)
        return np.where(rng.random(shape) < 0.02, rng.choice(specials, shape), numbers)

    operation, given = OPERATIONS[name], operands(45, 30, 35, dtype, mixed)
    assert_result(name, operation(given), expected(operation, given))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 6, 3), (15, 257, 33), (259, 13, 261)], ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_negative_zero_is_kept(name, shape, dtype):
    """Terms that underflow to -0 sum to -0: one padded term, fma(0, 0, -0), would make it +0."""
    tiny = np.sqrt(np.finfo(dtype).smallest_subnormal) / 4

    def negligible(shape, dtype, seed):
        return np.full(shape, {1: tiny, 2: -tiny, 3: -0.0, 4: -tiny}[seed], dtype)

    operation, given = OPERATIONS[name], operands(*shape, dtype, negligible)
    want = expected(operation, given)
    assert_result(f"{name} {shape}", operation(given), want)
    if operation.function is forward or operation.function is grad_weight:
        assert np.signbit(want).all() and not want.any()


@pytest.mark.parametrize("name", OPERATIONS)
def test_subnormal_results(name):
    """No result or operand is flushed to zero."""

    def subnormal(shape, dtype, seed):
        scale = {1: 1e-20, 2: 1e-20, 3: 1e-40, 4: 1e-20}[seed]
        return np.random.default_rng([seed, *shape]).normal(0, scale, shape).astype(dtype)

    operation, given = OPERATIONS[name], operands(20, 35, 19, np.float32, subnormal)
    want = expected(operation, given)
    assert_result(name, operation(given), want)
    assert all(np.count_nonzero(a) > a.size / 2 for a in parts(want).values())


def test_overflow_is_infinity():
    """3e38 + 3e38 - 3e38 overflows in index order, though the exact sum does not."""
    x = np.array([[3e38, 3e38, -3e38]], np.float32)
    w = np.ones((17, 3), np.float32)
    assert_bits("forward", forward(x, w), np.full((1, 17), np.inf, np.float32))


def test_the_sum_is_fused():
    """(1 + ε)² - (1 + 2ε) = ε², which a rounded product would lose."""
    e = np.finfo(np.float64).eps
    x, w = np.array([1 + 2 * e, 1 + e]), np.array([[-1.0, 1 + e]])
    assert_bits("forward", forward(x, w), np.array([e * e]))


def test_the_bias_is_added_once_after_the_sum():
    """(2⁻²⁴ + 2⁻²⁴) + 1 in float32; from 1, each addition would round back to 1."""
    x, w = np.full(2, 2.0**-24, np.float32), np.ones((1, 2), np.float32)
    y = forward(x, w, np.ones(1, np.float32))
    assert_bits("forward", y, np.array([1 + 2.0**-23], np.float32))


def test_the_mean_is_divided_once_after_the_sum():
    """(1 + 1 + 1) / 3 is 1; three thirds are not, in some orders, and no reciprocal is taken."""
    g = np.ones((49, 1), np.float32)
    assert_bits("grad_bias", grad_bias(g), np.ones(1, np.float32))
    g[:] = 5
    assert_bits("grad_bias", grad_bias(g), np.full(1, 5, np.float32))

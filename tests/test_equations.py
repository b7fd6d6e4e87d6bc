"""The equations against numbers worked by hand, their definitions, exact arithmetic and
finite differences.

The other tests compare the package with `numba_linear.equations`; these compare the equations with
something independent.
"""

import math
from fractions import Fraction

import numba
import numpy as np
import pytest
from bits import assert_bits

from numba_linear import equations
from numba_linear.equations import (
    LEAF,
    contract,
    forward,
    grad_bias,
    grad_input,
    grad_weight,
)

DTYPES = [np.float32, np.float64]
REDUCTIONS = ["mean", "sum", "none"]


# --------------------------------------------------------------------------------------
# Numbers worked by hand: K = 2 samples, n = 3 input features, m = 2 output features
# --------------------------------------------------------------------------------------

X = [[1, 0, -1], [2, 1, 0]]
W = [[1, 2, 3], [4, 5, 6]]
B = [10, 20]
G = [[1, -2], [3, 4]]


def arrays(dtype, *values):
    return [np.array(value, dtype) for value in values]


@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_by_hand(dtype):
    x, w, b = arrays(dtype, X, W, B)
    assert equations.y_i(x[0], w, b, 0) == 1 - 3 + 10
    assert equations.y_i(x[0], w, b, 1) == 4 - 6 + 20
    assert_bits("① y", equations.y_sample(x[0], w, b), np.array([8, 18], dtype))
    assert_bits("② Y", equations.y_columns(x, w, b), np.array([[8, 14], [18, 33]], dtype))
    assert_bits("forward", forward(x, w, b), np.array([[8, 18], [14, 33]], dtype))
    assert_bits("forward, no bias", forward(x, w), np.array([[-2, -2], [4, 13]], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_grad_weight_by_hand(dtype):
    g, x = arrays(dtype, G, X)
    each = np.array([[[1, 0, -1], [-2, 0, 2]], [[6, 3, 0], [8, 4, 0]]], dtype)
    assert_bits("⑦ k = 0", equations.dL_dw_sample(g[0], x[0]), each[0])
    assert_bits("⑦ k = 1", equations.dL_dw_sample(g[1], x[1]), each[1])
    assert_bits("none", grad_weight(g, x, "none"), each)
    assert_bits("sum", grad_weight(g, x, "sum"), np.array([[7, 3, -1], [6, 4, 2]], dtype))
    mean = np.array([[3.5, 1.5, -0.5], [3, 2, 1]], dtype)
    assert_bits("mean", grad_weight(g, x, "mean"), mean)
    assert_bits("default", grad_weight(g, x), mean)


@pytest.mark.parametrize("dtype", DTYPES)
def test_grad_bias_by_hand(dtype):
    (g,) = arrays(dtype, G)
    assert_bits("⑩ k = 0", equations.dL_db_sample(g[0]), np.array([1, -2], dtype))
    assert_bits("none", grad_bias(g, "none"), np.array([[1, -2], [3, 4]], dtype))
    assert_bits("sum", grad_bias(g, "sum"), np.array([4, 2], dtype))
    assert_bits("mean", grad_bias(g, "mean"), np.array([2, 1], dtype))
    assert_bits("default", grad_bias(g), np.array([2, 1], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_grad_input_by_hand(dtype):
    g, w = arrays(dtype, G, W)
    want = np.array([[1 - 8, 2 - 10, 3 - 12], [3 + 16, 6 + 20, 9 + 24]], dtype)
    assert equations.dL_dx_l(g[0], w, 2) == 3 - 12
    assert_bits("⑫ k = 0", equations.dL_dx_sample(g[0], w), want[0])
    assert_bits("grad_input", grad_input(g, w), want)


# --------------------------------------------------------------------------------------
# Each equation against its definition
# --------------------------------------------------------------------------------------


def test_derivatives_by_w():
    """③ ④ ⑤ written out for x = (1, 2, 3) and m = 2."""
    x = np.array([1.0, 2.0, 3.0])
    first = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    second = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    assert equations.dyi_dw_kl(x, 1, 1, 2) == 3.0
    assert equations.dyi_dw_kl(x, 1, 0, 2) == 0.0
    assert_bits("④ i = 0", equations.dyi_dw(x, 0, 2), first)
    assert_bits("④ i = 1", equations.dyi_dw(x, 1, 2), second)
    assert_bits("⑤", equations.dy_dw(x, 2), np.array([first, second]))


def test_derivatives_by_b_and_x():
    """⑧ ⑨ ⑪ and ∂y/∂x."""
    b, w = arrays(float, B, W)
    assert [[equations.dyi_db_j(i, j) for j in range(2)] for i in range(2)] == [[1, 0], [0, 1]]
    assert_bits("⑨", equations.dy_db(b), np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert_bits("⑪", equations.dY_db(3, b), np.array([[[1.0, 0.0], [0.0, 1.0]]] * 3))
    assert equations.dyi_dx_l(w, 1, 0) == 4.0
    assert_bits("∂y/∂x", equations.dy_dx(w), w)


def test_derivatives_are_those_of_the_forward():
    """y is linear in W, b and x: on integers its differences are its derivatives, exactly."""
    rng = np.random.default_rng(0)
    m, n = 4, 3
    x, w, b = (rng.integers(-9, 10, shape).astype(float) for shape in ((n,), (m, n), (m,)))

    def differences(y, at):
        """∂y/∂at with the index of y first, by a step of 1 in each element."""
        steps = np.eye(at.size).reshape(at.size, *at.shape)
        columns = [y(at + step) - y(at) for step in steps]
        return np.array(columns).T.reshape(m, *at.shape)

    by_w = differences(lambda w: equations.y_sample(x, w, b), w)
    by_b = differences(lambda b: equations.y_sample(x, w, b), b)
    by_x = differences(lambda x: equations.y_sample(x, w, b), x)
    np.testing.assert_array_equal(equations.dy_dw(x, m), by_w)
    np.testing.assert_array_equal(equations.dy_db(b), by_b)
    np.testing.assert_array_equal(equations.dy_dx(w), by_x)


def test_chain_rule_products():
    """⑥ = ⑦ = gᵀ x, ⑩ = g I = g and ⑫ = g W, by contracting g with the whole Jacobian."""
    rng = np.random.default_rng(1)
    m, n = 5, 4
    g, x, w = (rng.standard_normal(shape) for shape in ((m,), (n,), (m, n)))
    by_w = equations.dL_dw_sample(g, x)
    assert_bits("⑥ and ⑦", equations.dL_dw_chain(g, equations.dy_dw(x, m)), by_w)
    assert_bits("⑦ and the outer product", by_w, np.outer(g, x))
    by_b = equations.dL_db_sample(g)
    assert_bits("⑩ and g I", equations.dL_db_chain(g, equations.dy_db(g)), by_b)
    assert_bits("⑩ and g", by_b, g)
    by_x = equations.dL_dx_sample(g, w)
    assert_bits("⑫ and g · ∂y/∂x", equations.dL_dx_sample(g, equations.dy_dx(w)), by_x)
    np.testing.assert_allclose(by_x, g @ w, rtol=1e-14, atol=1e-15)


def test_chain_rule_where_a_sum_with_zeros_differs_from_none():
    """What the docstring of ⑦ says of ⑥: zeros that are added change -0, and 0 · ∞ is NaN."""
    tiny, x = np.finfo(float).tiny, np.array([1.0, -np.finfo(float).tiny])
    g = np.array([tiny, 1.0])
    want = np.array([[tiny, -0.0], [1.0, -tiny]])
    assert_bits("⑦, underflow", equations.dL_dw_sample(g, x), want)
    want[0, 1] = 0.0
    assert_bits("⑥, underflow", equations.dL_dw_chain(g, equations.dy_dw(x, 2)), want)
    g = np.array([np.inf, 1.0])
    want = np.array([[np.inf, -np.inf], [1.0, -tiny]])
    assert_bits("⑦, infinite", equations.dL_dw_sample(g, x), want)
    want[1] = np.nan
    assert_bits("⑥, infinite", equations.dL_dw_chain(g, equations.dy_dw(x, 2)), want)


@pytest.fixture(scope="module", params=DTYPES)
def batch(request):
    """x, w, b, g of no special numbers, with all of K, n, m different and two leaves in K, n."""
    rng = np.random.default_rng(2)
    K, n, m = 259, 300, 3
    shapes = (K, n), (m, n), (m,), (K, m)
    return [rng.standard_normal(shape).astype(request.param) for shape in shapes]


def test_samples_of_a_batch_are_independent(batch):
    x, w, b, g = batch
    y, dL_dx = forward(x, w, b), grad_input(g, w)
    dL_dw, dL_db = grad_weight(g, x, "none"), grad_bias(g, "none")
    for k in (0, 1, 258):
        one = slice(k, k + 1)
        assert_bits(f"forward, row {k}", y[k], equations.y_sample(x[k], w, b))
        assert_bits(f"grad_input, row {k}", dL_dx[k], equations.dL_dx_sample(g[k], w))
        assert_bits(f"grad_weight, row {k}", dL_dw[k], equations.dL_dw_sample(g[k], x[k]))
        assert_bits(f"grad_weight, sum of {k}", dL_dw[k], grad_weight(g[one], x[one], "sum"))
        assert_bits(f"grad_bias, row {k}", dL_db[k], equations.dL_db_sample(g[k]))
        assert_bits(f"grad_bias, sum of {k}", dL_db[k], grad_bias(g[one], "sum"))


def test_a_bad_sample_stays_alone(batch):
    x, w, b, g = (a.copy() for a in batch)
    y, dL_dx = forward(x, w, b), grad_input(g, w)
    x[7] = g[7] = np.nan
    y[7] = dL_dx[7] = np.nan
    assert_bits("forward", forward(x, w, b), y)
    assert_bits("grad_input", grad_input(g, w), dL_dx)


def test_a_batch_sum_is_the_rule_over_its_samples(batch):
    """Gᵀ X and Σ_k g_k add the per-sample gradients, and a mean divides them by K."""
    x, _, _, g = batch
    K, dtype = len(x), x.dtype.type
    each, ones = grad_weight(g, x, "none"), np.ones_like(g[:, 0])
    total = grad_weight(g, x, "sum")
    np.testing.assert_allclose(total, each.sum(0), rtol=0, atol=1e3 * np.finfo(dtype).eps)
    for corner in ((0, 0), (2, 299)):
        assert total[corner] == contract(g[:, corner[0]], x[:, corner[1]])
    bias = grad_bias(g, "sum")
    for i in range(3):
        assert bias[i] == contract(g[:, i], ones)
    assert_bits("grad_weight, mean", grad_weight(g, x, "mean"), total / dtype(K))
    assert_bits("grad_bias, mean", grad_bias(g, "mean"), bias / dtype(K))


def test_shapes_where_the_notes_slip():
    """EQUATIONS.md, "Slips in the notes", 2 to 7: shapes with all of K, n, m different."""
    K, n, m = 5, 3, 4
    x, w, b, g = np.ones((K, n)), np.ones((m, n)), np.ones(m), np.ones((K, m))
    assert equations.dyi_dw(x[0], 3, m).shape == (m, n)  # 2: for every i
    assert equations.dY_db(K, b).shape == (K, m, m)  # 3: this is ∂Y/∂b,
    assert grad_bias(g).shape == (m,)  # and not ∂L/∂b
    assert equations.dL_dx_sample(g[0], w).shape == (n,)  # 4, 5: a sum over m outputs
    assert equations.dL_dx_sample(g[0], w)[0] == m
    assert grad_input(g, w).shape == (K, n)  # 6: ∂L/∂Y is (K, m),
    assert equations.dy_dx(w).shape == (m, n)  # and ∂y/∂x is (m, n)
    assert equations.y_columns(x, w, b).shape == (m, K)  # 7: W Xᵀ + b conforms
    assert forward(x, w, b).shape == (K, m)


# --------------------------------------------------------------------------------------
# Finite differences
# --------------------------------------------------------------------------------------


def test_gradients_by_finite_differences():
    """All gradients of the mean over the batch of Σ_i sin(y_i), by central differences."""
    rng = np.random.default_rng(3)
    K, n, m = 4, 5, 3
    x, w, b = (rng.standard_normal(shape) for shape in ((K, n), (m, n), (m,)))

    def loss(x, w, b):
        return np.sin(forward(x, w, b)).sum() / K

    def differences(loss, at, step=1e-5):
        slopes = np.empty_like(at)
        for index in np.ndindex(at.shape):
            up, down = at.copy(), at.copy()
            up[index] += step
            down[index] -= step
            slopes[index] = (loss(up) - loss(down)) / (2 * step)
        return slopes

    g = np.cos(forward(x, w, b))  # of each sample's own loss, for the mean divides by K
    close = {"rtol": 0, "atol": 1e-9}  # step² / 6 ≈ 2e-11, and rounding 2e-16 / step
    by_x = differences(lambda x: loss(x, w, b), x)
    by_w = differences(lambda w: loss(x, w, b), w)
    by_b = differences(lambda b: loss(x, w, b), b)
    np.testing.assert_allclose(grad_input(g, w) / K, by_x, **close)
    np.testing.assert_allclose(grad_weight(g, x), by_w, **close)
    np.testing.assert_allclose(grad_bias(g), by_b, **close)


# --------------------------------------------------------------------------------------
# The summation rule against exact arithmetic
# --------------------------------------------------------------------------------------

# Bits of the significand, and exponent of the smallest subnormal number.
FORMATS = {np.float32: (24, -149), np.float64: (53, -1074)}


def rounded(exact, dtype):
    """The number of the dtype nearest to a fraction, which is not zero; ties to even."""
    precision, smallest = FORMATS[dtype]
    # 2^(e-1) < |exact| < 2^(e+1): one bit too many or just enough, then corrected.
    e = exact.numerator.bit_length() - exact.denominator.bit_length()
    if abs(exact) >= Fraction(2) ** e:
        e += 1
    quantum = Fraction(2) ** max(e - precision, smallest)
    nearest = round(exact / quantum) * quantum
    if abs(nearest) > Fraction(float(np.finfo(dtype).max)):
        return dtype(math.copysign(math.inf, exact))
    return dtype(math.copysign(float(nearest), exact))


def exact_fma(a, c, s):
    """a · c + s rounded once, for finite scalars of one dtype."""
    exact = Fraction(float(a)) * Fraction(float(c)) + Fraction(float(s))
    if exact != 0:
        return rounded(exact, type(s))
    # IEEE 754: an exact zero is +0, unless both addends are -0.
    negative = bool(np.signbit(a) ^ np.signbit(c)) and bool(np.signbit(s)) and a * c == 0
    return type(s)(-0.0 if negative else 0.0)


def leaf_by_definition(a, c):
    s = a.dtype.type(0)
    for a_p, c_p in zip(a, c, strict=True):
        s = exact_fma(a_p, c_p, s)
    return s


def tree_by_definition(leaves, add):
    """A range of Q > 1 leaves: the largest power of two smaller than Q to the left."""
    Q = len(leaves)
    if Q == 1:
        return leaves[0]
    left = max(2**level for level in range(Q.bit_length()) if 2**level < Q)
    return add(tree_by_definition(leaves[:left], add), tree_by_definition(leaves[left:], add))


def tree_by_counter(leaves, add):
    """The same tree on the fly: after leaf q, one merge for each trailing 1-bit of q."""
    pending = {}
    for q, partial in enumerate(leaves):
        level = 0
        while q >> level & 1:
            partial = add(pending.pop(level), partial)
            level += 1
        pending[level] = partial
    smallest, *larger = sorted(pending)
    total = pending[smallest]
    for level in larger:
        total = add(pending[level], total)
    return total


def contract_exactly(a, c, tree):
    """The summation rule, with Python's fractions instead of the machine's arithmetic."""
    cuts = range(0, len(a), 256)
    leaves = [leaf_by_definition(a[cut : cut + 256], c[cut : cut + 256]) for cut in cuts]
    if not leaves:
        return a.dtype.type(0)
    return tree(leaves, lambda left, right: exact_fma(left, type(left)(1), right))


def cancelling(N, dtype):
    """Terms of many magnitudes, half of them nearly the negatives of the other half."""
    rng = np.random.default_rng([4, N])
    a = rng.standard_normal(N) * 2.0 ** rng.integers(-12, 13, N)
    c = rng.standard_normal(N)
    half = N // 2
    a[half : 2 * half] = -a[:half]
    c[half : 2 * half] = c[:half]
    order = rng.permutation(N)
    return a[order].astype(dtype), c[order].astype(dtype)


def bits_of_contract(a, c):
    """`contract` as a scalar of the dtype: Numba returns every float as a Python float."""
    return a.dtype.type(contract(a, c))


def test_rounding_helper():
    """The fractions of these tests round as the machine does."""
    rng = np.random.default_rng(5)
    for exponent in (0, 40, -1040, -1074):
        for bits in rng.integers(1, 2**62, 50):
            exact = Fraction(int(bits)) * Fraction(2) ** (exponent - 61)
            assert rounded(exact, np.float64) == float(exact)
    one, half_ulp = Fraction(1), Fraction(1, 2**24)
    assert rounded(one + half_ulp, np.float32) == np.float32(1)
    assert rounded(one + 3 * half_ulp, np.float32) == np.float32(1 + 2**-22)
    # Nearest to float32 from here is up; by way of float64 it would be a tie, and down.
    assert rounded(one + half_ulp + Fraction(1, 2**80), np.float32) == np.float32(1 + 2**-23)
    assert rounded(Fraction(-1, 2**151), np.float32).tobytes() == np.float32(-0.0).tobytes()
    assert rounded(Fraction(2) ** 128, np.float32) == np.inf


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("N", [0, 1, 2, 255, 256, 257, 511, 512, 513, 768, 1025, 1281])
def test_rule_against_exact_arithmetic(N, dtype):
    a, c = cancelling(N, dtype)
    got = bits_of_contract(a, c)
    by_definition = contract_exactly(a, c, tree_by_definition)
    by_counter = contract_exactly(a, c, tree_by_counter)
    assert_bits(f"contract, N = {N}, by definition", got, by_definition)
    assert_bits(f"contract, N = {N}, by counter", got, by_counter)


@pytest.mark.parametrize("dtype", DTYPES)
def test_other_rules_have_other_bits(dtype):
    """The data above distinguish the rule from similar ones; else equality would say little."""
    a, c = cancelling(1281, dtype)
    got = bits_of_contract(a, c)
    cut_in_128 = [leaf_by_definition(a[p : p + 128], c[p : p + 128]) for p in range(0, 1281, 128)]
    cut_in_256 = [leaf_by_definition(a[p : p + 256], c[p : p + 256]) for p in range(0, 1281, 256)]
    product_first = dtype(0)
    for product in (a * c)[:256]:
        product_first += product
    assert got != leaf_by_definition(a, c)
    assert got != leaf_by_definition(a[::-1], c[::-1])
    assert got != tree_by_definition(cut_in_128, np.add)
    assert got != np.cumsum(np.array(cut_in_256))[-1]
    assert got == tree_by_definition(cut_in_256, np.add)
    assert bits_of_contract(a[:256], c[:256]) != product_first


def test_tree_by_definition_is_tree_by_counter():
    """The two readings of the rule pair the same leaves, whatever their number."""

    def pair(left, right):
        return (left, right)

    assert tree_by_definition([0, 1, 2, 3, 4, 5], pair) == (((0, 1), (2, 3)), (4, 5))
    assert tree_by_definition([0, 1, 2, 3, 4, 5, 6], pair) == (((0, 1), (2, 3)), ((4, 5), 6))
    for Q in range(1, 140):
        leaves = list(range(Q))
        assert tree_by_definition(leaves, pair) == tree_by_counter(leaves, pair)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("last", [1, 255, 256])
def test_tree_of_many_leaves(last, dtype):
    """Each leaf has one nonzero term, so the tree alone decides the bits."""
    for Q in range(1, 36):
        leaves, ones = cancelling(Q, dtype)[0], np.ones((Q - 1) * LEAF + last, dtype)
        a = np.zeros_like(ones)
        a[::LEAF] = leaves
        want = tree_by_counter(list(leaves), np.add)
        assert_bits(f"contract, {Q} leaves, last of {last}", bits_of_contract(a, ones), want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_term_is_rounded_once(dtype):
    """a² - round(a²) is the error of the product, which a rounded product would lose."""
    a = dtype(1.1)
    error = dtype(Fraction(float(a)) ** 2 - Fraction(float(a * a)))
    big = np.finfo(dtype).max
    got = bits_of_contract(np.array([-a * a, a]), np.array([1, a], dtype))
    assert error != 0
    assert_bits("error of a product", got, error)
    got = bits_of_contract(np.array([-big, big]), np.array([1, 2], dtype))
    assert_bits("a product past the largest number", got, big)


@pytest.mark.parametrize("dtype", DTYPES)
def test_signed_zeros(dtype):
    zero, tiny = dtype(0), np.finfo(dtype).tiny

    def check(label, a, c, want):
        a, c = np.array(a, dtype), np.array(c, dtype)
        assert_bits(label, bits_of_contract(a, c), want)

    check("no terms", [], [], zero)
    check("-0", [-0.0], [1], zero)
    check("-0, -0", [-0.0, 1], [1, -0.0], zero)
    check("a - a", [1, 1], [3, -3], zero)
    check("underflow below zero", [tiny], [-tiny], -zero)
    check("underflow below zero, then a term of +0", [tiny, 0], [-tiny, 1], zero)
    check("underflow below zero, then a term of -0", [tiny, -0.0], [-tiny, 1], -zero)
    check("-0 + +0 of two leaves", [tiny] + 256 * [-0.0], [-tiny] + 256 * [1], zero)

    x, w, b = arrays(dtype, [[tiny]], [[-tiny]], [-0.0])
    assert_bits("y = -0 without a bias", forward(x, w), -zero.reshape(1, 1))
    assert_bits("y = -0 + -0", forward(x, w, b), -zero.reshape(1, 1))
    assert_bits("y = -0 + +0", forward(x, w, -b), zero.reshape(1, 1))
    for reduction in REDUCTIONS:
        shape = (1, 1) if reduction == "none" else (1,)
        assert_bits(f"∂L/∂b, {reduction}", grad_bias(b[None], reduction), np.zeros(shape, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity(dtype):
    inf, nan, big = np.inf, np.nan, np.finfo(dtype).max

    def check(label, a, c, want):
        a, c = np.array(a, dtype), np.array(c, dtype)
        assert_bits(label, bits_of_contract(a, c), dtype(want))

    check("∞", [1, inf, 1], [1, -2, 1], -inf)
    check("0 · ∞", [1, 0], [1, inf], nan)
    check("∞ - ∞ in a leaf", [inf, inf], [1, -1], nan)
    check("∞ - ∞ of two leaves", [inf] + 256 * [-inf], 257 * [1], nan)
    check("NaN", [nan, 0], [0, 1], nan)
    check("overflow", [big, big], [1, 1], inf)
    check("overflow and back", [big, big, big], [1, 1, -1], inf)
    check("overflow of two leaves", [big] + 255 * [0] + [big], 257 * [1], inf)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rule_does_not_see_strides(dtype):
    a, c = cancelling(1281, dtype)
    want = bits_of_contract(a, c)
    spread = np.full((2, 3 * 1281), np.nan, dtype)
    spread[0, ::3], spread[1, ::-3] = a, c
    assert_bits(
        "contract, strides 3 and -3", bits_of_contract(spread[0, ::3], spread[1, ::-3]), want
    )
    columns = np.stack([a, c], axis=1)
    assert_bits("contract, columns", bits_of_contract(columns[:, 0], columns[:, 1]), want)


# --------------------------------------------------------------------------------------
# The oracle: layouts, dtypes, threads, empty dimensions, K in the mean
# --------------------------------------------------------------------------------------


def calls(x, w, b, g):
    """Every oracle function on one set of operands."""
    yield "forward", forward(x, w, b)
    yield "forward, no bias", forward(x, w)
    yield "grad_input", grad_input(g, w)
    for reduction in REDUCTIONS:
        yield f"grad_weight, {reduction}", grad_weight(g, x, reduction)
        yield f"grad_bias, {reduction}", grad_bias(g, reduction)


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def unaligned(a):
    b = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    b[...] = a
    return b


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "reversed": lambda a: np.flip(np.flip(a).copy()),
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "read-only": read_only,
    "unaligned": unaligned,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_oracle_does_not_see_layouts(batch, layout):
    wanted = list(calls(*batch))
    compiled = len(equations.y_columns.signatures)
    moved = [LAYOUTS[layout](a) for a in batch]
    for (label, got), (_, want) in zip(calls(*moved), wanted, strict=True):
        assert_bits(f"{label}, {layout}", got, want)
    assert len(equations.y_columns.signatures) == compiled, "compiled again for a layout"


def test_equations_take_any_strides(batch):
    """The compiled equations themselves, without the copy that the oracle makes."""
    x, w, b, g = batch
    strided = LAYOUTS["strided"]
    assert_bits("①", equations.y_sample(strided(x)[3], strided(w), b), forward(x, w, b)[3])
    got = equations.dL_dw_sum(strided(g), strided(x))
    assert_bits("Σ_k ⑦", got, grad_weight(g, x, "sum"))


def test_oracle_keeps_the_dtype(batch):
    for label, got in calls(*batch):
        assert got.dtype == batch[0].dtype, label


def test_oracle_does_not_see_threads(batch):
    want = list(calls(*batch))
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        got = list(calls(*batch))
    finally:
        numba.set_num_threads(threads)
    for (label, one), (_, many) in zip(got, want, strict=True):
        assert_bits(f"{label}, one thread", one, many)


@pytest.mark.parametrize("dtype", DTYPES)
def test_empty_dimensions(dtype):
    """No samples, no input features, no output features: a sum of no terms is +0."""
    for K, n, m in ((0, 3, 4), (2, 0, 4), (2, 3, 0), (0, 0, 0)):
        x, w, g = (np.ones(shape, dtype) for shape in ((K, n), (m, n), (K, m)))
        b = np.full(m, 7, dtype)
        label = f"(K, n, m) = {K, n, m}, "
        assert_bits(label + "forward", forward(x, w, b), np.full((K, m), 7 + n, dtype))
        assert_bits(label + "no bias", forward(x, w), np.full((K, m), n, dtype))
        assert_bits(label + "grad_input", grad_input(g, w), np.full((K, n), m, dtype))
        total = np.full((m, n), K, dtype)
        assert_bits(label + "grad_weight, sum", grad_weight(g, x, "sum"), total)
        assert_bits(label + "grad_bias, sum", grad_bias(g, "sum"), np.full(m, K, dtype))
        mean = np.nan if K == 0 else 1
        assert_bits(label + "grad_weight, mean", grad_weight(g, x), np.full((m, n), mean, dtype))
        assert_bits(label + "grad_bias, mean", grad_bias(g), np.full(m, mean, dtype))
        each = np.ones((K, m, n), dtype)
        assert_bits(label + "grad_weight, none", grad_weight(g, x, "none"), each)
        assert_bits(label + "grad_bias, none", grad_bias(g, "none"), np.ones((K, m), dtype))


def test_a_mean_divides_by_k_rounded_to_the_dtype():
    """2²⁴ + 1 is no float32, and neither is 1/K: S/K rounds K, then the quotient."""
    K = 2**24 + 1
    got = grad_bias(np.broadcast_to(np.float32(1), (K, 1)), "mean")
    assert_bits("mean of 2²⁴ + 1 ones", got, np.ones(1, np.float32))
    # 1/49 rounded, times 49, is not 1.
    assert np.float64(49) * (1 / np.float64(49)) != 1
    assert_bits("mean of 49 ones", grad_bias(np.ones((49, 1)), "mean"), np.ones(1))


def test_unknown_reduction():
    with pytest.raises(KeyError, match="median"):
        grad_bias(np.ones((2, 2)), "median")


# --------------------------------------------------------------------------------------
# The comparison itself
# --------------------------------------------------------------------------------------


def test_assert_bits_accepts():
    values = np.array([[1, -0.0, np.inf], [np.nan, 0, 5e-324]])
    other_nan = values.copy()
    other_nan.view(np.uint64)[1, 0] ^= np.uint64(1)
    assert_bits("equal", values, values.copy())
    assert_bits("another NaN", values, other_nan)
    assert_bits("other strides", np.asfortranarray(values), values)
    assert_bits("nothing", np.empty((0, 3)), np.empty((0, 3)))
    assert_bits("a scalar", np.float32(1), np.float32(1))
    assert_bits("integers", np.arange(3), np.arange(3))


@pytest.mark.parametrize(
    ("got", "want", "message"),
    [
        (np.zeros(2), np.zeros((2, 1)), r"label: got shape \(2,\), want \(2, 1\)"),
        (np.zeros(2), np.zeros(2, "f4"), "label: got dtype float64, want float32"),
        (np.zeros(1), -np.zeros(1), r"(?s)1 of 1 .*first at \(0,\).* 0\.0 .*0x0{16}.* -0\.0"),
        (np.ones((2, 2)), np.eye(2), r"2 of 4 elements differ.* \(2, 2\), first at \(0, 1\)"),
        (np.float32(1), np.float32(np.nan), r"(?s)1\.0 .*0x3f800000.*nan .*0x7fc00000"),
        (np.float64(1), np.nextafter(1, 2), "(?s)0x3ff0000000000000.*0x3ff0000000000001"),
    ],
    ids=["shape", "dtype", "sign of zero", "index", "NaN", "last bit"],
)
def test_assert_bits_refuses(got, want, message):
    with pytest.raises(AssertionError, match=message):
        assert_bits("label", got, want)

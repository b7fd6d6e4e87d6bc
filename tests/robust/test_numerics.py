"""Special values at every edge, and the error bound of docs/robustness.md."""

import importlib.util
import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from bits import assert_bits
from operations import DTYPES, OPERATIONS, assert_result, expected, operands
from scale import FULL

from numba_linear import forward, grad_bias, grad_weight

SPECIAL = {
    "NaN": lambda t: np.nan,
    "infinity": lambda t: np.inf,
    "-infinity": lambda t: -np.inf,
    "largest": lambda t: np.finfo(t).max,
    "subnormal": lambda t: np.finfo(t).smallest_subnormal,
    "-0": lambda t: -0.0,
}

#: More than a tile and an edge in every direction; one sample.
SHAPES = [(14, 19, 35), (1, 35, 19), (29, 259, 5), (260, 9, 34)] if FULL else [(14, 19, 35)]


def edges(shape):
    """The first, the last and some indices between on every axis, in all combinations."""
    axes = [sorted({0, size // 2, max(0, size - 2), size - 1}) for size in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(shape))


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
@pytest.mark.parametrize("special", SPECIAL)
def test_special_values_stay_where_the_equations_put_them(special, dtype):
    """A tile's padding must not turn infinity into NaN, and neither may reach a neighbour."""
    for shape in SHAPES:
        plain = operands(*shape, dtype)
        for operand in ("x", "w", "b", "g"):
            a = getattr(plain, operand)
            places = edges(a.shape)
            for place in places if FULL else places[:: max(1, len(places) // 4)]:
                changed = SimpleNamespace(**vars(plain))
                setattr(changed, operand, a.copy())
                getattr(changed, operand)[tuple(place)] = SPECIAL[special](dtype)
                for name in ("forward", "grad_input", "grad_weight mean", "grad_bias mean"):
                    operation = OPERATIONS[name]
                    if operand in operation.operands:
                        with np.errstate(all="ignore"):
                            want = expected(operation, changed)
                        label = f"{name} {shape}, {special} at {operand}[{place}]"
                        assert_result(label, operation(changed), want)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
def test_subnormals_overflow_and_zeros(dtype):
    """Operands of special values only, in every combination."""
    limits = np.finfo(dtype)
    values = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, limits.max, -limits.max]
    values += [limits.tiny, limits.smallest_subnormal, -limits.smallest_subnormal, limits.eps]
    rng = np.random.default_rng(0)

    def special(shape, dtype, seed):
        return rng.choice(np.array(values, dtype), shape)

    def tiny(shape, dtype, seed):
        return rng.choice(np.array([0.0, -0.0, *values[9:]], dtype), shape)

    for make in (special, tiny):
        for shape in [(5, 3, 4), (17, 260, 33), (300, 2, 9), (1, 40, 40)]:
            given = operands(*shape, dtype, make)
            for name, operation in OPERATIONS.items():
                with np.errstate(all="ignore"):
                    want = expected(operation, given)
                assert_result(f"{name} {shape} {make.__name__}", operation(given), want)


# --------------------------------------------------------------------------------------
# The error bound
# --------------------------------------------------------------------------------------


def bound(terms, dtype):
    """The largest error of the rule's sum, relative to Σ |a_p c_p|.

    A term takes part in at most 256 multiply-adds of its leaf and, in the tree, in one addition
    per halving of the leaves: γ_h = h u / (1 - h u), where u is half the dtype's epsilon.
    """
    leaves = -(-terms // 256)
    h = min(terms, 256) + math.ceil(math.log2(max(1, leaves)))
    u = Fraction(np.finfo(dtype).eps.item()) / 2
    return h * u / (1 - h * u)


def exact(a, c):
    """Σ a_p c_p and Σ |a_p c_p| without rounding, for float32 through exact float64 products."""
    if a.dtype == np.float32:
        products = a.astype(np.float64) * c.astype(np.float64)
        return Fraction(math.fsum(products)), Fraction(math.fsum(abs(products)))
    products = [Fraction(p) * Fraction(q) for p, q in zip(a.tolist(), c.tolist(), strict=True)]
    return sum(products), sum(map(abs, products))


def adversarial(terms, dtype):
    """Sums that are hard to get right, as factors a and c."""
    rng = np.random.default_rng(terms)
    ones = np.ones(terms, dtype)
    positive = rng.random(terms).astype(dtype)
    spread = np.ldexp(rng.standard_normal(terms), rng.integers(-12, 13, terms)).astype(dtype)
    half = terms // 2
    mirrored = np.concatenate([spread[:half], -spread[:half][::-1], spread[2 * half :]])
    yield "positive", positive, ones
    yield "all 0.1", np.full(terms, 0.1, dtype), ones
    yield "growing", np.sort(positive) ** 3, ones
    yield "shrinking", np.sort(positive)[::-1] ** 3, ones
    yield "cancelling", mirrored, ones
    yield "cancelling, shuffled", rng.permutation(mirrored), ones
    yield "alternating", spread, np.where(np.arange(terms) % 2, 1, -1).astype(dtype)
    yield "spread", spread, rng.permutation(spread)


def in_float32(report):
    return [1000, 65_537, 10_000_000] if FULL or report else [1000, 65_537]


def peers():
    yield "NumPy", lambda a, c: a @ c
    if importlib.util.find_spec("torch"):
        import torch

        yield "PyTorch", lambda a, c: torch.dot(torch.from_numpy(a), torch.from_numpy(c)).numpy()


def errors(dtype, sizes):
    """For each sum the bound, and each method's error relative to Σ |a c|."""
    for terms in sizes:
        for name, a, c in adversarial(terms, dtype):
            a, c = np.ascontiguousarray(a), np.ascontiguousarray(c)
            value, whole = exact(a, c)
            got = {
                "forward": forward(a, c[None])[0],
                "grad_weight": grad_weight(a[:, None], c[:, None], "sum")[0, 0],
            }
            assert_bits(f"{name}, {terms} terms", got["grad_weight"], got["forward"])
            if (c == 1).all():
                bias = grad_bias(a[:, None], "sum")[0]
                assert_bits(f"{name}, {terms} terms", bias, got["forward"])
            others = {peer: call(a, c) for peer, call in peers()}
            yield (
                terms,
                name,
                bound(terms, dtype),
                {
                    who: float(abs(Fraction(float(sum_)) - value) / whole)
                    for who, sum_ in {"numba_linear": got["forward"], **others}.items()
                },
            )


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
def test_the_error_is_within_the_bound(dtype):
    sizes = in_float32(False) if dtype == np.float32 else [1000, 20_000]
    for terms, name, most, found in errors(dtype, sizes):
        assert found["numba_linear"] <= most, f"{name}, {terms} terms: {found}, bound {most}"


if __name__ == "__main__":
    for dtype, sizes in ((np.float32, in_float32(True)), (np.float64, [20_000])):
        for terms, name, most, found in errors(dtype, sizes):
            figures = "  ".join(f"{who} {error:.1e}" for who, error in found.items())
            print(f"{dtype.__name__} {terms:9d} {name:21s} bound {float(most):.1e}  {figures}")

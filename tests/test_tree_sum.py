"""Sums of parts that were summed apart: the bits of the whole sum, and errors."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from bits import assert_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from operations import operands

from numba_linear import grad_bias, grad_weight, tree_sum

n, m = 5, 3


def starts(K, samples):
    return range(0, K, samples)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("samples", [256, 512, 1024, 2048])
@pytest.mark.parametrize("K", [1, 255, 256, 257, 512, 700, 1024, 2000, 4096, 5000])
def test_parts_have_the_bits_of_the_whole(K, samples, dtype):
    batch = operands(K, n, m, dtype)
    g, x = batch.g, batch.x
    weights = [
        grad_weight(g[k : k + samples], x[k : k + samples], "sum") for k in starts(K, samples)
    ]
    want = grad_weight(g, x, "sum")
    assert_bits("list", tree_sum(weights), want)
    assert_bits("array", tree_sum(np.array(weights)), want)
    assert_bits("generator", tree_sum(part for part in weights), want)
    assert_bits("mean", tree_sum(weights) / dtype(K), grad_weight(g, x))
    biases = [grad_bias(g[k : k + samples], "sum") for k in starts(K, samples)]
    assert_bits("bias", tree_sum(biases), grad_bias(g, "sum"))
    # One output feature: parts without a dimension, in an array of one dimension.
    first = np.array([bias[0] for bias in biases])
    assert_bits("numbers", tree_sum(first), grad_bias(g, "sum")[0])


@settings(max_examples=60)
@given(K=st.integers(1, 20_000), j=st.integers(0, 5), dtype=st.sampled_from("fd"))
def test_any_number_of_parts(K, j, dtype):
    g = operands(K, n, 2, np.dtype(dtype)).g
    parts = (grad_bias(g[k : k + 256 * 2**j], "sum") for k in starts(K, 256 * 2**j))
    assert_bits(f"{K} in parts of {256 * 2**j}", tree_sum(parts), grad_bias(g, "sum"))


def test_adding_up_is_another_sum():
    """The comparison can fail."""
    batch = operands(5000, n, m, np.float32)
    parts = [
        grad_weight(batch.g[k : k + 256], batch.x[k : k + 256], "sum") for k in starts(5000, 256)
    ]
    assert (sum(parts) != tree_sum(parts)).any()


def test_parts_computed_by_threads():
    batch = operands(5000, n, m, np.float64)

    def part(k):
        return grad_weight(batch.g[k : k + 512], batch.x[k : k + 512], "sum", parallel=False)

    with ThreadPoolExecutor(4) as pool:
        got = tree_sum(pool.map(part, starts(5000, 512)))
    assert_bits("threads", got, grad_weight(batch.g, batch.x, "sum"))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8])
def test_one_array_for_all_parts(count):
    """A generator may yield the same array again and again; the array is not changed."""
    parts = np.random.default_rng(0).standard_normal((count, 4))
    buffer = np.empty(4)

    def generated():
        for part in parts:
            buffer[:] = part
            yield buffer

    kept = parts.copy()
    assert_bits("buffer", tree_sum(generated()), tree_sum(parts))
    assert_bits("untouched", parts, kept)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_result_is_a_new_array(count):
    parts = [np.ones((2, 2)) for _ in range(count)]
    total = tree_sum(parts)
    assert type(total) is np.ndarray
    assert not any(np.shares_memory(total, part) for part in parts)


def test_few_parts_are_held():
    alive = peak = 0

    class Counted(np.ndarray):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def generated():
        nonlocal alive, peak
        for _ in range(1000):
            alive += 1
            peak = max(peak, alive)
            yield np.ones(3).view(Counted)

    total = tree_sum(generated())
    assert (total == 1000).all()
    assert peak <= 3


def test_infinities_and_nan_without_a_warning():
    parts = np.array([[np.inf, 3e38], [-np.inf, 3e38]], np.float32)
    assert_bits("sum", tree_sum(parts), np.array([np.nan, np.inf], np.float32))


def test_empty_dimensions():
    assert tree_sum(np.ones((3, 0, 2))).shape == (0, 2)


WRONG = {
    "no parts": ([], ValueError, "there are no parts; wanted at least one"),
    "no parts of an array": (np.ones((0, 2)), ValueError, "there are no parts"),
    "an array that counts nothing": (np.array(1.0), ValueError, "parts has 0 dimensions"),
    "a number": (1.0, TypeError, "parts is of type float; wanted a list, an array"),
    "a masked array": (np.ma.ones((2, 2)), TypeError, "parts is of type MaskedArray"),
    "None among them": (
        [np.ones(2), None],
        TypeError,
        r"parts\[1\] is of type NoneType; wanted a NumPy",
    ),
    "a list of lists": ([[1.0], [2.0]], TypeError, r"parts\[0\] is of type list"),
    "shapes": (
        [np.ones((2, 3)), np.ones((2, 3)), np.ones((1, 3))],
        ValueError,
        r"parts\[0\] has shape \(2, 3\) and parts\[2\] has shape \(1, 3\); wanted one shape",
    ),
    "dtypes": (
        [np.ones(2), np.ones(2, np.float32)],
        TypeError,
        r"parts\[0\] has dtype float64 and parts\[1\] has dtype float32; wanted one dtype",
    ),
    "integers": ([np.ones(2, int)], TypeError, r"parts\[0\] has dtype int64; wanted float32"),
    "byte order": ([np.ones(2, ">f8")], TypeError, "not in this machine's byte order"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_parts(wrong):
    parts, error, words = WRONG[wrong]
    with pytest.raises(error, match=f"^tree_sum: .*{words}"):
        tree_sum(parts)

"""Whatever the chunks and the scheduler: the bits of the call in memory."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("dask.array")

import dask
import dask.array as da
from bits import assert_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from lazy import LAZY, assert_as_in_memory, chunked, computed, in_chunks
from operations import OPERATIONS, assert_result, operands

import numba_linear
from numba_linear import Gradients
from numba_linear.dask import backward, forward, grad_bias, grad_weight
from numba_linear.stretch import unit_of

K, n, m = 1500, 7, 5
DTYPES = (np.float32, np.float64)

CHUNKS = {
    "one chunk": (K,),
    "one leaf": 256,
    "nodes": 512,
    "nodes and a leaf": (1024, 256, 220),
    "never at a leaf": 100,
    "one beside a leaf": 257,
    "one row": (*[1] * 60, 195, *[1] * 60, K - 315),
    "unequal": (1, 700, 2, 255, 256, 257, 29),
    "empty": (0, 300, 0, 0, 700, 0, 500, 0),
    "one whole leaf amid rows": (200, 400, 900),
}


@pytest.fixture(scope="module")
def plain():
    return {dtype: operands(K, n, m, dtype) for dtype in DTYPES}


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("name", LAZY)
def test_chunks(name, chunks, plain):
    for dtype, scheduler in zip(DTYPES, ("synchronous", "threads"), strict=True):
        lazy = in_chunks(plain[dtype], CHUNKS[chunks])
        assert_as_in_memory(name, lazy, plain[dtype], scheduler=scheduler)


def test_every_sample_a_chunk():
    whole = operands(300, n, m, np.float32)
    assert_as_in_memory("backward mean", in_chunks(whole, 1), whole)


@pytest.mark.parametrize("name", LAZY)
def test_features_in_chunks_and_other_chunks_of_g(name, plain):
    whole = plain[np.float32]
    lazy = SimpleNamespace(
        x=chunked(whole.x, 400, features=(2, 0, 4, 1)),
        w=da.from_array(whole.w, chunks=(2, 3)),
        b=da.from_array(whole.b, chunks=1),
        g=chunked(whole.g, (0, 1000, 500), features=2),
    )
    assert_as_in_memory(name, lazy, whole)


@pytest.mark.parametrize("chunks", [(2, 300, 3), (3, 100, 2), (1, 30, -1), ((1, 0, 2), 128, -1)])
@pytest.mark.parametrize("name", LAZY)
def test_batches_of_three_dimensions(name, chunks):
    *samples, features = chunks
    whole = operands((3, 300), n, m, np.float64)
    lazy = SimpleNamespace(
        x=chunked(whole.x, *samples, features=features),
        w=whole.w,
        b=whole.b,
        g=chunked(whole.g, *samples, features=features),
    )
    assert_as_in_memory(name, lazy, whole)


@pytest.mark.parametrize("batch", [(), (1,), (0,), (2, 0), (0, 3), (1, 1)])
@pytest.mark.parametrize("name", LAZY)
def test_one_sample_and_none(name, batch):
    whole = operands(batch, n, m, np.float32)
    if 0 in batch and OPERATIONS[name].reduction == "mean":
        return
    assert_as_in_memory(name, in_chunks(whole, *(1 for _ in batch)), whole)


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0), (1, 1)])
@pytest.mark.parametrize("name", LAZY)
def test_no_features(name, n, m):
    whole = operands(600, n, m, np.float64)
    assert_as_in_memory(name, in_chunks(whole, 250), whole)


@pytest.mark.parametrize("name", ["grad_weight sum", "grad_bias mean", "backward mean"])
def test_layers_whose_rows_are_less_than_their_sum(name):
    """With 1050 and 1100 features the smallest node is two leaves."""
    assert unit_of(1050, 1100) == 512
    whole = operands(1400, 1100, 1050, np.float32)
    for chunks in ((700, 600, 100), 300):
        assert_as_in_memory(name, in_chunks(whole, chunks), whole)


def test_first_layer_has_no_gradient_of_x(plain):
    whole = plain[np.float32]
    lazy = in_chunks(whole, 400)
    for reduction in ("mean", "sum", "none"):
        got = backward(lazy.g, lazy.x, None, reduction)
        assert isinstance(got, Gradients) and got.input is None
        want = numba_linear.backward(whole.g, whole.x, whole.w, reduction)
        _, weight, bias = computed(got)
        assert_bits("weight", weight, want.weight)
        assert_bits("bias", bias, want.bias)


def test_numbers_that_are_none():
    """NaN and infinities stay with their samples, and there is no warning of overflow."""
    whole = operands(1500, n, m, np.float32)
    whole.g[700, 1], whole.x[3, 2], whole.g[1400:, 0] = np.nan, np.inf, 3e38
    whole.x[1400:, :] = 2
    for name in LAZY:
        assert_as_in_memory(name, in_chunks(whole, 333), whole)


def test_dask_s_own_sum_depends_on_chunks(plain):
    """The comparison can fail."""
    whole = plain[np.float32]
    chunks = (256, 100, 333)
    lazies = [in_chunks(whole, samples) for samples in chunks]

    def different(gradient):
        arrays = [gradient(lazy.g, lazy.x).compute() for lazy in lazies]
        return sum((a != arrays[0]).any() for a in arrays)

    assert different(lambda g, x: g.T @ x / np.float32(K)) == 2
    assert different(lambda g, x: g.sum(axis=0)) > 0
    assert different(grad_weight) == different(lambda g, x: grad_bias(g)) == 0


def test_lazy_results_go_on(plain):
    """Two layers and a step of descent in one graph, with the bits as in memory."""
    whole = plain[np.float64]
    lazy = in_chunks(whole, 400)

    def step(calls, x, target, w, b):
        g = calls.forward(x, w, b) - target
        d = calls.backward(g, x, w)
        return w - 0.1 * d.weight, b - 0.1 * d.bias

    w, b = whole.w, whole.b
    w_lazy, b_lazy = w, b
    for _ in range(3):
        w, b = step(numba_linear, whole.x, whole.g, w, b)
        w_lazy, b_lazy = step(numba_linear.dask, lazy.x, lazy.g, w_lazy, b_lazy)
    for got, want in zip(dask.compute(w_lazy, b_lazy), (w, b), strict=True):
        assert_bits("three steps", got, want)


def test_a_weight_is_taken_as_it_was(plain):
    """As in memory, a change of w after the call does not change the result."""
    whole = plain[np.float64]
    w = whole.w.copy()
    y = forward(chunked(whole.x, 400), w)
    w[:] = 0
    assert_bits("forward", y.compute(), numba_linear.forward(whole.x, whole.w))


def test_inputs_that_are_strided_read_only_or_of_fortran_order(plain):
    whole = plain[np.float32]
    frozen = np.asfortranarray(whole.g)
    frozen.flags.writeable = False
    wide = np.zeros((2 * K, n), np.float32)[::2]
    wide[:] = whole.x
    w = np.asfortranarray(whole.w)
    lazy = backward(chunked(frozen, 400), chunked(wide, 400), w)
    want = numba_linear.backward(whole.g, whole.x, whole.w)
    assert_result("backward", computed(lazy), want)


# --------------------------------------------------------------------------------------
# Chunks that Hypothesis chooses
# --------------------------------------------------------------------------------------


@st.composite
def cuts(draw, size, most=8):
    """Chunks of a dimension; any may be empty."""
    places = st.one_of(st.integers(0, size), st.integers(0, size // 256).map(lambda q: 256 * q))
    ends = sorted(draw(st.lists(places, max_size=most)))
    return tuple(int(chunk) for chunk in np.diff([0, *ends, size]))


@settings(max_examples=80)
@given(data=st.data())
def test_any_chunks(data):
    name = data.draw(st.sampled_from(list(LAZY)), "operation")
    dtype = data.draw(st.sampled_from(DTYPES), "dtype")
    n, m = data.draw(st.integers(1, 9), "n"), data.draw(st.integers(1, 9), "m")
    shapes = st.one_of(
        st.tuples(st.integers(1, 2000)), st.tuples(st.integers(1, 5), st.integers(1, 400))
    )
    whole = operands(data.draw(shapes, "batch"), n, m, dtype)

    def chunks(a):
        return da.from_array(a, chunks=tuple(data.draw(cuts(size)) for size in a.shape))

    lazy = SimpleNamespace(**{operand: chunks(a) for operand, a in vars(whole).items()})
    if data.draw(st.booleans(), "w and b in memory"):
        lazy.w, lazy.b = whole.w, whole.b
    scheduler = data.draw(st.sampled_from(["synchronous", "threads"]), "scheduler")
    assert_as_in_memory(name, lazy, whole, scheduler=scheduler)

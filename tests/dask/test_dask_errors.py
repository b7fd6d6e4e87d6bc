"""A wrong call says what was got and what was wanted, before anything is computed."""

import re

import numpy as np
import pytest

pytest.importorskip("dask.array")

import dask.array as da
from processes import finish, start

import numba_linear.dask as nd

K, n, m = 4, 6, 5


def never(chunk):
    raise AssertionError("a chunk was computed")


def lazy(*shape, dtype=np.float64, chunks=2):
    """An array whose chunks cannot be computed."""
    return da.zeros(shape, dtype=dtype, chunks=chunks).map_blocks(
        never, dtype=dtype, meta=np.empty((0,) * len(shape), dtype)
    )


x, g, w, b = lazy(K, n), lazy(K, m), np.ones((m, n)), np.ones(m)
unknown = x[lazy(K, dtype=bool)]
masked = da.ma.masked_array(da.zeros((K, n), chunks=2), mask=da.zeros((K, n), bool, chunks=2))


class Foreign(np.lib.mixins.NDArrayOperatorsMixin):
    """An array like a sparse or GPU library's, which Dask accepts as chunks."""

    shape, dtype, ndim = (0, 0), np.dtype(float), 2

    def __array_function__(self, *arguments):
        return NotImplemented

    def __array_ufunc__(self, *arguments):
        return NotImplemented

    def __getitem__(self, index):
        return self


def foreign(*shape):
    graph = da.zeros(shape, chunks=2)
    return da.Array(graph.dask, graph.name, graph.chunks, meta=Foreign())


WRONG = {
    "x of NumPy": (
        lambda: nd.forward(np.ones((K, n)), w),
        TypeError,
        "forward: x is of type ndarray; wanted a Dask array of shape (…, n):"
        " dask.array.from_array(x) is one",
    ),
    "x a list": (
        lambda: nd.forward([1.0], w),
        TypeError,
        "forward: x is of type list; wanted a Dask array of shape (…, n)",
    ),
    "x None": (
        lambda: nd.grad_weight(g, None),
        TypeError,
        "grad_weight: x is of type NoneType; wanted a Dask array of shape (…, n)",
    ),
    "w a list": (
        lambda: nd.grad_input(g, [[1.0]]),
        TypeError,
        "grad_input: w is of type list; wanted a Dask array or a NumPy ndarray of shape (m, n)",
    ),
    "w None but in backward": (
        lambda: nd.forward(x, None),
        TypeError,
        "forward: w is of type NoneType; wanted a Dask array or a NumPy ndarray of shape (m, n)",
    ),
    "w masked": (
        lambda: nd.forward(x, np.ma.ones((m, n))),
        TypeError,
        "forward: w is of type MaskedArray; wanted a Dask array or a NumPy ndarray",
    ),
    "masked chunks": (
        lambda: nd.forward(masked, w),
        TypeError,
        "forward: x has chunks of type numpy.ma",
    ),
    "chunks of another library": (
        lambda: nd.grad_weight(foreign(K, m), x),
        TypeError,
        f"grad_weight: g has chunks of type {__name__}.Foreign; wanted chunks that are NumPy",
    ),
    "unknown sizes": (
        lambda: nd.forward(unknown, w),
        ValueError,
        "forward: x has shape (nan, 6), of unknown sizes; wanted chunks of known sizes:"
        " call x.compute_chunk_sizes() before",
    ),
    "unknown sizes of g": (
        lambda: nd.backward(g[lazy(K, dtype=bool)], unknown, w),
        ValueError,
        "backward: g has shape (nan, 5), of unknown sizes",
    ),
    "dtypes": (
        lambda: nd.forward(lazy(K, n, dtype=np.float32), w),
        TypeError,
        "forward: x has dtype float32 and w has dtype float64; wanted one dtype for all: cast"
        " with w.astype(x.dtype)",
    ),
    "integers": (
        lambda: nd.grad_bias(lazy(K, m, dtype=int)),
        TypeError,
        "grad_bias: g has dtype int64; wanted float32 or float64",
    ),
    "byte order": (
        lambda: nd.grad_bias(lazy(K, m, dtype=">f8")),
        TypeError,
        "grad_bias: g has dtype >f8, not in this machine's byte order",
    ),
    "no dimension": (
        lambda: nd.grad_bias(lazy(chunks=())),
        ValueError,
        "grad_bias: g has 0 dimensions; wanted shape (…, m)",
    ),
    "w of three dimensions": (
        lambda: nd.forward(x, np.ones((1, m, n))),
        ValueError,
        "forward: w has 3 dimensions; wanted shape (m, n)",
    ),
    "n": (
        lambda: nd.forward(x, w.T),
        ValueError,
        "forward: x has shape (4, 6) and w has shape (6, 5); wanted x (…, n) and w (m, n) with"
        " the same n",
    ),
    "b": (
        lambda: nd.forward(x, w, np.ones(1)),
        ValueError,
        "forward: w has shape (5, 6) and b has shape (1,); wanted w (m, n) and b (m,) with the"
        " same m",
    ),
    "m": (
        lambda: nd.grad_input(lazy(K, 3), w),
        ValueError,
        "grad_input: g has shape (4, 3) and w has shape (5, 6)",
    ),
    "K": (
        lambda: nd.grad_weight(g, lazy(3, n)),
        ValueError,
        "grad_weight: g has shape (4, 5) and x has shape (3, 6); wanted g (…, m) and x (…, n)"
        " with the same batch (…)",
    ),
    "K that would broadcast": (
        lambda: nd.backward(g, lazy(1, n), w),
        ValueError,
        "backward: g has shape (4, 5) and x has shape (1, 6)",
    ),
    "K without w": (
        lambda: nd.backward(g, lazy(3, n), None),
        ValueError,
        "backward: g has shape (4, 5) and x has shape (3, 6)",
    ),
    "batches of two and one dimensions": (
        lambda: nd.grad_weight(g, lazy(2, 2, n)),
        ValueError,
        "grad_weight: g has 2 dimensions and x has 3",
    ),
    "reduction": (
        lambda: nd.grad_weight(g, x, "max"),
        ValueError,
        "grad_weight: reduction is 'max'; wanted one of 'mean', 'sum', 'none'",
    ),
    "mean of none": (
        lambda: nd.backward(lazy(0, m), lazy(0, n), w),
        ValueError,
        "backward: reduction 'mean' over an empty batch, g has shape (0, 5)",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_calls(wrong):
    call, error, words = WRONG[wrong]
    with pytest.raises(error, match=f"^{re.escape(words)}"):
        call()


def test_right_calls_compute_nothing():
    nd.backward(g, x, w), nd.backward(g, x, w, "none"), nd.forward(x, w, b)


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        (lambda chunk: chunk[1:], "has shape (1, 5) and dtype float64; wanted (2, 5)"),
        (lambda chunk: chunk[:, 1:], "has shape (2, 4) and dtype float64; wanted (2, 5)"),
        (lambda chunk: chunk.astype(np.float32), "has shape (2, 5) and dtype float32"),
    ],
)
def test_chunks_that_are_not_what_their_array_says(chunk, words):
    """Dask does not notice it, and the sum would be another."""
    wrong = da.ones((K, m), chunks=(2, m)).map_blocks(
        chunk, dtype=np.float64, meta=np.empty((0, 0))
    )
    gradient = nd.grad_bias(wrong)
    with pytest.raises(ValueError, match=re.escape(words)):
        gradient.compute(scheduler="synchronous")


@pytest.mark.skipif(not hasattr(da, "array_expr_enabled"), reason="Dask has none yet")
def test_array_expressions_are_refused():
    program = """
import dask
dask.config.set({"array.query-planning": True})
import dask.array as da
import numba_linear.dask as nd
try:
    nd.grad_bias(da.ones((4, 3)))
except NotImplementedError as error:
    print(error)
"""
    (said,) = finish(start("-W", "ignore", "-c", program))
    assert said.startswith("grad_bias: Dask's array expressions are on")
    assert "dask.config.set({'array.query-planning': False})" in said

"""Training that ends with the same SHA-256 however the gradients are computed.

Softmax regression on handwritten digits: on one thread, on two, in micro-batches, and on Dask. The
sums are cut at different places, but by the summation rule they are the same.
"""

import hashlib
import importlib.util

import numba
import numpy as np

from numba_linear import accumulate, accumulated, accumulator, forward, grad_bias, grad_weight
from numba_linear.commands.dataset import DIGITS, load

MICRO = 100


def one_call(g, x):
    return grad_weight(g, x, parallel=True), grad_bias(g, parallel=True)


def micro_batches(g, x):
    """100 samples at a time; an accumulator holds the sums between the calls."""
    acc = accumulator(np.empty((g.shape[1], x.shape[1]), x.dtype), len(x))
    for i in range(0, len(x), MICRO):
        accumulate(acc, g[i : i + MICRO], x[i : i + MICRO])
    d = accumulated(acc)
    return d.weight, d.bias


def on_dask(g, x):
    """Chunks of 100 samples, in any order."""
    import dask
    import dask.array as da

    import numba_linear.dask as nld

    g, x = da.from_array(g, (100, -1)), da.from_array(x, (100, -1))
    return dask.compute(nld.grad_weight(g, x), nld.grad_bias(g))


def numpys(g, x):
    return g.T @ x / np.float32(len(g)), g.mean(axis=0)


def numpys_micro_batches(g, x):
    K, parts = np.float32(len(g)), [slice(i, i + MICRO) for i in range(0, len(g), MICRO)]
    return sum(g[s].T @ x[s] for s in parts) / K, sum(g[s].sum(axis=0) for s in parts) / K


def train(gradients, layer, data, steps, threads=1):
    """The SHA-256 of the weights, and their accuracy on the test samples."""
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    try:
        w = np.zeros((len(data.labels), data.x.shape[1]), np.float32)
        b = np.zeros(len(w), np.float32)
        for _ in range(steps):
            g = layer(data.x, w, b)
            g = np.exp(g - g.max(axis=1, keepdims=True))
            g /= g.sum(axis=1, keepdims=True)
            g[np.arange(len(g)), data.y] -= 1
            dw, db = gradients(g, data.x)
            w -= np.float32(0.5) * dw
            b -= np.float32(0.5) * db
    finally:
        numba.set_num_threads(before)
    right = np.mean(np.argmax(forward(data.x_test, w, b), axis=1) == data.y_test)
    return hashlib.sha256(w.tobytes() + b.tobytes()).hexdigest(), float(right)


def example(steps=100):
    data = load(DIGITS)
    ways = {
        "numba_linear": {"1 thread": (one_call, 1), "2 threads": (one_call, 2)},
        "NumPy": {"1 call": (numpys, 1), "micro-batches": (numpys_micro_batches, 1)},
    }
    ways["numba_linear"]["micro-batches"] = micro_batches, 1
    if importlib.util.find_spec("distributed"):
        ways["numba_linear"]["Dask"] = on_dask, 1
    layers = {"numba_linear": forward, "NumPy": lambda x, w, b: x @ w.T + b}
    return {
        name: {way: train(how, layers[name], data, steps, n) for way, (how, n) in own.items()}
        for name, own in ways.items()
    }


def contest():
    data = load(DIGITS)
    g = np.random.default_rng(0).standard_normal((len(data.x), 10)).astype(np.float32)
    return {
        "numba_linear": lambda: (grad_weight(g, data.x, parallel=False), grad_bias(g)),
        "numba_linear, micro-batches": lambda: micro_batches(g, data.x),
        "NumPy": lambda: numpys(g, data.x),
    }

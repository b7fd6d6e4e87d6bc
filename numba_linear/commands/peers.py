"""What the package is held against: NumPy, PyTorch where it is installed, `np.dot` in @njit."""

import importlib.util
import timeit
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numba
import numpy as np
from numba import njit

import numba_linear
from numba_linear.commands.integers import floats
from numba_linear.commands.timing import Contestant

FORWARD_BACKWARD = "forward + backward"

OURS = {
    "forward": "forward(x, w, b)",
    "grad_input": "grad_input(g, w)",
    "grad_weight": "grad_weight(g, x)",
    FORWARD_BACKWARD: "forward(x, w, b); backward(g, x, w)",
}
NUMPY = {
    "forward": "x @ w.T + b",
    "grad_input": "g @ w",
    "grad_weight": "(g.T @ x) / K",
    FORWARD_BACKWARD: "x @ w.T + b; g @ w; (g.T @ x) / K; g.sum(axis=0) / K",
}
TORCH = {
    "forward": "linear(x, w, b)",
    "grad_input": "g @ w",
    "grad_weight": "(g.T @ x) / K",
    FORWARD_BACKWARD: "x.grad = w.grad = b.grad = None; linear(x, w, b).backward(g)",
}

HAS_TORCH = importlib.util.find_spec("torch") is not None
HAS_SCIPY = importlib.util.find_spec("scipy") is not None
HAS_THREADPOOLCTL = importlib.util.find_spec("threadpoolctl") is not None

Shape = tuple[int, int, int]


def set_threads(threads: int) -> None:
    """Give every contestant the same number of threads, as far as there is a way to."""
    numba.set_num_threads(threads)
    if HAS_THREADPOOLCTL:
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads, user_api="blas")
    if HAS_TORCH:
        import torch

        torch.set_num_threads(threads)


def operands(shape: Shape, dtype: str) -> dict[str, Any]:
    """x, w, b, g and K of a layer; the arrays C-contiguous and aligned as PyTorch's own are."""
    K, n, m = shape
    shapes = {"x": (K, n), "w": (m, n), "b": (m,), "g": (K, m)}
    arrays = {name: aligned(sizes, dtype) for name, sizes in shapes.items()}
    for seed, array in enumerate(arrays.values()):
        array[...] = floats(seed, array.shape, dtype)
    return arrays | {"K": K}


def aligned(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An uninitialised array that starts at a multiple of 64 bytes."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def contestants(operation: str, shape: Shape, dtype: str, peers: Sequence[str]) -> list[Contestant]:
    """The package's call and each peer's, on the same operands in the same memory."""
    arrays = operands(shape, dtype)
    found = [_timed("numba_linear", OURS[operation], vars(numba_linear) | arrays)]
    if "numpy" in peers:
        found.append(_timed("numpy", NUMPY[operation], arrays))
    if "torch" in peers and HAS_TORCH:
        import torch

        trained = operation == FORWARD_BACKWARD
        tensors = {
            name: torch.from_numpy(array).requires_grad_(trained and name != "g")
            for name, array in arrays.items()
            if name != "K"
        }
        names = {"linear": torch.nn.functional.linear, "K": arrays["K"]} | tensors

        def prepare() -> None:
            torch.set_grad_enabled(trained)

        found.append(_timed("torch", TORCH[operation], names, prepare))
    return found


def _timed(
    name: str, statement: str, names: dict[str, Any], *prepare: Callable[[], None]
) -> Contestant:
    """A contestant that is one line of Python; `timeit` adds nothing to it but the loop."""
    return Contestant(name, timeit.Timer(statement, globals=names).timeit, *prepare)


@njit
def _forwards(x, w, b, y, count):
    for _ in range(count):
        numba_linear.forward(x, w, b, out=y)


@njit
def _dots(x, wt, b, y, count):
    for _ in range(count):
        np.dot(x, wt, y)
        for k in range(y.shape[0]):
            for i in range(y.shape[1]):
                y[k, i] += b[i]


def compiled_contestants(shape: Shape, dtype: str) -> list[Contestant]:
    """`forward` in a compiled loop, and the best that one can do there with `np.dot`."""
    arrays = operands(shape, dtype)
    x, w, b = arrays["x"], arrays["w"], arrays["b"]
    wt = np.ascontiguousarray(w.T)
    y = aligned((len(x), len(w)), dtype)

    def ours(count: int) -> float:
        start = perf_counter()
        _forwards(x, w, b, y, count)
        return perf_counter() - start

    def dot(count: int) -> float:
        start = perf_counter()
        _dots(x, wt, b, y, count)
        return perf_counter() - start

    return [Contestant("numba_linear", ours), Contestant("np.dot", dot)]

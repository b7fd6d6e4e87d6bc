"""The package's peers: NumPy and PyTorch, `np.dot` in @njit, the machine's limit."""

import functools
import importlib.util
import timeit
from time import perf_counter
from typing import Any

import numba
import numpy as np
from numba import njit

import numba_linear
from numba_linear.commands.integers import floats
from numba_linear.commands.timing import Contestant

FORWARD_BACKWARD = "forward + backward"
#: With the weight stored as for `np.dot`.
FORWARD_STORED = "forward, w = wt.T"
#: Add a micro-batch's gradients of W and b to existing sums.
ACCUMULATE = "accumulate"

#: Samples after which an accumulator starts again.
ROOM = 2048

OURS = {
    "forward": "forward(x, w, b)",
    "grad_input": "grad_input(g, w)",
    "grad_weight": "grad_weight(g, x)",
    "grad_bias": "grad_bias(g)",
    "backward": "backward(g, x, w)",
    FORWARD_BACKWARD: "forward(x, w, b); backward(g, x, w)",
    ACCUMULATE: "accumulate(acc, g, x)",
}
NUMPY = {
    "forward": "x @ w.T + b",
    "grad_input": "g @ w",
    "grad_weight": "(g.T @ x) / K",
    "grad_bias": "g.sum(axis=0) / K",
    "backward": "g @ w; (g.T @ x) / K; g.sum(axis=0) / K",
    FORWARD_BACKWARD: "x @ w.T + b; g @ w; (g.T @ x) / K; g.sum(axis=0) / K",
    ACCUMULATE: "np.add(dw, g.T @ x, out=dw); np.add(db, g.sum(axis=0), out=db)",
}
TORCH = {
    "forward": "linear(x, w, b)",
    "grad_input": "g @ w",
    "grad_weight": "(g.T @ x) / K",
    "grad_bias": "g.sum(0) / K",
    "backward": "g @ w; (g.T @ x) / K; g.sum(0) / K",
    FORWARD_BACKWARD: "x.grad = w.grad = b.grad = None; linear(x, w, b).backward(g)",
    ACCUMULATE: "dw.addmm_(g.T, x); db.add_(g.sum(0))",
}

Shape = tuple[int, int, int]


def installed(package: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def set_threads(threads: int) -> None:
    """Give every contestant the same number of threads, as far as possible."""
    numba.set_num_threads(threads)
    if installed("scipy"):
        import scipy.linalg.cython_blas  # noqa: F401  its own OpenBLAS, behind np.dot in @njit
    if installed("threadpoolctl"):
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads, user_api="blas")
    if installed("torch"):
        import torch

        torch.set_num_threads(threads)


def vendors(operation: str, shape: Shape, dtype: str, threads: int) -> list[Contestant]:
    """The package, NumPy and, if installed, PyTorch."""
    arrays = operands(shape, dtype)
    found = [_ours(operation, arrays), _timed("numpy", NUMPY[operation], arrays)]
    if installed("torch"):
        found.append(_torch(operation, arrays))
    return found


def accumulating(operation: str, shape: Shape, dtype: str, threads: int) -> list[Contestant]:
    """`accumulate`, and the same in NumPy and PyTorch."""
    arrays = operands(shape, dtype)
    _, n, m = shape
    sums = {"dw": _aligned((m, n), dtype), "db": _aligned((m,), dtype)}
    for array in sums.values():
        array[...] = 0
    found = [_accumulate(arrays), _timed("numpy", NUMPY[operation], arrays | sums | {"np": np})]
    if installed("torch"):
        found.append(_torch(operation, arrays | sums))
    return found


def _accumulate(arrays: dict[str, Any]) -> Contestant:
    """Add micro-batches while there is room, then start again."""
    room = max(ROOM, arrays["K"])
    acc = numba_linear.accumulator(arrays["w"], room)
    add = _timed("numba_linear", OURS[ACCUMULATE], vars(numba_linear) | arrays | {"acc": acc})

    def run(count: int) -> float:
        seconds = 0.0
        while count:
            some = min(count, room // arrays["K"])
            acc.samples[:] = 0
            seconds += add.run(some)
            count -= some
        return seconds

    return Contestant(add.name, run)


def autograd(operation: str, shape: Shape, dtype: str, threads: int) -> list[Contestant]:
    """The package and PyTorch alone."""
    arrays = operands(shape, dtype)
    return [_ours(operation, arrays), _torch(operation, arrays)]


def compiled(operation: str, shape: Shape, dtype: str, threads: int) -> list[Contestant]:
    """`forward` in a compiled loop, and the fastest way there with `np.dot`."""
    arrays = operands(shape, dtype)
    x, w, b = arrays["x"], arrays["w"], arrays["b"]
    wt = _aligned(w.T.shape, dtype)
    wt[...] = w.T
    if operation == FORWARD_STORED:
        w = wt.T
    y = _aligned((len(x), len(w)), dtype)

    def ours(count: int) -> float:
        start = perf_counter()
        forwards(count, x, w, b, y)
        return perf_counter() - start

    def dot(count: int) -> float:
        start = perf_counter()
        dots(count, x, wt, b, y)
        return perf_counter() - start

    return [Contestant("numba_linear", ours), Contestant("np.dot", dot)]


def limit(operation: str, shape: Shape, dtype: str, threads: int) -> list[Contestant]:
    """The package, and the time of its multiply-adds alone."""
    from numba_linear.cpu.limit import flops

    def multiply_adds(count: int) -> float:
        return count * 2.0 * shape[0] * shape[1] * shape[2] / flops(np.dtype(dtype))

    return [_ours(operation, operands(shape, dtype)), Contestant("limit", multiply_adds)]


def one_thread(operation: str, shape: Shape, dtype: str, threads: int) -> list[Contestant]:
    """The package on several threads, and on one."""
    run = _ours(operation, operands(shape, dtype)).run
    return [
        Contestant("numba_linear", run, lambda: numba.set_num_threads(threads)),
        Contestant("one thread", run, lambda: numba.set_num_threads(1)),
    ]


def _ours(operation: str, arrays: dict[str, Any]) -> Contestant:
    return _timed("numba_linear", OURS[operation], vars(numba_linear) | arrays)


def _torch(operation: str, arrays: dict[str, Any]) -> Contestant:
    import torch

    # Without autograd no tensor requires a gradient, so PyTorch records nothing: `no_grad` made no
    # difference.
    trained = operation == FORWARD_BACKWARD
    tensors = {
        name: torch.from_numpy(array).requires_grad_(trained and name != "g")
        for name, array in arrays.items()
        if name != "K"
    }
    names = tensors | {"linear": torch.nn.functional.linear, "K": arrays["K"]}
    return _timed("torch", TORCH[operation], names)


def _timed(name: str, statement: str, names: dict[str, Any]) -> Contestant:
    """A contestant of one line of Python; `timeit` adds only the loop."""
    # A copy, since timeit adds names of its own.
    return Contestant(name, timeit.Timer(statement, globals=dict(names)).timeit)


@functools.lru_cache(maxsize=1)
def operands(shape: Shape, dtype: str) -> dict[str, Any]:
    """x, w, b, g and K of a layer, C-contiguous; kept while a shape is measured."""
    K, n, m = shape
    shapes = {"x": (K, n), "w": (m, n), "b": (m,), "g": (K, m)}
    arrays: dict[str, Any] = {"K": K}
    for seed, (name, sizes) in enumerate(shapes.items()):
        arrays[name] = _aligned(sizes, dtype)
        arrays[name][...] = floats(seed, sizes, dtype)
    return arrays


def _aligned(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An uninitialised array aligned to 64 bytes, as PyTorch's own are."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


@njit
def forwards(count, x, w, b, y):
    for _ in range(count):
        numba_linear.forward(x, w, b, out=y)


@njit
def dots(count, x, wt, b, y):
    for _ in range(count):
        np.dot(x, wt, y)
        for k in range(y.shape[0]):
            for i in range(y.shape[1]):
                y[k, i] += b[i]

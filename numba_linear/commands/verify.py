"""The ``verify`` command: checks the promise of bits on this machine."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numba_linear import (
    accumulate,
    accumulated,
    accumulator,
    backward,
    equations,
    forward,
    grad_bias,
    grad_input,
    grad_weight,
)
from numba_linear.commands import cuda
from numba_linear.commands.integers import floats
from numba_linear.cpu.launch import missing_threads

Array = NDArray[np.floating]
#: The results of each operation: one array, or the three of `backward`.
Results = dict[str, tuple[Array, ...]]

DTYPES = ("float32", "float64")
REDUCTIONS = ("mean", "sum", "none")

#: Sizes around the ends of vectors, tiles and leaves of 256, for each of K, n and m in turn.
EDGES = (1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 255, 256, 257, 511, 512, 513, 0)
SHAPES = (
    *((edge, 5, 7) for edge in EDGES),
    *((3, edge, 7) for edge in EDGES),
    *((3, 5, edge) for edge in EDGES),
    (33, 257, 65),
    (64, 64, 64),
    (257, 65, 31),
    # More than one block of rows and of columns, and several levels of the tree.
    (301, 1100, 130),
    (1500, 131, 40),
)

#: Per-sample gradients with more numbers than this are left out: they would take seconds.
EACH = 2**20

#: SHA-256 of all results in the order of `SHAPES`, by `equations.py`. If the shapes change, a run
#: prints the equations' new digest.
RECORDED = {
    "float32": "16f7ac4b4abecd6b8520cd367b06986c8ca19b80189bc192f3b0006bbbca5e00",
    "float64": "08d68e42ce767edb1095b0af41c193abb99d37710b54191f11885f018c952108",
}

#: The most differences shown: a wrong tile may make thousands.
SHOWN = 5

#: The gradient check's loss is quadratic, so a central difference has only rounding errors, about
#: 1e-16 / STEP.
STEP = 2.0**-12
TOLERANCE = 1e-9


def run(device: str = "cpu") -> bool:
    """Check every operation and report; True if all checks pass.

    Parameters
    ----------
    device : {"cpu", "cuda"}

    Raises
    ------
    UserError
        If there is no such device.
    """
    if device == "cuda":
        cuda.check()
    missing = missing_threads() if device == "cpu" else ""
    if device != "cpu":
        where = f"on {cuda.name()}"
    elif missing:
        where = f"on one thread alone, for Numba can start no threads ({missing})"
    else:
        where = "on one thread and on all"
    print(
        f"verify: every operation against the equations, bit for bit, at {len(SHAPES)} shapes, "
        f"{where}",
        flush=True,
    )
    ways = (None,) if device != "cpu" else (False,) if missing else (False, True)
    columns = [_compare(dtype, device, ways) for dtype in DTYPES]

    def line(label: str, cells: list[str]) -> None:
        print(f"  {label:24}" + "".join(f"{cell:>18}" for cell in cells))

    line("equal of compared", list(DTYPES))
    for operation in columns[0].compared:
        counts = [(column.equal[operation], column.compared[operation]) for column in columns]
        line(operation, [f"{equal} of {compared}" for equal, compared in counts])
    line("SHA-256", [f"{column.digest[:16]}…" for column in columns])

    differences = [difference for column in columns for difference in column.differences]
    passed = _verdict(not differences, "every result has the bits of the equations")
    for difference in differences[:SHOWN]:
        print(f"    {difference}")
    if len(differences) > SHOWN:
        print(f"    … and {len(differences) - SHOWN} more")
    for dtype, column in zip(DTYPES, columns, strict=True):
        if not _verdict(
            column.digest == RECORDED[dtype], f"{dtype}: the results' SHA-256 is the recorded one"
        ):
            passed = False
            print(f"    here       {column.digest}")
            print(f"    equations  {column.digest_of_equations}")
            print(f"    recorded   {RECORDED[dtype]}")
    if device != "cpu":
        return passed
    error, count = _gradient_error()
    return passed & _verdict(
        error <= TOLERANCE,
        f"gradients agree with {count} finite differences in float64: "
        f"relative error {error:.0e}, limit {TOLERANCE:.0e}",
    )


def _verdict(passed: bool, what: str) -> bool:
    print(f"  {'passed' if passed else 'FAILED'}: {what}", flush=True)
    return passed


@dataclass
class Column:
    """One dtype's column of the table."""

    equal: Counter[str] = field(default_factory=Counter)
    compared: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    digest: str = ""
    digest_of_equations: str = ""


def _compare(dtype: str, device: str, ways: tuple[bool | None, ...]) -> Column:
    """The calls against the equations, with each of these values of `parallel`, None on a GPU."""
    column = Column()
    package, oracle = hashlib.sha256(), hashlib.sha256()
    for number, (K, n, m) in enumerate(SHAPES):
        shapes = ((K, n), (m, n), (m,), (K, m))
        x, w, b, g = (floats(4 * number + i, shape, dtype) for i, shape in enumerate(shapes))
        want = _by_equations(x, w, b, g)
        _add(oracle, want)
        if device == "cpu":
            for reduction in _sums(K):
                gradients = (
                    equations.grad_weight(g, x, reduction),
                    equations.grad_bias(g, reduction),
                )
                want[f"accumulate {reduction}"] = gradients
        for parallel in ways:
            if parallel is None:
                got = cuda.on_host(_by_calls(cuda.calls(), *cuda.on_device(x, w, b, g)))
            else:
                calls = (forward, grad_input, grad_weight, grad_bias, backward)
                got = _by_calls(calls, x, w, b, g, parallel=parallel)
            if not parallel:
                _add(package, got)
            if parallel is not None:
                got |= _in_batches(x, w, g, parallel)
            for operation in want:
                difference = _difference(got[operation], want[operation])
                column.compared[operation] += 1
                column.equal[operation] += difference is None
                if difference is not None:
                    threads = {None: device, False: "one thread", True: "all threads"}[parallel]
                    column.differences.append(
                        f"{operation}, {dtype}, (K, n, m) = {(K, n, m)}, {threads}: {difference}"
                    )
    column.digest, column.digest_of_equations = package.hexdigest(), oracle.hexdigest()
    return column


def _reductions(K: int, n: int, m: int) -> tuple[str, ...]:
    """The reductions that are defined for a shape and do not take too long."""
    return tuple(
        reduction
        for reduction in REDUCTIONS
        if not (reduction == "mean" and K == 0) and not (reduction == "none" and K * n * m > EACH)
    )


def _by_equations(x: Array, w: Array, b: Array, g: Array) -> Results:
    results: Results = {
        "forward": (equations.forward(x, w, b),),
        "forward without b": (equations.forward(x, w),),
        "grad_input": (equations.grad_input(g, w),),
    }
    for reduction in _reductions(len(x), *w.shape[::-1]):
        weight = equations.grad_weight(g, x, reduction)
        bias = equations.grad_bias(g, reduction)
        results[f"grad_weight {reduction}"] = (weight,)
        results[f"grad_bias {reduction}"] = (bias,)
        results[f"backward {reduction}"] = (*results["grad_input"], weight, bias)
    if len(x):
        results["forward, one sample"] = (results["forward"][0][0],)
        results["backward, one sample"] = (
            results["grad_input"][0][0],
            equations.grad_weight(g[:1], x[:1], "sum"),
            equations.grad_bias(g[:1], "sum"),
        )
    return results


def _by_calls(calls: cuda.Calls, x: Any, w: Any, b: Any, g: Any, **keywords: bool) -> Results:
    """The public calls' results for arrays on the CPU or on a GPU."""
    forward, grad_input, grad_weight, grad_bias, backward = calls
    results: Results = {
        "forward": (forward(x, w, b, **keywords),),
        "forward without b": (forward(x, w, **keywords),),
        "grad_input": (grad_input(g, w, **keywords),),
    }
    for reduction in _reductions(len(x), *w.shape[::-1]):
        results[f"grad_weight {reduction}"] = (grad_weight(g, x, reduction, **keywords),)
        results[f"grad_bias {reduction}"] = (grad_bias(g, reduction, **keywords),)
        results[f"backward {reduction}"] = backward(g, x, w, reduction, **keywords)
    if len(x):
        results["forward, one sample"] = (forward(x[0], w, b, **keywords),)
        results["backward, one sample"] = backward(g[0], x[0], w, **keywords)
    return results


def _sums(K: int) -> tuple[str, ...]:
    """The reductions of `accumulated`."""
    return ("mean", "sum") if K else ("sum",)


def _in_batches(x: Array, w: Array, g: Array, parallel: bool) -> Results:
    """The gradients of W and b, accumulated in batches of 1, 2, 3, … samples."""
    K = len(x)
    sums, k, size = accumulator(w, max(1, K)), 0, 1
    while k < K:
        accumulate(sums, g[k : k + size], x[k : k + size], parallel)
        k, size = k + size, size + 1
    return {f"accumulate {r}": accumulated(sums, r)[1:] for r in _sums(K)}


def _add(digest: "hashlib._Hash", results: Results) -> None:
    for operation, arrays in results.items():
        for array in arrays:
            digest.update(f"{operation} {array.shape}".encode())
            digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())


def _difference(got: tuple[Array, ...], want: tuple[Array, ...]) -> str | None:
    """The first difference of results in shape, dtype or bits; None if they are equal."""
    for number, (a, c) in enumerate(zip(got, want, strict=True)):
        result = f"result {number}, " if len(want) > 1 else ""
        if (a.shape, a.dtype) != (c.shape, c.dtype):
            return f"{result}got {a.dtype} {a.shape}, expected {c.dtype} {c.shape}"
        word = f"u{c.dtype.itemsize}"
        unequal = np.argwhere(a.view(word) != c.view(word))
        if len(unequal):
            index = tuple(int(i) for i in unequal[0])
            return (
                f"{result}{len(unequal)} of {c.size} numbers, first at {index}: "
                f"got {a[index]!r} = {a[index].view(word):#x}, "
                f"expected {c[index]!r} = {c[index].view(word):#x}"
            )
    return None


def _gradient_error() -> tuple[float, int]:
    """The largest error of the gradients against finite differences, and their number.

    The loss is L = (1/2K) Σ_k |y_k - t_k|², so g_k = y_k - t_k with the mean over the batch.
    ∂L/∂x_k has a factor 1/K, which `grad_input`, since it does not average, leaves to its caller.
    """
    K, n, m = 7, 11, 5
    shapes = ((K, n), (m, n), (m,), (K, m))
    x, w, b, t = (floats(i, shape, np.float64) for i, shape in enumerate(shapes))

    def loss() -> float:
        return float(((forward(x, w, b) - t) ** 2).sum() / (2 * K))

    gradients = backward(forward(x, w, b) - t, x, w)
    pairs = ((x, gradients.input / K), (w, gradients.weight), (b, gradients.bias))
    error = 0.0
    for values, gradient in pairs:
        for index in np.ndindex(values.shape):
            value = values[index]
            values[index] = value + STEP
            above = loss()
            values[index] = value - STEP
            below = loss()
            values[index] = value
            slope = (above - below) / (2 * STEP)
            error = max(error, float(abs(slope - gradient[index]) / np.abs(gradient).max()))
    return error, sum(values.size for values, _ in pairs)

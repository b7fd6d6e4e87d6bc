"""The layer for Dask arrays: the calls of `numba_linear`, lazy, with the same bits.

A result does not depend on chunks, workers or the order in which they finish. Needs the extra
``dask``; see docs/cluster.md.
"""

# The site is built without Dask, so annotations must not need `dask.array.Array`.
from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np

try:
    import dask.array as da
    from dask import delayed
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph
except ImportError as error:
    raise ImportError(
        f"numba_linear.dask: Dask cannot be imported ({error}); install it with, in a clone:"
        " pip install -e '.[dask]'"
    ) from error

import numba_linear
from numba_linear import checks
from numba_linear.codes import FINE
from numba_linear.equations import LEAF
from numba_linear.interpreted import refusal
from numba_linear.layer import Gradients
from numba_linear.stretch import Stretch, SumOf, join, stretch, unit_of, whole
from numba_linear.tree import Array, Sums, quiet

__all__ = ["Gradients", "backward", "forward", "grad_bias", "grad_input", "grad_weight"]

#: Stretches that one task joins. With 2 a sum takes 1.2 to 1.4 times as long.
FAN = 8

#: The arguments in chunks of samples; every task has the others whole.
CHUNKED = ("x", "g")

# --------------------------------------------------------------------------------------
# The calls
# --------------------------------------------------------------------------------------


def forward(x: da.Array, w: da.Array | Array, b: da.Array | Array | None = None) -> da.Array:
    """y = W x + b; `numba_linear.forward` for Dask arrays, with the same bits.

    Parameters
    ----------
    x : dask Array, shape (n,) or (…, n)
        One sample, or a batch with any leading dimensions, in any chunks; float32 or float64.
    w : dask Array or ndarray, shape (m, n)
        The weight, out features first. Each task takes all of it.
    b : dask Array or ndarray, shape (m,), optional
        The bias.

    Returns
    -------
    dask Array, shape (m,) or (…, m)
        Lazy, in the chunks of x along the samples and one along the features.

    Raises
    ------
    TypeError
        x is not a Dask array, w or b is neither a Dask array nor an ndarray, chunks are not
        ndarrays, or the dtypes are not all float32 or all float64.
    ValueError
        Shapes that do not conform, or unknown chunk sizes.
    NotImplementedError
        Dask's array expressions (``array.query-planning``) are on.

    The call raises, before anything is computed.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> from numba_linear.dask import forward
    >>> x = da.ones((1000, 3), chunks=(300, 3))
    >>> w = np.array([[1.0, 0.0, -1.0], [2.0, 1.0, 0.0]])
    >>> y = forward(x, w, np.array([10.0, 20.0]))
    >>> y.shape, y.chunks[0]
    ((1000, 2), (300, 300, 300, 100))
    >>> y[0].compute()
    array([10., 23.])
    """
    given = checked("forward", "sum", x=x, w=w, b=b)
    x, *weights = given.values()
    return each("forward", forward_of, x, len(given["w"]), *weights)


def grad_input(g: da.Array, w: da.Array | Array) -> da.Array:
    """∂L/∂x = g W; `numba_linear.grad_input` for Dask arrays, with the same bits.

    Parameters
    ----------
    g : dask Array, shape (m,) or (…, m)
        ∂L/∂y, in any chunks; float32 or float64.
    w : dask Array or ndarray, shape (m, n)
        The weight. Each task takes all of it.

    Returns
    -------
    dask Array, shape (n,) or (…, n)
        Lazy, in the chunks of g along the samples and one along the features.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As in `forward`.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> from numba_linear.dask import grad_input
    >>> w = np.array([[1.0, 0.0, -1.0], [2.0, 1.0, 0.0]])
    >>> grad_input(da.ones((1000, 2), chunks=300), w)[0].compute()
    array([ 3.,  1., -1.])
    """
    g, w = checked("grad_input", "sum", g=g, w=w).values()
    return each("grad_input", input_of, g, w.shape[1], w)


def grad_weight(g: da.Array, x: da.Array, reduction: str = "mean") -> da.Array:
    """∂L/∂W over a batch; `numba_linear.grad_weight` for Dask arrays, with the same bits.

    Parameters
    ----------
    g : dask Array, shape (m,) or (…, m)
        ∂L/∂y, in any chunks; float32 or float64.
    x : dask Array, shape (n,) or (…, n)
        The input of `forward`, with the same batch as g. If their chunks differ, those of
        the operand with fewer features are cut like the other's.
    reduction : {"mean", "sum", "none"}
        The mean of the samples' gradients (the default), their sum, or one gradient for each
        sample.

    Returns
    -------
    dask Array, shape (m, n), or (…, m, n) without a reduction
        Lazy; in one chunk, or without a reduction in those of the samples.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As in `forward`; and ValueError for an unknown reduction and for a mean over an empty
        batch.

    Examples
    --------
    The gradient does not depend on the chunks:

    >>> import dask.array as da
    >>> import numpy as np
    >>> import numba_linear
    >>> from numba_linear.dask import grad_weight
    >>> rng = np.random.default_rng(0)
    >>> g, x = rng.standard_normal((5000, 10)), rng.standard_normal((5000, 64))
    >>> lazy = [da.from_array(a, chunks=(700, -1)) for a in (g, x)]
    >>> bool((grad_weight(*lazy).compute() == numba_linear.grad_weight(g, x)).all())
    True
    """
    g, x = checked("grad_weight", reduction, g=g, x=x).values()
    if reduction == "none":
        return weight_each(g, x)
    (weight,) = summed("grad_weight", reduction, weight_sum, ["weight"], g, x)
    return weight


def grad_bias(g: da.Array, reduction: str = "mean") -> da.Array:
    """∂L/∂b over a batch; `numba_linear.grad_bias` for Dask arrays, with the same bits.

    Parameters
    ----------
    g : dask Array, shape (m,) or (…, m)
        ∂L/∂y, in any chunks; float32 or float64.
    reduction : {"mean", "sum", "none"}
        As in `grad_weight`.

    Returns
    -------
    dask Array, shape (m,), or (…, m) without a reduction
        Lazy; in one chunk, or without a reduction in those of the samples.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As in `grad_weight`.

    Examples
    --------
    >>> import dask.array as da
    >>> from numba_linear.dask import grad_bias
    >>> grad_bias(da.ones((1000, 2), chunks=300), "sum").compute()
    array([1000., 1000.])
    """
    (g,) = checked("grad_bias", reduction, g=g).values()
    if reduction == "none":
        return bias_each(g)
    (bias,) = summed("grad_bias", reduction, bias_sum, ["bias"], g)
    return bias


def backward(
    g: da.Array, x: da.Array, w: da.Array | Array | None, reduction: str = "mean"
) -> Gradients:
    """All three gradients; `numba_linear.backward` for Dask arrays, with the same bits.

    Parameters
    ----------
    g : dask Array, shape (m,) or (…, m)
        ∂L/∂y, in any chunks; float32 or float64.
    x : dask Array, shape (n,) or (…, n)
        The input of `forward`, with the same batch as g; in chunks as in `grad_weight`.
    w : dask Array or ndarray, shape (m, n), or None
        The weight; None for a network's first layer, whose ∂L/∂x is not needed.
    reduction : {"mean", "sum", "none"}
        As in `grad_weight`.

    Returns
    -------
    Gradients
        Lazy arrays: `input`, which is never reduced, and None without w, `weight` and `bias`.
        Compute them together, ``dask.compute(*gradients)``, so that each chunk is made once.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As in `grad_weight`.

    Examples
    --------
    >>> import dask
    >>> import dask.array as da
    >>> import numpy as np
    >>> from numba_linear.dask import backward
    >>> g, x = da.ones((1000, 2), chunks=300), da.ones((1000, 3), chunks=300)
    >>> d = backward(g, x, np.ones((2, 3)))
    >>> dx, dw, db = dask.compute(*d)
    >>> dx.shape, dw, db
    ((1000, 3), array([[1., 1., 1.],
           [1., 1., 1.]]), array([1., 1.]))
    """
    given = checked("backward", reduction, g=g, x=x, w=w)
    g, x = given["g"], given["x"]
    dx: Any = grad_input(g, given["w"]) if "w" in given else None
    if reduction == "none":
        return Gradients(dx, weight_each(g, x), bias_each(g))
    return Gradients(dx, *summed("backward", reduction, both_sums, ["weight", "bias"], g, x))


# --------------------------------------------------------------------------------------
# What the tasks compute, each on its worker's thread
# --------------------------------------------------------------------------------------


def forward_of(x: Array, w: Array, b: Array | None = None) -> Array:
    return numba_linear.forward(x, w, b, parallel=False)


def input_of(g: Array, w: Array) -> Array:
    return numba_linear.grad_input(g, w, parallel=False)


def weight_of(g: Array, x: Array) -> Array:
    return numba_linear.grad_weight(g, x, "none", parallel=False)


def bias_of(g: Array) -> Array:
    return numba_linear.grad_bias(g, "none", parallel=False)


def weight_sum(g: Array, x: Array) -> Sums:
    return (numba_linear.grad_weight(g, x, "sum", parallel=False),)


def bias_sum(g: Array) -> Sums:
    return (numba_linear.grad_bias(g, "sum", parallel=False),)


def both_sums(g: Array, x: Array) -> Sums:
    return weight_sum(g, x) + bias_sum(g)


def stretch_of(
    sum_of: SumOf,
    unit: int,
    dtype: np.dtype[Any],
    features: tuple[int, ...],
    start: int,
    samples: int,
    *chunks: Array,
) -> Stretch:
    """One chunk of each operand, from sample `start` on, as a stretch.

    Raises
    ------
    ValueError
        A chunk that is not as its Dask array says: the sum would be wrong without notice.
    """
    for chunk, size in zip(chunks, features, strict=True):
        if chunk.shape != (samples, size) or chunk.dtype != dtype:
            raise ValueError(
                f"numba_linear.dask: the chunk from sample {start} on has shape {chunk.shape} and"
                f" dtype {chunk.dtype}; wanted {samples, size} and {dtype}, as its Dask array"
                " says"
            )
    return stretch(sum_of, unit, start, chunks)


@quiet
def result_of(sums: Sums, position: int, K: int | None) -> Array:
    """One of the sums, or its quotient by K."""
    result = sums[position]
    return result if K is None else result / result.dtype.type(K)


# --------------------------------------------------------------------------------------
# Graphs
# --------------------------------------------------------------------------------------


def each(
    operation: str, function: Callable[..., Array], a: da.Array, features: int, *weights: da.Array
) -> da.Array:
    """A function of each sample of `a` and of weights: one task per chunk, with all features.

    The weights are not operands of `dask.array.blockwise`: with a contracted index it would not
    fuse these tasks with those that make `a`.
    """
    letters = tuple(range(a.ndim))
    # A task in between, since Dask cannot fuse tasks that depend on a layer in both ways.
    hand_on = delayed(np.asarray, pure=True)
    blocks = (hand_on(w.to_delayed(optimize_graph=False).item()) for w in weights)
    return da.blockwise(
        function,
        letters,
        one_chunk_of_features(a),
        letters,
        *(argument for block in blocks for argument in (block, None)),
        adjust_chunks={letters[-1]: features},
        align_arrays=False,
        token=operation,
        dtype=a.dtype,
        meta=np.empty((0,) * a.ndim, a.dtype),
    )


def weight_each(g: da.Array, x: da.Array) -> da.Array:
    g, x = aligned(g, x)
    *batch, m, n = range(g.ndim + 1)
    return da.blockwise(
        weight_of,
        (*batch, m, n),
        g,
        (*batch, m),
        x,
        (*batch, n),
        align_arrays=False,
        token="grad_weight",
        dtype=g.dtype,
        meta=np.empty((0,) * (g.ndim + 1), g.dtype),
    )


def bias_each(g: da.Array) -> da.Array:
    return each("grad_bias", bias_of, g, g.shape[-1])


def summed(
    operation: str,
    reduction: str,
    sum_of: SumOf,
    fields: list[str],
    *operands: da.Array,
) -> list[da.Array]:
    """The fields that `sum_of` sums over all samples, or their means.

    One task makes a stretch of each chunk, then `FAN` at a time are joined, and the last join
    is the total. The graph is built by hand: `dask.array.blockwise` and `reduction` take seven
    times as long to build and optimise it.
    """
    dtype, K = operands[0].dtype, math.prod(operands[0].shape[:-1])
    features = tuple(a.shape[-1] for a in operands)
    shapes = {"weight": features, "bias": features[:1]}
    if not K:
        return [da.zeros(shapes[field], dtype=dtype, chunks=-1) for field in fields]
    rows = aligned(*map(flat, operands))
    unit = unit_of(*features) if len(rows) == 2 else LEAF
    token = tokenize(operation, *rows)
    total = f"{operation}-total-{token}"

    graph: dict[Any, Any] = {}
    keys: list[Any] = []
    make = partial(stretch_of, sum_of, unit, dtype, features)
    starts = accumulate(rows[0].chunks[0], initial=0)
    for q, (start, samples) in enumerate(zip(starts, rows[0].chunks[0], strict=False)):
        if samples:
            keys.append((f"{operation}-stretch-{token}", q))
            graph[keys[-1]] = (make, start, samples, *((a.name, q, 0) for a in rows))
    level = 0
    while len(keys) > FAN:
        level += 1
        name = f"{operation}-join-{token}"
        groups = [keys[i : i + FAN] for i in range(0, len(keys), FAN)]
        keys = [(name, level, i) for i in range(len(groups))]
        graph |= {
            key: (partial(join, sum_of, unit), group)
            for key, group in zip(keys, groups, strict=True)
        }
    graph[total, 0] = (partial(whole, sum_of, unit), keys)
    sums = HighLevelGraph.from_collections(total, graph, dependencies=rows)

    results = []
    for position, field in enumerate(fields):
        shape = shapes[field]
        name = f"{operation}-{field}-{reduction}-{token}"
        origin = (name, *(0 for _ in shape))
        task = (result_of, (total, 0), position, K if reduction == "mean" else None)
        whole_graph = HighLevelGraph(
            {**sums.layers, name: {origin: task}}, {**sums.dependencies, name: {total}}
        )
        chunks = tuple((size,) for size in shape)
        meta = np.empty((0,) * len(shape), dtype)
        results.append(da.Array(whole_graph, name, chunks, meta=meta))
    return results


def one_chunk_of_features(a: da.Array) -> da.Array:
    return a.rechunk({a.ndim - 1: -1})


def flat(a: da.Array) -> da.Array:
    """The samples of any batch, as rows of one matrix."""
    if a.ndim == 2:
        return a
    # Dask's reshape fails on empty chunks.
    some = tuple(tuple(size for size in sizes if size) or (0,) for sizes in a.chunks)
    return a.rechunk(some).reshape((math.prod(a.shape[:-1]), a.shape[-1]))


def aligned(*arrays: da.Array) -> list[da.Array]:
    """Arrays of the same samples in equal chunks, with all features in one chunk.

    The array with the most features keeps its chunks: the others are less to move.
    """
    widest = max(arrays, key=lambda a: a.shape[-1])
    chunks = dict(enumerate(widest.chunks[:-1]))
    return [a.rechunk({**chunks, a.ndim - 1: -1}) for a in arrays]


# --------------------------------------------------------------------------------------
# Checks
# --------------------------------------------------------------------------------------


def checked(operation: str, reduction: str, **arguments: Any) -> dict[str, da.Array]:
    """The arguments as Dask arrays, without an optional one that is None.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As in the calls.
    """
    # Older versions of Dask have no array expressions.
    if getattr(da, "array_expr_enabled", bool)():
        raise NotImplementedError(
            f"{operation}: Dask's array expressions are on, of which numba_linear.dask knows"
            " nothing; set dask.config.set({'array.query-planning': False}) before dask.array is"
            " imported"
        )
    checks.check_reduction(operation, reduction)
    optional = ("w",) if operation == "backward" else ("b",)
    arrays = {
        name: as_dask_array(operation, name, value)
        for name, value in arguments.items()
        if value is not None or name not in optional
    }
    checks.check_types(
        operation,
        reduction,
        {name: checks.Given("Dask array", a.dtype, a.ndim) for name, a in arrays.items()},
        {},
    )
    for name, a in arrays.items():
        if any(size != size for size in a.shape):
            raise ValueError(
                f"{operation}: {name} has shape {a.shape}, of unknown sizes; wanted chunks of"
                f" known sizes: call {name}.compute_chunk_sizes() before"
            )
    letters = checks.LETTERS[operation] | checks.out_letters(operation, reduction)
    shapes = {name: a.shape for name, a in arrays.items()}
    # Arrays of these shapes, without memory.
    places = (
        np.broadcast_to(np.zeros((), arrays[name].dtype), shapes[name]) if name in arrays else None
        for name in letters
    )
    code = refusal(operation, reduction, *places)
    if code != FINE:
        raise ValueError(checks.message_of(operation, reduction, code, shapes))
    return {name: a if name in CHUNKED else a.rechunk(-1) for name, a in arrays.items()}


def as_dask_array(operation: str, name: str, value: Any) -> da.Array:
    if isinstance(value, da.Array):
        # Of every Dask array it is documented: an array of its chunks' type.
        meta = value._meta
        if not isinstance(meta, np.ndarray) or isinstance(meta, np.ma.MaskedArray):
            kind = type(meta)
            raise TypeError(
                f"{operation}: {name} has chunks of type {kind.__module__}.{kind.__qualname__};"
                " wanted chunks that are NumPy ndarrays"
            )
        return value
    letters = checks.wanted(checks.LETTERS[operation][name])
    if name in CHUNKED:
        advice = f": dask.array.from_array({name}) is one" if is_ndarray(value) else ""
        raise TypeError(
            f"{operation}: {name} is of type {type(value).__name__}; wanted a Dask array of shape"
            f" {letters}{advice}"
        )
    if not is_ndarray(value):
        raise TypeError(
            f"{operation}: {name} is of type {type(value).__name__}; wanted a Dask array or a"
            f" NumPy ndarray of shape {letters}"
        )
    return da.from_array(np.asarray(value), chunks=-1)


def is_ndarray(value: Any) -> bool:
    return checks.given_value(value).dtype is not None

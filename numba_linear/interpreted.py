"""The layer if Numba is told not to compile (NUMBA_DISABLE_JIT): the equations, interpreted.

It is slow but gives the same bits and errors, for users who debug code around the layer or measure
its coverage. The functions replace the compiled ones of `entry.py` and `pieces.py`: they return a
code of `codes.py`, and write nothing unless it is FINE.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from numba_linear import equations
from numba_linear.checks import LETTERS, REDUCTIONS, capacity, out_letters, sizes_of
from numba_linear.codes import EMPTY_MEAN, FINE, FULL, OVERLAP, SCATTERED, SHAPES, UNCOUNTED

Array = np.ndarray[Any, Any]
COUNT = np.dtype(np.int64)


def refusal(operation: str, reduction: str, *arrays: Array | None) -> int:
    """The code for a call's arrays; an optional one may be None."""
    letters = LETTERS[operation] | out_letters(operation, reduction)
    given = [(a, ls) for a, ls in zip(arrays, letters.values(), strict=True) if a is not None]
    first = given[0][0]
    if any(
        type(a) is not np.ndarray or a.dtype is not (COUNT if ls == "1" else first.dtype)
        for a, ls in given
    ):
        return SHAPES
    sizes = sizes_of((ls, a.shape) for a, ls in given)
    if sizes is None:
        return SHAPES
    inputs = len(LETTERS[operation])
    outs = arrays[inputs:]
    if not all(out.flags.writeable for out in outs if out is not None):
        return SHAPES
    if reduction == "mean" and 0 in sizes.get("…", ()):
        return EMPTY_MEAN
    for i, out in enumerate(outs):
        for j, other in enumerate(arrays[: inputs + i]):
            if out is not None and other is not None and np.shares_memory(out, other):
                return OVERLAP + 8 * i + j
    return FINE


def flat(a: Array) -> Array:
    """The samples of any batch, as rows of one matrix."""
    return np.array(a, order="C").reshape(math.prod(a.shape[:-1]), a.shape[-1])


def put(out: Array, result: Array) -> None:
    out[...] = result.reshape(out.shape)


quiet = np.errstate(all="ignore")  # compiled code does not warn


@quiet
def run_forward(x: Array, w: Array, b: Array | None, out: Array, mode: int) -> int:
    code = refusal("forward", "none", x, w, b, out)
    if code == FINE:
        put(out, equations.forward(flat(x), w, b))
    return code


@quiet
def run_grad_input(g: Array, w: Array, out: Array, mode: int) -> int:
    code = refusal("grad_input", "none", g, w, out)
    if code == FINE:
        put(out, equations.grad_input(flat(g), w))
    return code


@quiet
def run_grad_weight(g: Array, x: Array, out: Array, reduce: int, mode: int) -> int:
    reduction = REDUCTIONS[reduce]
    code = refusal("grad_weight", reduction, g, x, out)
    if code == FINE:
        put(out, equations.grad_weight(flat(g), flat(x), reduction))
    return code


@quiet
def run_grad_bias(g: Array, out: Array, reduce: int, mode: int) -> int:
    reduction = REDUCTIONS[reduce]
    code = refusal("grad_bias", reduction, g, out)
    if code == FINE:
        put(out, equations.grad_bias(flat(g), reduction))
    return code


@quiet
def run_backward(
    g: Array,
    x: Array,
    w: Array | None,
    dx: Array | None,
    dw: Array,
    db: Array,
    reduce: int,
    mode: int,
) -> int:
    reduction = REDUCTIONS[reduce]
    code = refusal("backward", reduction, g, x, w, dx, dw, db)
    if (w is None) != (dx is None):
        return SHAPES
    if code == FINE:
        if w is not None and dx is not None:
            put(dx, equations.grad_input(flat(g), w))
        put(dw, equations.grad_weight(flat(g), flat(x), reduction))
        put(db, equations.grad_bias(flat(g), reduction))
    return code


def fault(weight: Array, bias: Array, samples: Array) -> int:
    """What is wrong with an accumulator whose shapes conform, or FINE."""
    for i, array in enumerate((weight, bias)):
        if not array.flags.c_contiguous:
            return SCATTERED + i
    return FINE if 0 <= samples[0] <= capacity(len(weight)) else UNCOUNTED


@quiet
def run_accumulate(
    g: Array, x: Array, weight: Array, bias: Array, samples: Array, mode: int
) -> int:
    code = refusal("accumulate", "sum", g, x, weight, bias, samples)
    if code != SHAPES:
        code = fault(weight, bias, samples) or code
    if code == FINE:
        K = math.prod(g.shape[:-1])
        if K > capacity(len(weight)) - samples[0]:
            return FULL
        equations.accumulate(weight, bias, samples, flat(g), flat(x))
    return code


@quiet
def run_accumulated(
    weight: Array,
    bias: Array,
    samples: Array,
    out_weight: Array,
    out_bias: Array,
    reduce: int,
) -> int:
    reduction = REDUCTIONS[reduce]
    code = refusal("accumulated", reduction, weight, bias, samples, out_weight, out_bias)
    if code != SHAPES:
        code = fault(weight, bias, samples) or code
    if code == FINE and reduction == "mean" and samples[0] == 0:
        return EMPTY_MEAN
    if code == FINE:
        dw, db = equations.accumulated(weight, bias, samples, reduction)
        put(out_weight, dw)
        put(out_bias, db)
    return code

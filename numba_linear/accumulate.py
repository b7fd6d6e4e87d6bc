"""Gradients of micro-batches of any sizes, with the bits of the whole batch.

Each micro-batch continues the sums of the last one: a leaf of 256 samples that is not full is a
chain of multiply-adds that takes the next sample, and full leaves wait in the tree. `pieces.py` is
the compiled part and says what is stored where.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import overload

from numba_linear import checks
from numba_linear.calls import Calls
from numba_linear.checks import (
    AccumulatorError,
    ArgumentError,
    ReductionError,
    SamplesError,
    is_none,
)
from numba_linear.codes import FINE, FULL, MEMORY, NONE, SCATTERED, SHAPES
from numba_linear.cpu.machine import LINE, tiling_of
from numba_linear.cpu.onward import go_on_threads
from numba_linear.cpu.rule import LEAF
from numba_linear.cpu.threads import contract_on_threads
from numba_linear.entry import UNSURE
from numba_linear.jit.compiler import PLAIN
from numba_linear.layer import (
    INLINED,
    MODES,
    REDUCTIONS,
    REFUSED,
    Array,
    Gradients,
    check_typed,
    ends_at_the_call,
    literal,
    mode_word,
    plain_array,
    reduction_of,
    settle,
    shape_of,
    there,
    value_of,
)
from numba_linear.operand import array_of, count_at, operand, samples
from numba_linear.pieces import (
    accumulate_of_samples,
    bias_of,
    bias_operand,
    bias_shape,
    run_accumulate,
    run_accumulated,
    samples_of,
    samples_operand,
    samples_shape,
    weight_of,
    weight_operand,
    weight_shape,
)


class Accumulator(NamedTuple):
    """The sums of W's and b's gradients so far, and the number of samples in them.

    `weight` is (levels, m, n) and `bias` (levels, m), C-contiguous; `samples` is (1,) int64. After
    q full leaves of 256 samples, level 0 is the leaf that is not full yet. For each bit j of q
    that is 1, level 1 + j is a sum of 2^j leaves that waits for its neighbour. Other levels are
    not read. There is room for 256 · 2^(levels - 1) samples, whose sum is in level 0.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_linear import accumulator
    >>> accumulator(np.zeros((1, 2)), 256)
    Accumulator(weight=array([[[0., 0.]]]), bias=array([[0.]]), samples=array([0]))
    """

    weight: Array
    bias: Array
    samples: Array


# --------------------------------------------------------------------------------------
# From Python
# --------------------------------------------------------------------------------------

#: The compiled calls by dtype, as in `layer.py`.
ACCUMULATE: Calls = {}
ACCUMULATED: Calls = {}


def accumulator(w: Array, samples: int) -> Accumulator:
    """Make an accumulator for the gradients of w and its bias, for a number of samples.

    Parameters
    ----------
    w : ndarray, shape (m, n)
        The weight, float32 or float64. Only its shape and dtype matter.
    samples : int
        The largest number of samples that it has to take. There is room for the next 256 · 2^j.

    Returns
    -------
    Accumulator
        A named tuple of arrays: `weight`, shape (levels, m, n), `bias`, shape (levels, m), and
        `samples`, shape (1,), int64, which is 0. There are ⌈log₂(samples / 256)⌉ + 1 levels, at
        least one. No later call allocates. ``acc.samples[:] = 0`` starts again.

    Raises
    ------
    TypeError
        A w that is not an array, or of another dtype; samples that are not an integer.
    ValueError
        A w that is not a matrix; less than one sample.

    See Also
    --------
    accumulate : adds a batch.
    accumulated : the gradients of all samples so far.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_linear import accumulator
    >>> acc = accumulator(np.zeros((10, 64)), 1000)
    >>> acc.weight.shape, acc.bias.shape, acc.samples
    ((3, 10, 64), (3, 10), array([0]))
    """
    with ends_at_the_call("accumulator"):
        checks.check_types("accumulator", "mean", {"w": checks.given_value(w)}, {})
        checks.check_samples(samples)
    w = plain_array(w)
    levels = 1 + ((int(samples) - 1) // LEAF).bit_length()
    m, n = w.shape
    return Accumulator(
        aligned(levels * m * n, w.dtype).reshape(levels, m, n),
        aligned(levels * m, w.dtype).reshape(levels, m),
        np.zeros(1, np.int64),
    )


def aligned(count: int, dtype: Any) -> Array:
    """Zeros aligned to a cache line. A vector across two lines takes twice as long to read and to
    write."""
    zeros = np.zeros(count + LINE // dtype.itemsize, dtype)
    start = -zeros.ctypes.data % LINE // dtype.itemsize
    return zeros[start : start + count]


def accumulate(acc: Accumulator, g: Array, x: Array, parallel: bool | None = None) -> None:
    """Add the gradients of the next samples to an accumulator; equations ③ to ⑪.

    However the samples are cut into batches, `accumulated` gives the bits of `backward` over all
    of them.

    Parameters
    ----------
    acc : Accumulator
        From `accumulator`. It is changed in place.
    g : ndarray, shape (m,) or (…, m)
        ∂L/∂y; of the accumulator's dtype.
    x : ndarray, shape (n,) or (…, n)
        The input of `forward`, with the same batch as g, which may be empty.
    parallel : bool, optional
        True uses `numba.get_num_threads()` threads, False the calling one. By default a call from
        Python uses threads if they pay, and a call inside `@njit` does not. The bits are the same.

    Raises
    ------
    TypeError, ValueError
        As in `grad_weight`; ValueError for more samples than there is room for. The accumulator is
        then unchanged.
    MemoryError
        There is no working memory. The contents of the accumulator are then undefined.

    Notes
    -----
    Only one call at a time may use an accumulator. In your own `prange` each thread needs its own.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_linear import accumulate, accumulated, accumulator, backward
    >>> rng = np.random.default_rng(0)
    >>> x, g, w = rng.random((1000, 64)), rng.random((1000, 10)), rng.random((10, 64))
    >>> acc = accumulator(w, 1000)
    >>> for k in range(0, 1000, 32):
    ...     accumulate(acc, g[k : k + 32], x[k : k + 32])
    >>> d, whole = accumulated(acc), backward(g, x, None)
    >>> bool((d.weight == whole.weight).all() and (d.bias == whole.bias).all())
    True

    There is room for 1024 samples, the next 256 · 2^j after 1000. More are refused:

    >>> accumulate(acc, g, x)
    Traceback (most recent call last):
        ...
    ValueError: accumulate: acc has 1000 samples and room for 1024, and g has 1000 more; wanted no
        more than `accumulator` was asked for
    """
    refusal: Any
    try:
        weight, bias, samples = acc.weight, acc.bias, acc.samples
        refusal = ACCUMULATE[g.dtype](g, x, weight, bias, samples, MODES[parallel])
        if not refusal:
            return
    except (*REFUSED, ValueError) as error:
        refusal = error
    with ends_at_the_call("accumulate"):
        plain = plain_accumulator("accumulate", acc, refusal, getattr(g, "shape", ()))
        if plain is acc:
            given = {"g": g, "x": x, "acc.weight": acc.weight, "acc.bias": acc.bias}
            arrays = settle(
                run_accumulate, ACCUMULATE, "accumulate", "mean", given, {}, parallel, refusal
            )
            g, x = arrays["g"], arrays["x"]
        accumulate(plain, g, x, parallel)


def accumulated(
    acc: Accumulator, reduction: str = "mean", out: Gradients | None = None
) -> Gradients:
    """The gradients of all samples so far. The accumulator is unchanged and can take more.

    Parameters
    ----------
    acc : Accumulator
        From `accumulator`, with samples added by `accumulate`.
    reduction : {"mean", "sum"}
        As in `backward`. Inside `@njit` it may be a variable.
    out : Gradients, optional
        ``Gradients(None, weight, bias)`` of two arrays that take the results; neither may overlap
        the other or the accumulator.

    Returns
    -------
    Gradients
        `out`, or new arrays: `weight`, shape (m, n), and `bias`, shape (m,). `input` is None:
        `grad_input` gives ∂L/∂x for each batch.

    Raises
    ------
    TypeError, ValueError
        As in `backward`; ValueError for a mean over no samples.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_linear import accumulate, accumulated, accumulator
    >>> acc = accumulator(np.zeros((2, 3)), 100)
    >>> accumulate(acc, np.array([1.0, 10.0]), np.array([1.0, 2.0, 3.0]))
    >>> accumulate(acc, np.array([3.0, 30.0]), np.array([4.0, 5.0, 6.0]))
    >>> accumulated(acc).weight
    array([[  6.5,   8.5,  10.5],
           [ 65. ,  85. , 105. ]])
    >>> accumulated(acc, "sum").bias
    array([ 4., 40.])
    """
    refusal: Any = KeyError()
    try:
        reduce = REDUCTIONS[reduction]
        weight, bias, samples = acc.weight, acc.bias, acc.samples
        if out is None:
            dw, db = np.empty(weight.shape[1:], weight.dtype), np.empty(bias.shape[1:], bias.dtype)
            gradients = Gradients(None, dw, db)  # type: ignore[arg-type]
        else:
            gradients = out
        dx, dw, db = gradients
        if dx is None and reduce != NONE:
            refusal = ACCUMULATED[weight.dtype](weight, bias, samples, dw, db, reduce)
            if not refusal:
                return gradients
    except (*REFUSED, ValueError) as error:
        refusal = error
    with ends_at_the_call("accumulated"):
        plain = plain_accumulator("accumulated", acc, refusal, ())
        checks.check_reduction("accumulated", reduction)
        checks.check_gradients(
            out is None or isinstance(out, Gradients), type(out).__name__, "accumulated"
        )
        outs = {}
        if out is not None:
            kind = checks.given_value(out.input).kind
            checks.check_no_input(kind, "accumulated", checks.NEVER_ADDED)
            outs = {"out.weight": out.weight, "out.bias": out.bias}
        if plain is acc:
            given = {"acc.weight": acc.weight, "acc.bias": acc.bias}
            arrays = settle(
                run_accumulated, ACCUMULATED, "accumulated", reduction, given, outs, None, refusal
            )
            outs = {name: arrays[name] for name in outs}
        out_plain = Gradients(None, *outs.values()) if outs else None  # type: ignore[arg-type]
        gradients = accumulated(plain, reduction, out_plain)
    return gradients if out is None else out


def plain_accumulator(
    operation: str, acc: Any, refusal: int | Exception, shape: tuple[int, ...]
) -> Accumulator:
    """Raise for what is wrong with an accumulator; else return it, or one of plain arrays."""
    checks.check_accumulator(operation, isinstance(acc, Accumulator), type(acc).__name__)
    weight, bias, samples = acc
    counts = checks.given_value(samples)
    checks.check_count(counts, operation, writes=operation == "accumulate")
    if isinstance(refusal, int) and FULL <= refusal <= SCATTERED + 1:
        raise ValueError(
            checks.accumulator_fault(operation, refusal, len(weight), int(samples[0]), shape)
        )
    if isinstance(refusal, int) and refusal == SHAPES and samples.shape != (1,):
        raise ValueError(checks.wrong_count(operation, samples.shape))
    if operation == "accumulate":
        for name, array in (("acc.weight", weight), ("acc.bias", bias)):
            checks.check_writable(operation, name, checks.given_value(array))
    arrays = [a for a in acc if checks.given_value(a).dtype is not None]
    if len(arrays) == 3 and any(plain_array(a) is not a for a in arrays):
        return Accumulator(*map(plain_array, arrays))
    return acc


# --------------------------------------------------------------------------------------
# Inside @njit
# --------------------------------------------------------------------------------------


def check_accumulator_typed(operation, acc, inputs, outs, parallel=None, reduction="mean"):
    """`check_typed`, with an accumulator's arrays."""
    try:
        fine = getattr(acc, "fields", None) == Accumulator._fields
        checks.check_accumulator(operation, fine, str(acc))
        arrays = dict(zip((f"acc.{name}" for name in acc.fields), acc.types, strict=True))
        counts = arrays.pop("acc.samples")
        writes = operation == "accumulate"
        checks.check_count(checks.given_type(counts), operation, writes)
    except (TypeError, ValueError) as error:
        raise TypingError(str(error)) from None
    check_typed(operation, inputs | arrays, outs, parallel, reduction)
    if writes:
        try:
            for name, type_ in arrays.items():
                checks.check_writable(operation, name, checks.given_type(type_))
        except ValueError as error:
            raise TypingError(str(error)) from None


@overload(accumulator, prefer_literal=True, jit_options=PLAIN)
def _accumulator(w, samples):
    check_typed("accumulator", {"w": w}, {}, None)
    if isinstance(samples, types.Boolean) or not isinstance(samples, types.Integer):
        if not isinstance(literal(samples), int) or isinstance(literal(samples), bool):
            raise TypingError(checks.bad_samples(value_of(samples)))
    kind = array_of(w).dtype
    size = kind.bitwidth // 8
    line = LINE // size

    def call(w, samples):
        if samples < 1:
            raise SamplesError(samples)
        if w is None:
            raise ArgumentError("accumulator", "mean", FINE, shape_of(w))
        levels, leaves = 1, (samples - 1) // LEAF
        while leaves:
            levels += 1
            leaves >>= 1
        m, n = shape_of(w)
        weight, bias = np.zeros(levels * m * n + line, kind), np.zeros(levels * m + line, kind)
        i, j = -weight.ctypes.data % LINE // size, -bias.ctypes.data % LINE // size
        return Accumulator(
            weight[i : i + levels * m * n].reshape((levels, m, n)),
            bias[j : j + levels * m].reshape((levels, m)),
            np.zeros(1, np.int64),
        )

    return call


mode_of = mode_word(contract_on_threads, go_on_threads)


@overload(accumulate, prefer_literal=True, jit_options=INLINED)
def _accumulate(acc, g, x, parallel=None):
    check_accumulator_typed("accumulate", acc, {"g": g, "x": x}, {}, parallel)
    no_memory = checks.no_memory("accumulate")

    def call(acc, g, x, parallel=None):
        mode = mode_of(g, parallel)
        done = accumulate_of_samples(
            tiling_of(g),
            samples(g),
            samples(x),
            weight_of(acc),
            bias_of(acc),
            samples_of(acc),
            mode,
        )
        if done != FINE:
            # assigned once: Numba 0.61 raises with the first of a variable's values
            code = (
                run_accumulate(
                    operand(g, g),
                    operand(g, x),
                    weight_operand(acc),
                    bias_operand(acc),
                    samples_operand(acc),
                    mode,
                )
                if done == UNSURE
                else done
            )
            if code == MEMORY:
                raise MemoryError(no_memory)
            if FULL <= code <= SCATTERED + 1:
                levels, so_far = weight_shape(acc)[0], count_at(samples_of(acc).at)
                raise AccumulatorError("accumulate", code, levels, so_far, shape_of(g))
            if code != FINE:
                raise ArgumentError(
                    "accumulate",
                    "mean",
                    code,
                    shape_of(g),
                    shape_of(x),
                    weight_shape(acc),
                    bias_shape(acc),
                    samples_shape(acc),
                )

    return call


@overload(accumulated, prefer_literal=True, jit_options=PLAIN)
def _accumulated(acc, reduction="mean", out=None):
    arrays, outs = array_of(out), {}
    if not is_none(out):
        try:
            fields = getattr(arrays, "fields", None) == Gradients._fields
            checks.check_gradients(fields, str(out), "accumulated")
            kind = checks.given_type(arrays[0]).kind
            checks.check_no_input(kind, "accumulated", checks.NEVER_ADDED)
        except TypeError as error:
            raise TypingError(str(error)) from None
        outs = {"out.weight": arrays[1], "out.bias": arrays[2]}
    check_accumulator_typed("accumulated", acc, {}, outs, None, reduction)

    def with_or_without_out(acc, reduction="mean", out=None):
        if out is None:
            return accumulated(acc, reduction)
        return accumulated(acc, reduction, there(out))

    def without_out(acc, reduction="mean", out=None):
        weight, bias, _ = acc
        dw, db = np.empty(weight.shape[1:], weight.dtype), np.empty(bias.shape[1:], bias.dtype)
        return accumulated(acc, reduction, Gradients(None, dw, db))

    def call(acc, reduction="mean", out=None):
        weight, bias, counts = acc
        _, dw, db = out
        reduce = reduction_of("accumulated", reduction)
        if reduce == NONE:
            raise ReductionError("accumulated", reduction)
        code = run_accumulated(
            operand(weight, weight),
            operand(weight, bias),
            operand(counts, counts),
            operand(weight, dw),
            operand(weight, db),
            reduce,
        )
        if FULL <= code <= SCATTERED + 1:
            raise AccumulatorError("accumulated", code, len(weight), counts[0], ())
        if code != FINE:
            raise ArgumentError(
                "accumulated",
                reduction,
                code,
                weight.shape,
                bias.shape,
                counts.shape,
                dw.shape,
                db.shape,
            )
        return out

    if isinstance(out, types.Optional):
        return with_or_without_out
    return without_out if is_none(out) else call

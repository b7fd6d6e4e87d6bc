"""The linear layer and its gradients: the public calls, from Python and inside `@njit`.

From Python a call goes straight to the compiled layer (`entry.py`). Only where that refuses,
because it is not compiled for the dtype yet or because an argument is wrong, `settle` finds out
why.
"""

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import overload

from numba_linear import checks
from numba_linear.calls import Calls, call_alone, call_on_threads
from numba_linear.checks import (
    LARGE,
    MEMORY,
    NO_THREADS,
    ArgumentError,
    ReductionError,
    is_none,
)
from numba_linear.cpu.launch import missing_threads
from numba_linear.cpu.parallel import AUTO, PARALLEL, SERIAL
from numba_linear.cpu.resident import refuse_ahead, uninterrupted
from numba_linear.entry import (
    FRESH,
    MEAN,
    NONE,
    SUM,
    run_backward,
    run_forward,
    run_grad_bias,
    run_grad_input,
    run_grad_weight,
)
from numba_linear.operand import operand

Array = np.ndarray[Any, Any]


class Gradients(NamedTuple):
    """What `backward` returns: ∂L/∂x, ∂L/∂W and ∂L/∂b."""

    input: Array
    weight: Array
    bias: Array


#: What `parallel` means in a call from Python; inside @njit None means False.
MODES = {None: AUTO, False: SERIAL, True: PARALLEL}
FRESH_MODES = {parallel: mode | FRESH for parallel, mode in MODES.items()}
REDUCTIONS = {"mean": MEAN, "sum": SUM, "none": NONE}

#: What a call raises for arguments that the compiled layer does not know.
REFUSED = (TypeError, AttributeError, KeyError, IndexError)

# --------------------------------------------------------------------------------------
# From Python
# --------------------------------------------------------------------------------------

#: The compiled calls by dtype, on the caller's thread and on several; `settle` fills them.
FORWARD: Calls = {}
FORWARD_THREADS: Calls = {}
GRAD_INPUT: Calls = {}
GRAD_INPUT_THREADS: Calls = {}
GRAD_WEIGHT: Calls = {}
GRAD_WEIGHT_THREADS: Calls = {}
GRAD_BIAS: Calls = {}
GRAD_BIAS_THREADS: Calls = {}
BACKWARD: Calls = {}
BACKWARD_THREADS: Calls = {}


@uninterrupted()
def settle(
    run: Any,
    alone: Calls,
    threads: Calls,
    operation: str,
    reduction: Any,
    inputs: dict[str, Any],
    outs: dict[str, Any],
    parallel: Any,
    refusal: int | Exception,
) -> list[Any]:
    """Raise for what is wrong with a refused call, or make ready what it needs to be tried again.

    Returns its arrays, of subclasses that are right for the base class.
    """
    checks.check_reduction(operation, reduction)
    checks.check_parallel(
        operation, parallel, isinstance(parallel, Hashable) and parallel in MODES
    )
    checks.check_types(
        operation,
        reduction,
        {name: checks.given_value(value) for name, value in inputs.items()},
        {name: checks.given_value(value) for name, value in outs.items()},
    )
    arrays = inputs | outs
    plain = {name: plain_array(a) for name, a in arrays.items()}
    same = all(plain[name] is arrays[name] for name in arrays)
    if refusal == MEMORY:
        raise MemoryError(checks.no_memory(operation))
    if refusal == NO_THREADS:
        raise RuntimeError(checks.no_threads(operation, parallel, missing_threads()))
    if same and isinstance(refusal, int):
        shapes = {name: a.shape for name, a in arrays.items()}
        raise ValueError(checks.message_of(operation, reduction, refusal, shapes))
    dtype = next(iter(plain.values())).dtype
    kind = types.float32 if dtype.itemsize == 4 else types.float64
    if dtype not in alone:
        alone[dtype] = call_alone(run, kind, alone)
    elif isinstance(refusal, KeyError):  # another thread may have been quicker
        if dtype not in threads:
            threads[dtype] = call_on_threads(run, kind, alone, threads)
    elif same and isinstance(refusal, Exception):
        raise refusal
    return list(plain.values())


class ends_at_the_call:
    """What the checks raise is the caller's error, and so its traceback ends at the caller's line.

    An exception of the package's own keeps its traceback.
    """

    def __init__(self, operation: str) -> None:
        self.words = f"{operation}: "

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is not None and str(error).startswith(self.words):
            error.__traceback__ = None


def plain_array(a: Array) -> Array:
    """The array, or what is not quite a plain one, a subclass or a dtype of its own, as one."""
    dtype = np.dtype(a.dtype.type)
    return a if type(a) is np.ndarray and a.dtype is dtype else a.view(np.ndarray).view(dtype)


def forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    out: Array | None = None,
    parallel: bool | None = None,
) -> Array:
    """y = W x + b for one sample or each of a batch; equations ① and ②.

    y[k, i] = Σ_l w[i, l] · x[k, l] + b[i], summed by the rule in `numba_linear.equations`: a
    sample's result does not depend on the batch that it is in.

    Parameters
    ----------
    x : ndarray, shape (n,) or (…, n)
        One sample, or a batch with any leading dimensions; float32 or float64.
    w : ndarray, shape (m, n)
        The weight, out features first.
    b : ndarray, shape (m,), optional
        The bias.
    out : ndarray, shape (m,) or (…, m), optional
        Takes the result. It may have any strides, and may not overlap an input.
    parallel : bool, optional
        True uses `numba.get_num_threads()` threads, False the calling one. By default a call from
        Python uses them where the work is worth a launch, a call inside `@njit` does not. The bits
        are the same.

    Returns
    -------
    ndarray, shape (m,) or (…, m)
        `out`, or a new array.

    Raises
    ------
    TypeError
        Arguments that are not arrays of one dtype, float32 or float64, in native byte order.
    ValueError
        Shapes that do not conform, or an `out` of another shape or dtype, read-only or
        overlapping.
    MemoryError
        There is no memory to work in; what `out` holds is then not defined.
    RuntimeError
        `parallel` is True, and Numba has no threading layer that it could start.

    Inside `@njit` what the types show is a `numba.TypingError` with the same words.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_linear import forward
    >>> x = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    >>> w = np.array([[1.0, 0.0, -1.0], [2.0, 1.0, 0.0]])
    >>> forward(x, w, np.array([10.0, 20.0]))
    array([[ 8., 24.],
           [ 8., 33.]])
    """
    refusal: Any = None
    try:
        mode = FRESH_MODES[parallel]
        if out is not None:
            y, mode = out, MODES[parallel]
        elif x.ndim == 2:  # 140 ns less than for any number of dimensions
            y = np.empty((len(x), len(w)), x.dtype)
        else:
            y = np.empty(x.shape[:-1] + w.shape[:1], x.dtype)
        refusal = FORWARD[x.dtype](x, w, b, y, mode)
        if refusal == LARGE:
            refusal = FORWARD_THREADS[x.dtype](x, w, b, y, mode)
        if not refusal:
            return y
    except REFUSED as error:
        refusal = error
    inputs = {"x": x, "w": w} if b is None else {"x": x, "w": w, "b": b}
    outs = {} if out is None else {"out": out}
    with ends_at_the_call("forward"):
        plain = settle(
            run_forward,
            FORWARD,
            FORWARD_THREADS,
            "forward",
            "mean",
            inputs,
            outs,
            parallel,
            refusal,
        )
        b_plain = None if b is None else plain[2]
        y = forward(plain[0], plain[1], b_plain, plain[-1] if outs else None, parallel)
    return y if out is None else out


def grad_input(
    g: Array, w: Array, out: Array | None = None, parallel: bool | None = None
) -> Array:
    """∂L/∂x = g W; equation ⑫ for each sample.

    ∂L/∂x[k, l] = Σ_i g[k, i] · w[i, l], by the same summation rule as `forward`. It is never
    averaged: each row goes back to its own sample.

    Parameters
    ----------
    g : ndarray, shape (m,) or (…, m)
        ∂L/∂y; float32 or float64.
    w : ndarray, shape (m, n)
        The weight.
    out : ndarray, shape (n,) or (…, n), optional
        Takes the result. It may have any strides, and may not overlap an input.
    parallel : bool, optional
        True uses `numba.get_num_threads()` threads, False the calling one. By default a call from
        Python uses them where the work is worth a launch, a call inside `@njit` does not. The bits
        are the same.

    Returns
    -------
    ndarray, shape (n,) or (…, n)
        `out`, or a new array.

    Raises
    ------
    TypeError, ValueError
        As in `forward`.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_linear import grad_input
    >>> w = np.array([[1.0, 0.0, -1.0], [2.0, 1.0, 0.0]])
    >>> grad_input(np.array([1.0, 10.0]), w)
    array([21., 10., -1.])
    """
    refusal: Any = None
    try:
        mode = FRESH_MODES[parallel]
        if out is not None:
            dx, mode = out, MODES[parallel]
        elif g.ndim == 2:
            dx = np.empty((len(g), w.shape[1]), g.dtype)
        else:
            dx = np.empty(g.shape[:-1] + w.shape[1:], g.dtype)
        refusal = GRAD_INPUT[g.dtype](g, w, dx, mode)
        if refusal == LARGE:
            refusal = GRAD_INPUT_THREADS[g.dtype](g, w, dx, mode)
        if not refusal:
            return dx
    except REFUSED as error:
        refusal = error
    outs = {} if out is None else {"out": out}
    with ends_at_the_call("grad_input"):
        plain = settle(
            run_grad_input,
            GRAD_INPUT,
            GRAD_INPUT_THREADS,
            "grad_input",
            "mean",
            {"g": g, "w": w},
            outs,
            parallel,
            refusal,
        )
        dx = grad_input(plain[0], plain[1], plain[-1] if outs else None, parallel)
    return dx if out is None else out


def grad_weight(
    g: Array,
    x: Array,
    reduction: str = "mean",
    out: Array | None = None,
    parallel: bool | None = None,
) -> Array:
    """∂L/∂W of one sample, or over a batch; equations ③ to ⑦.

    One sample's is the outer product g[k, i] · x[k, l]; a batch's is their mean or sum over k, by
    the same summation rule as `forward`.

    Parameters
    ----------
    g : ndarray, shape (m,) or (…, m)
        ∂L/∂y; float32 or float64.
    x : ndarray, shape (n,) or (…, n)
        What `forward` was given, with the batch of g.
    reduction : {"mean", "sum", "none"}
        What becomes of the samples' gradients: their mean (the default), their sum, which is what
        a loss that already carries 1/K needs, or nothing, one gradient for each sample. Inside
        `@njit` it is written in the call, unless there is an `out`.
    out : ndarray, shape (m, n), or (…, m, n) without a reduction, optional
        Takes the result. It may have any strides, and may not overlap an input.
    parallel : bool, optional
        True uses `numba.get_num_threads()` threads, False the calling one. By default a call from
        Python uses them where the work is worth a launch, a call inside `@njit` does not. The bits
        are the same.

    Returns
    -------
    ndarray, shape (m, n), or (…, m, n) without a reduction
        `out`, or a new array.

    Raises
    ------
    TypeError, ValueError
        As in `forward`; and ValueError for an unknown reduction and for a mean over an empty
        batch.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_linear import grad_weight
    >>> g = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> x = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    >>> grad_weight(g, x, "sum")
    array([[ 13.,  17.,  21.],
           [130., 170., 210.]])
    >>> grad_weight(g, x)
    array([[  6.5,   8.5,  10.5],
           [ 65. ,  85. , 105. ]])
    """
    refusal: Any = None
    try:
        reduce = REDUCTIONS[reduction]
        mode = FRESH_MODES[parallel]
        if out is None:
            shape = g.shape[-1], x.shape[-1]
            dw = np.empty(g.shape[:-1] + shape if reduce == NONE else shape, g.dtype)
        else:
            dw, mode = out, MODES[parallel]
        refusal = GRAD_WEIGHT[g.dtype](g, x, dw, reduce, mode)
        if refusal == LARGE:
            refusal = GRAD_WEIGHT_THREADS[g.dtype](g, x, dw, reduce, mode)
        if not refusal:
            return dw
    except REFUSED as error:
        refusal = error
    outs = {} if out is None else {"out": out}
    inputs = {"g": g, "x": x}
    with ends_at_the_call("grad_weight"):
        plain = settle(
            run_grad_weight,
            GRAD_WEIGHT,
            GRAD_WEIGHT_THREADS,
            "grad_weight",
            reduction,
            inputs,
            outs,
            parallel,
            refusal,
        )
        dw = grad_weight(plain[0], plain[1], reduction, plain[-1] if outs else None, parallel)
    return dw if out is None else out


def grad_bias(
    g: Array, reduction: str = "mean", out: Array | None = None, parallel: bool | None = None
) -> Array:
    """∂L/∂b of one sample, or over a batch; equations ⑧ to ⑪.

    One sample's is g itself (with +0 for -0, a sum of one term); a batch's is the mean or sum of g
    over its samples, by the same summation rule as `forward`.

    Parameters
    ----------
    g : ndarray, shape (m,) or (…, m)
        ∂L/∂y; float32 or float64.
    reduction : {"mean", "sum", "none"}
        What becomes of the samples' gradients: their mean (the default), their sum, which is what
        a loss that already carries 1/K needs, or nothing, one gradient for each sample. Inside
        `@njit` it is written in the call, unless there is an `out`.
    out : ndarray, shape (m,), or (…, m) without a reduction, optional
        Takes the result. It may have any strides, and may not overlap g.
    parallel : bool, optional
        True uses `numba.get_num_threads()` threads, False the calling one. By default a call from
        Python uses them where the work is worth a launch, a call inside `@njit` does not. The bits
        are the same.

    Returns
    -------
    ndarray, shape (m,), or (…, m) without a reduction
        `out`, or a new array.

    Raises
    ------
    TypeError, ValueError
        As in `grad_weight`.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_linear import grad_bias
    >>> grad_bias(np.array([[1.0, 10.0], [3.0, 30.0]]))
    array([ 2., 20.])
    """
    refusal: Any = None
    try:
        reduce = REDUCTIONS[reduction]
        mode = FRESH_MODES[parallel]
        if out is None:
            db = np.empty(g.shape if reduce == NONE else g.shape[-1:], g.dtype)
        else:
            db, mode = out, MODES[parallel]
        refusal = GRAD_BIAS[g.dtype](g, db, reduce, mode)
        if refusal == LARGE:
            refusal = GRAD_BIAS_THREADS[g.dtype](g, db, reduce, mode)
        if not refusal:
            return db
    except REFUSED as error:
        refusal = error
    outs = {} if out is None else {"out": out}
    with ends_at_the_call("grad_bias"):
        plain = settle(
            run_grad_bias,
            GRAD_BIAS,
            GRAD_BIAS_THREADS,
            "grad_bias",
            reduction,
            {"g": g},
            outs,
            parallel,
            refusal,
        )
        db = grad_bias(plain[0], reduction, plain[-1] if outs else None, parallel)
    return db if out is None else out


def backward(
    g: Array,
    x: Array,
    w: Array,
    reduction: str = "mean",
    out: Gradients | None = None,
    parallel: bool | None = None,
) -> Gradients:
    """All three gradients of one sample or a batch; equations ③ to ⑫.

    The same bits as `grad_input`, `grad_weight` and `grad_bias` give.

    Parameters
    ----------
    g : ndarray, shape (m,) or (…, m)
        ∂L/∂y; float32 or float64.
    x : ndarray, shape (n,) or (…, n)
        What `forward` was given, with the batch of g.
    w : ndarray, shape (m, n)
        The weight.
    reduction : {"mean", "sum", "none"}
        What becomes of the samples' gradients: their mean (the default), their sum, which is what
        a loss that already carries 1/K needs, or nothing, one gradient for each sample. Inside
        `@njit` it is written in the call, unless there is an `out`.
    out : Gradients, optional
        Three arrays that take the results; none may overlap an input or another of them.
    parallel : bool, optional
        True uses `numba.get_num_threads()` threads, False the calling one. By default a call from
        Python uses them where the work is worth a launch, a call inside `@njit` does not. The bits
        are the same.

    Returns
    -------
    Gradients
        `input`, never reduced, `weight` and `bias`: `out`, or new arrays.

    Raises
    ------
    TypeError, ValueError
        As in `grad_weight`.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_linear import backward
    >>> w = np.array([[1.0, 0.0, -1.0], [2.0, 1.0, 0.0]])
    >>> d = backward(np.array([1.0, 10.0]), np.array([1.0, 2.0, 3.0]), w)
    >>> d.input
    array([21., 10., -1.])
    >>> d.weight
    array([[ 1.,  2.,  3.],
           [10., 20., 30.]])
    >>> d.bias
    array([ 1., 10.])
    """
    refusal: Any = None
    try:
        reduce = REDUCTIONS[reduction]
        mode = FRESH_MODES[parallel]
        if out is None:
            dtype = g.dtype
            if reduce == NONE:
                batch = g.shape[:-1]
                dw, db = np.empty(batch + w.shape, dtype), np.empty(batch + w.shape[:1], dtype)
            else:  # 90 ns less than with an empty batch
                dw, db = np.empty(w.shape, dtype), np.empty(len(w), dtype)
            gradients = Gradients(np.empty(x.shape, dtype), dw, db)
        else:
            gradients, mode = out, MODES[parallel]
        dx, dw, db = gradients
        refusal = BACKWARD[g.dtype](g, x, w, dx, dw, db, reduce, mode)
        if refusal == LARGE:
            refusal = BACKWARD_THREADS[g.dtype](g, x, w, dx, dw, db, reduce, mode)
        if not refusal:
            return gradients
    except (*REFUSED, ValueError) as error:
        refusal = error
    with ends_at_the_call("backward"):
        checks.check_gradients(out is None or isinstance(out, Gradients), type(out).__name__)
        outs = {} if out is None else {f"out.{name}": a for name, a in out._asdict().items()}
        inputs = {"g": g, "x": x, "w": w}
        plain = settle(
            run_backward,
            BACKWARD,
            BACKWARD_THREADS,
            "backward",
            reduction,
            inputs,
            outs,
            parallel,
            refusal,
        )
        out_plain = Gradients(*plain[3:]) if outs else None
        gradients = backward(plain[0], plain[1], plain[2], reduction, out_plain, parallel)
    return gradients if out is None else out


# --------------------------------------------------------------------------------------
# Inside @njit
# --------------------------------------------------------------------------------------


def mode_of(parallel, out):
    """The mode for `parallel` and `out` inside @njit."""


@overload(mode_of)
def _mode_of(parallel, out):
    fresh = FRESH if is_none(out) else 0
    if is_none(parallel):
        return lambda parallel, out: SERIAL | fresh
    return lambda parallel, out: (PARALLEL if parallel else SERIAL) | fresh


def wants_threads(parallel):
    """1 if a call's code is to have threads at all; they cost 2.4 s to compile."""
    return int(not is_none(parallel) and literal(parallel) is not False)


def reduction_of(operation, reduction):
    """The code of a reduction that is a constant, or a string at run time."""


@overload(reduction_of, prefer_literal=True)
def _reduction_of(operation, reduction):
    name = literal(reduction)
    if name is not None:
        code = REDUCTIONS[name]
        return lambda operation, reduction: code

    def at_run_time(operation, reduction):
        if reduction == "mean":
            return MEAN
        if reduction == "sum":
            return SUM
        if reduction == "none":
            return NONE
        raise ReductionError(operation, reduction)

    return at_run_time


def literal(type_):
    """The value of a constant's type, None for any other type."""
    if isinstance(type_, types.Omitted):
        return type_.value
    if isinstance(type_, types.Literal):
        return type_.literal_value
    return type_ if isinstance(type_, str) else None


def value_of(type_):
    """For a message: the value that a type stands for, or the type."""
    if is_none(type_):
        return None
    value = literal(type_)
    return checks.OfType(str(type_)) if value is None else value


def result(out, like, shape):
    """`out`, or a new array where there is none."""


@overload(result)
def _result(out, like, shape):
    if is_none(out):
        return lambda out, like, shape: np.empty(shape, like.dtype)
    return lambda out, like, shape: out


def shape_of(a):
    """a.shape; () of None."""


@overload(shape_of)
def _shape_of(a):
    return (lambda a: ()) if is_none(a) else (lambda a: a.shape)


def part(out, i):
    """The i-th array of the `out` of `backward`, or None."""


@overload(part, prefer_literal=True)
def _part(out, i):
    if is_none(out):
        return lambda out, i: None
    return lambda out, i: out[i]


def check_typed(operation, inputs, outs, parallel, reduction="mean"):
    """`checks` on Numba's types; what they raise becomes Numba's error of the same words."""
    refuse_ahead()
    try:
        name = literal(reduction)
        if name is None and not isinstance(reduction, types.UnicodeType):
            checks.check_reduction(operation, value_of(reduction))
        if name is not None:
            checks.check_reduction(operation, name)
        elif not outs:
            raise TypeError(
                f"{operation}: reduction is not a constant; inside @njit without out it decides"
                " the result's type, so wanted 'mean', 'sum' or 'none' written in the call"
            )
        is_flag = is_none(parallel) or isinstance(parallel, (types.Boolean, types.Omitted, bool))
        checks.check_parallel(operation, value_of(parallel), is_flag)
        if wants_threads(parallel) and missing_threads():
            words = checks.no_threads(operation, value_of(parallel), missing_threads())
            raise TypingError(words)
        checks.check_types(
            operation,
            name,
            {name: checks.given_type(type_) for name, type_ in inputs.items()},
            {name: checks.given_type(type_) for name, type_ in outs.items()},
            checks.WIDENED,
        )
    except (TypeError, ValueError) as error:
        raise TypingError(str(error)) from None


#: LLVM copies the call into its caller, where Numba then need not count references: 20 ns less.
#: Not where there is a reduction: Numba 0.61 would raise with the name of the first such call.
INLINED = {"forceinline": True}


@overload(forward, prefer_literal=True, jit_options=INLINED)
def _forward(x, w, b=None, out=None, parallel=None):
    inputs = {"x": x, "w": w} if is_none(b) else {"x": x, "w": w, "b": b}
    check_typed("forward", inputs, {} if is_none(out) else {"out": out}, parallel)

    threads, no_memory = wants_threads(parallel), checks.no_memory("forward")

    def impl(x, w, b=None, out=None, parallel=None):
        y = result(out, x, x.shape[:-1] + w.shape[:1])
        code = run_forward(
            operand(x, x, threads),
            operand(x, w, threads),
            operand(x, b, threads),
            operand(x, y, threads),
            mode_of(parallel, out),
        )
        if code == MEMORY:
            raise MemoryError(no_memory)
        if code:
            raise ArgumentError("forward", "mean", code, x.shape, w.shape, shape_of(b), y.shape)
        return y

    return impl


@overload(grad_input, prefer_literal=True, jit_options=INLINED)
def _grad_input(g, w, out=None, parallel=None):
    check_typed("grad_input", {"g": g, "w": w}, {} if is_none(out) else {"out": out}, parallel)

    threads, no_memory = wants_threads(parallel), checks.no_memory("grad_input")

    def impl(g, w, out=None, parallel=None):
        dx = result(out, g, g.shape[:-1] + w.shape[1:])
        code = run_grad_input(
            operand(g, g, threads),
            operand(g, w, threads),
            operand(g, dx, threads),
            mode_of(parallel, out),
        )
        if code == MEMORY:
            raise MemoryError(no_memory)
        if code:
            raise ArgumentError("grad_input", "mean", code, g.shape, w.shape, dx.shape)
        return dx

    return impl


def batch_of(g, reduction):
    """The batch's dimensions where the result has them, that is without a reduction."""


@overload(batch_of, prefer_literal=True)
def _batch_of(g, reduction):
    if literal(reduction) == "none":
        return lambda g, reduction: g.shape[:-1]
    return lambda g, reduction: ()


@overload(grad_weight, prefer_literal=True)
def _grad_weight(g, x, reduction="mean", out=None, parallel=None):
    outs = {} if is_none(out) else {"out": out}
    check_typed("grad_weight", {"g": g, "x": x}, outs, parallel, reduction)

    threads, no_memory = wants_threads(parallel), checks.no_memory("grad_weight")

    def impl(g, x, reduction="mean", out=None, parallel=None):
        reduce = reduction_of("grad_weight", reduction)
        dw = result(out, g, batch_of(g, reduction) + g.shape[-1:] + x.shape[-1:])
        code = run_grad_weight(
            operand(g, g, threads),
            operand(g, x, threads),
            operand(g, dw, threads),
            reduce,
            mode_of(parallel, out),
        )
        if code == MEMORY:
            raise MemoryError(no_memory)
        if code:
            raise ArgumentError("grad_weight", reduction, code, g.shape, x.shape, dw.shape)
        return dw

    return impl


@overload(grad_bias, prefer_literal=True)
def _grad_bias(g, reduction="mean", out=None, parallel=None):
    outs = {} if is_none(out) else {"out": out}
    check_typed("grad_bias", {"g": g}, outs, parallel, reduction)

    threads, no_memory = wants_threads(parallel), checks.no_memory("grad_bias")

    def impl(g, reduction="mean", out=None, parallel=None):
        reduce = reduction_of("grad_bias", reduction)
        db = result(out, g, batch_of(g, reduction) + g.shape[-1:])
        code = run_grad_bias(
            operand(g, g, threads), operand(g, db, threads), reduce, mode_of(parallel, out)
        )
        if code == MEMORY:
            raise MemoryError(no_memory)
        if code:
            raise ArgumentError("grad_bias", reduction, code, g.shape, db.shape)
        return db

    return impl


@overload(backward, prefer_literal=True)
def _backward(g, x, w, reduction="mean", out=None, parallel=None):
    outs = {}
    if not is_none(out):
        fields = getattr(out, "fields", None) == Gradients._fields
        try:
            checks.check_gradients(fields, str(out))
        except TypeError as error:
            raise TypingError(str(error)) from None
        outs = dict(zip((f"out.{name}" for name in Gradients._fields), out, strict=True))
    check_typed("backward", {"g": g, "x": x, "w": w}, outs, parallel, reduction)

    threads, no_memory = wants_threads(parallel), checks.no_memory("backward")

    def impl(g, x, w, reduction="mean", out=None, parallel=None):
        reduce = reduction_of("backward", reduction)
        dx = result(part(out, 0), g, x.shape)
        dw = result(part(out, 1), g, batch_of(g, reduction) + w.shape)
        db = result(part(out, 2), g, batch_of(g, reduction) + w.shape[:1])
        code = run_backward(
            operand(g, g, threads),
            operand(g, x, threads),
            operand(g, w, threads),
            operand(g, dx, threads),
            operand(g, dw, threads),
            operand(g, db, threads),
            reduce,
            mode_of(parallel, out),
        )
        if code == MEMORY:
            raise MemoryError(no_memory)
        if code:
            raise ArgumentError(
                "backward",
                reduction,
                code,
                g.shape,
                x.shape,
                w.shape,
                dx.shape,
                dw.shape,
                db.shape,
            )
        return Gradients(dx, dw, db)

    return impl

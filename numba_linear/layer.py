"""The linear layer and its gradients: the public calls, from Python and inside `@njit`.

A call from Python goes straight to the compiled layer (`entry.py`). If that refuses, because code
for the dtype is not loaded yet or because an argument is wrong, `settle` finds out why.
"""

import functools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic, overload

from numba_linear import checks
from numba_linear.calls import Calls, call_of
from numba_linear.checks import ArgumentError, ReductionError, is_none
from numba_linear.codes import (
    AUTO,
    FINE,
    MEAN,
    MEMORY,
    NONE,
    PARALLEL,
    SERIAL,
    SUM,
    WANTS,
)
from numba_linear.cpu.launch import missing_threads
from numba_linear.cpu.machine import tiling_of
from numba_linear.cpu.threads import contract_on_threads
from numba_linear.entry import (
    backward_of_samples,
    forward_of_samples,
    grad_bias_of_samples,
    grad_input_of_samples,
    grad_weight_of_samples,
    run_backward,
    run_forward,
    run_grad_bias,
    run_grad_input,
    run_grad_weight,
)
from numba_linear.jit.compiler import PLAIN
from numba_linear.jit.interrupts import uninterrupted
from numba_linear.jit.private import count_reference, keep, new_array
from numba_linear.jit.resident import load_late, load_wanted, refuse_ahead
from numba_linear.operand import array_of, opened, operand, samples

Array = np.ndarray[Any, Any]


class Gradients(NamedTuple):
    """What `backward` returns: ∂L/∂x (None for a network's first layer), ∂L/∂W and ∂L/∂b."""

    input: Array
    weight: Array
    bias: Array


#: What `parallel` means in a call from Python; inside @njit None means False.
MODES = {None: AUTO, False: SERIAL, True: PARALLEL}
REDUCTIONS = {"mean": MEAN, "sum": SUM, "none": NONE}

#: Exceptions that a call raises for arguments unknown to the compiled layer.
REFUSED = (TypeError, AttributeError, KeyError, IndexError)

# --------------------------------------------------------------------------------------
# From Python
# --------------------------------------------------------------------------------------

#: The compiled calls by dtype; `settle` fills them.
FORWARD: Calls = {}
GRAD_INPUT: Calls = {}
GRAD_WEIGHT: Calls = {}
GRAD_BIAS: Calls = {}
BACKWARD: Calls = {}


class ends_at_the_call:
    """Errors of the checks are the caller's, so their tracebacks end at the caller's line.

    Faults of the package itself keep their tracebacks.
    """

    def __init__(self, operation: str) -> None:
        self.words = f"{operation}: "

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is not None and str(error).startswith(self.words):
            error.__traceback__ = None


def again(
    call: Callable[..., Any],
    run: Any,
    calls: Calls,
    refusal: int | Exception,
    inputs: dict[str, Any],
    out: Any,
    parallel: Any,
    **words: Any,
) -> Any:
    """Repeat a refused call once what it lacked is ready, or raise for what is wrong."""
    operation = call.__name__
    given, outs = arguments(operation, inputs, out)
    plain = settle(
        run, calls, operation, words.get("reduction", "mean"), given, outs, parallel, refusal
    )
    if operation == "backward" and outs:
        fields: Any = (plain.get(f"out.{name}") for name in Gradients._fields)
        words["out"] = Gradients(*fields)
    elif outs:
        words["out"] = plain["out"]
    result = call(**{n: plain.get(n) for n in inputs}, **words, parallel=parallel)
    return result if out is None else out


def arguments(
    operation: str, inputs: dict[str, Any], out: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A call's inputs and outs, by name."""
    optional = checks.OPTIONAL.get(operation, ())
    given = {n: a for n, a in inputs.items() if a is not None or n not in optional}
    if out is None:
        return given, {}
    if operation != "backward":
        return given, {"out": out}
    checks.check_gradients(isinstance(out, Gradients), type(out).__name__)
    outs = {f"out.{name}": a for name, a in out._asdict().items()}
    if "w" not in given:
        checks.check_no_input(checks.given_value(outs.pop("out.input")).kind)
    return given, outs


@uninterrupted()
def settle(
    run: Any,
    calls: Calls,
    operation: str,
    reduction: Any,
    inputs: dict[str, Any],
    outs: dict[str, Any],
    parallel: Any,
    refusal: int | Exception,
) -> dict[str, Any]:
    """Raise for what is wrong with a refused call, or prepare what it needs to be repeated.

    Returns its arrays; those of harmless subclasses become plain ones.
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
    dtype = next(iter(plain.values())).dtype
    kind = types.float32 if dtype.itemsize == 4 else types.float64
    if refusal == MEMORY:
        raise MemoryError(checks.no_memory(operation))
    if isinstance(refusal, int) and refusal >= WANTS:
        reason = load_wanted(refusal, kind)
        if reason and parallel:
            raise RuntimeError(checks.no_threads(operation, parallel, reason))
    elif same and isinstance(refusal, int):
        shapes = {name: a.shape for name, a in arrays.items()}
        raise ValueError(checks.message_of(operation, reduction, refusal, shapes))
    elif dtype not in calls:
        calls[dtype] = call_of(run, kind, calls)
    elif same and isinstance(refusal, Exception) and not isinstance(refusal, KeyError):
        raise refusal  # another thread may have removed the cause of a KeyError
    return plain


def plain_array(a: Array) -> Array:
    """The array as a plain one, without a subclass or a dtype of its own."""
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

    y[k, i] = Σ_l w[i, l] · x[k, l] + b[i], summed by the rule in `numba_linear.equations`. A
    sample's result does not depend on its batch.

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
        Python uses threads if they pay, and a call inside `@njit` does not. The bits are the same.

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
        There is no working memory. The contents of `out` are then undefined.
    RuntimeError
        `parallel` is True, and Numba has no threading layer that it could start.

    Inside `@njit` a wrong type is a `numba.TypingError` with the same message.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_linear import forward
    >>> x = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    >>> w = np.array([[1.0, 0.0, -1.0], [2.0, 1.0, 0.0]])
    >>> forward(x, w, np.array([10.0, 20.0]))
    array([[ 8., 24.],
           [ 8., 33.]])

    The weight has its out features first. Its transpose is refused:

    >>> forward(x, w.T)
    Traceback (most recent call last):
        ...
    ValueError: forward: x has shape (2, 3) and w has shape (3, 2); wanted x (…, n) and w (m, n)
        with the same n
    """
    refusal: Any
    try:
        if out is not None:
            y = out
        elif x.ndim == 2:  # 140 ns less than for any number of dimensions
            y = np.empty((len(x), len(w)), x.dtype)
        else:
            y = np.empty(x.shape[:-1] + w.shape[:1], x.dtype)
        refusal = FORWARD[x.dtype](x, w, b, y, MODES[parallel])
        if not refusal:
            return y
    except REFUSED as error:
        refusal = error
    inputs = {"x": x, "w": w, "b": b}
    with ends_at_the_call("forward"):
        return again(forward, run_forward, FORWARD, refusal, inputs, out, parallel)


def grad_input(
    g: Array, w: Array, out: Array | None = None, parallel: bool | None = None
) -> Array:
    """∂L/∂x = g W; equation ⑫ for each sample.

    ∂L/∂x[k, l] = Σ_i g[k, i] · w[i, l], by the same summation rule as `forward`. It is never
    averaged, since each row belongs to its own sample.

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
        Python uses threads if they pay, and a call inside `@njit` does not. The bits are the same.

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

    A list is not converted:

    >>> grad_input([1.0, 10.0], w)
    Traceback (most recent call last):
        ...
    TypeError: grad_input: g is of type list; wanted a NumPy ndarray of shape (…, m)
    """
    refusal: Any
    try:
        if out is not None:
            dx = out
        elif g.ndim == 2:
            dx = np.empty((len(g), w.shape[1]), g.dtype)
        else:
            dx = np.empty(g.shape[:-1] + w.shape[1:], g.dtype)
        refusal = GRAD_INPUT[g.dtype](g, w, dx, MODES[parallel])
        if not refusal:
            return dx
    except REFUSED as error:
        refusal = error
    inputs = {"g": g, "w": w}
    with ends_at_the_call("grad_input"):
        return again(grad_input, run_grad_input, GRAD_INPUT, refusal, inputs, out, parallel)


def grad_weight(
    g: Array,
    x: Array,
    reduction: str = "mean",
    out: Array | None = None,
    parallel: bool | None = None,
) -> Array:
    """∂L/∂W of one sample, or over a batch; equations ③ to ⑦.

    For one sample it is the outer product g[k, i] · x[k, l], for a batch the mean or sum of these
    over k, by the same summation rule as `forward`.

    Parameters
    ----------
    g : ndarray, shape (m,) or (…, m)
        ∂L/∂y; float32 or float64.
    x : ndarray, shape (n,) or (…, n)
        The input of `forward`, with the same batch as g.
    reduction : {"mean", "sum", "none"}
        The mean of the samples' gradients (the default), their sum, for a g that carries 1/K
        already, or one gradient for each sample. Inside `@njit` it must be a literal; with an
        `out` it may be a variable, "mean" or "sum".
    out : ndarray, shape (m, n), or (…, m, n) without a reduction, optional
        Takes the result. It may have any strides, and may not overlap an input.
    parallel : bool, optional
        True uses `numba.get_num_threads()` threads, False the calling one. By default a call from
        Python uses threads if they pay, and a call inside `@njit` does not. The bits are the same.

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

    An array of integers is not cast:

    >>> grad_weight(g, np.array([[1, 2, 3], [4, 5, 6]]))
    Traceback (most recent call last):
        ...
    TypeError: grad_weight: x has dtype int64; wanted float32 or float64: cast with
        x.astype(g.dtype)
    """
    refusal: Any
    try:
        reduce = REDUCTIONS[reduction]
        if out is None:
            shape = g.shape[-1], x.shape[-1]
            dw = np.empty(g.shape[:-1] + shape if reduce == NONE else shape, g.dtype)
        else:
            dw = out
        refusal = GRAD_WEIGHT[g.dtype](g, x, dw, reduce, MODES[parallel])
        if not refusal:
            return dw
    except REFUSED as error:
        refusal = error
    inputs, run = {"g": g, "x": x}, run_grad_weight
    with ends_at_the_call("grad_weight"):
        return again(
            grad_weight, run, GRAD_WEIGHT, refusal, inputs, out, parallel, reduction=reduction
        )


def grad_bias(
    g: Array, reduction: str = "mean", out: Array | None = None, parallel: bool | None = None
) -> Array:
    """∂L/∂b of one sample, or over a batch; equations ⑧ to ⑪.

    For one sample it is g itself (with +0 for -0, as in a sum of one term), for a batch the mean
    or sum of g over the samples, by the same summation rule as `forward`.

    Parameters
    ----------
    g : ndarray, shape (m,) or (…, m)
        ∂L/∂y; float32 or float64.
    reduction : {"mean", "sum", "none"}
        The mean of the samples' gradients (the default), their sum, for a g that carries 1/K
        already, or one gradient for each sample. Inside `@njit` it must be a literal; with an
        `out` it may be a variable, "mean" or "sum".
    out : ndarray, shape (m,), or (…, m) without a reduction, optional
        Takes the result. It may have any strides, and may not overlap g.
    parallel : bool, optional
        True uses `numba.get_num_threads()` threads, False the calling one. By default a call from
        Python uses threads if they pay, and a call inside `@njit` does not. The bits are the same.

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

    No samples have no mean; their sum is 0:

    >>> grad_bias(np.empty((0, 2)))
    Traceback (most recent call last):
        ...
    ValueError: grad_bias: reduction 'mean' over an empty batch, g has shape (0, 2); wanted at
        least one sample, or reduction 'sum'
    """
    refusal: Any
    try:
        reduce = REDUCTIONS[reduction]
        if out is None:
            db = np.empty(g.shape if reduce == NONE else g.shape[-1:], g.dtype)
        else:
            db = out
        refusal = GRAD_BIAS[g.dtype](g, db, reduce, MODES[parallel])
        if not refusal:
            return db
    except REFUSED as error:
        refusal = error
    inputs, run = {"g": g}, run_grad_bias
    with ends_at_the_call("grad_bias"):
        return again(
            grad_bias, run, GRAD_BIAS, refusal, inputs, out, parallel, reduction=reduction
        )


def backward(
    g: Array,
    x: Array,
    w: Array | None,
    reduction: str = "mean",
    out: Gradients | None = None,
    parallel: bool | None = None,
) -> Gradients:
    """All three gradients of one sample or a batch; equations ③ to ⑫.

    The bits are those of `grad_input`, `grad_weight` and `grad_bias`.

    Parameters
    ----------
    g : ndarray, shape (m,) or (…, m)
        ∂L/∂y; float32 or float64.
    x : ndarray, shape (n,) or (…, n)
        The input of `forward`, with the same batch as g.
    w : ndarray, shape (m, n), or None
        The weight; None for a network's first layer, whose ∂L/∂x is not needed.
    reduction : {"mean", "sum", "none"}
        The mean of the samples' gradients (the default), their sum, for a g that carries 1/K
        already, or one gradient for each sample. Inside `@njit` it must be a literal; with an
        `out` it may be a variable, "mean" or "sum".
    out : Gradients, optional
        Three arrays that take the results; none may overlap an input or another of them. Without
        w its `input` is None.
    parallel : bool, optional
        True uses `numba.get_num_threads()` threads, False the calling one. By default a call from
        Python uses threads if they pay, and a call inside `@njit` does not. The bits are the same.

    Returns
    -------
    Gradients
        `out`, or new arrays: `input`, which is never reduced, `weight` and `bias`. Without w
        `input` is not computed, and None.

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

    g and x have the same batch. Nothing is broadcast:

    >>> backward(np.ones((5, 2)), np.ones((1, 3)), w)
    Traceback (most recent call last):
        ...
    ValueError: backward: g has shape (5, 2) and x has shape (1, 3); wanted g (…, m) and x (…, n)
        with the same batch (…)
    """
    refusal: Any
    try:
        reduce = REDUCTIONS[reduction]
        if out is None:
            dtype = g.dtype
            if reduce == NONE:
                db = np.empty(g.shape, dtype)
                dw = np.empty(g.shape + x.shape[-1:], dtype)
            elif w is None:
                db = np.empty(g.shape[-1], dtype)
                dw = np.empty((g.shape[-1], x.shape[-1]), dtype)
            else:  # 90 ns less than with an empty batch
                dw, db = np.empty(w.shape, dtype), np.empty(len(w), dtype)
            dx: Any = None if w is None else np.empty(x.shape, dtype)
            gradients = Gradients(dx, dw, db)
        else:
            gradients = out
        dx, dw, db = gradients
        refusal = BACKWARD[g.dtype](g, x, w, dx, dw, db, reduce, MODES[parallel])
        if not refusal:
            return gradients
    except (*REFUSED, ValueError) as error:
        refusal = error
    inputs, run = {"g": g, "x": x, "w": w}, run_backward
    with ends_at_the_call("backward"):
        return again(backward, run, BACKWARD, refusal, inputs, out, parallel, reduction=reduction)


# --------------------------------------------------------------------------------------
# Inside @njit
# --------------------------------------------------------------------------------------
#
# Each overload checks types at compile time. It gives Numba as little code as possible, since
# every caller compiles it again: the loops for few multiply-adds, the call of a resident function
# for anything else, and the errors.


def literal(type_):
    """The value of a constant's type, None for any other type."""
    if isinstance(type_, types.Omitted):
        return type_.value
    if isinstance(type_, types.Literal):
        return type_.literal_value
    return type_ if isinstance(type_, str) else None


def wants_threads(parallel):
    """Whether a call may use threads."""
    return not is_none(parallel) and literal(parallel) is not False


def mode_word(*on_threads):
    """An operation: the mode for `parallel` inside @njit, in a call on arrays like this one.

    It loads all late functions with the caller, compiled or read from a cache, and these if the
    call may use threads.
    """

    def word(typingctx, array, parallel):
        late = load_late(array_of(array).dtype, on_threads if wants_threads(parallel) else ())
        return types.intp(array, parallel), functools.partial(codegen, late)

    def codegen(late, context, builder, sig, args):
        parallel = sig.args[1]
        keep(context, builder, *late)
        if is_none(parallel) or literal(parallel) is not None:
            mode = PARALLEL if literal(parallel) else SERIAL
            return context.get_constant(types.intp, mode)
        wanted = context.cast(builder, args[1], parallel, types.boolean)
        modes = [context.get_constant(types.intp, mode) for mode in (PARALLEL, SERIAL)]
        return builder.select(wanted, *modes)

    return intrinsic(prefer_literal=True)(word)


mode_of = mode_word(contract_on_threads)


@intrinsic
def shape_of(typingctx, a):
    """a.shape for an error: () for None, and -1 in each dimension if it is None at run time."""
    kind = array_of(a)
    result = types.UniTuple(types.intp, kind.ndim if isinstance(kind, types.Array) else 0)

    def codegen(context, builder, sig, args):
        type_, opened_array, there = opened(context, builder, a, args[0])
        if type_ is None:
            return context.make_tuple(builder, result, [])
        sizes = cgutils.unpack_tuple(builder, opened_array.shape)
        if there is not None:
            sizes = [builder.select(there, size, size.type(-1)) for size in sizes]
        return context.make_tuple(builder, result, sizes)

    return result(a), codegen


@intrinsic
def there(typingctx, a):
    """The array of an optional type that is known to be there."""
    result = array_of(a)

    def codegen(context, builder, sig, args):
        value = context.cast(builder, args[0], a, result)
        count_reference(context, builder, result, value)
        return value

    return result(a), codegen


def reduction_of(operation, reduction):
    """The code of a reduction, a constant or a string at run time."""


@overload(reduction_of, prefer_literal=True, jit_options=PLAIN)
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


def value_of(type_):
    """A type's constant value for a message, or else the type."""
    if is_none(type_):
        return None
    value = literal(type_)
    return checks.OfType(str(type_)) if value is None else value


def check_typed(operation, inputs, outs, parallel, reduction="mean"):
    """`checks` on Numba's types; their errors become Numba's, with the same message."""
    refuse_ahead()
    try:
        name = literal(reduction)
        if name is None and not isinstance(reduction, types.UnicodeType):
            checks.check_reduction(operation, value_of(reduction))
        if name is not None:
            checks.check_reduction(operation, name)
        elif not outs and "none" in checks.reductions(operation):
            raise TypeError(
                f"{operation}: reduction is not a constant; inside @njit without out it decides"
                " the result's type, so wanted 'mean', 'sum' or 'none' written in the call"
            )
        checks.check_parallel(operation, value_of(parallel), is_flag(parallel))
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
        if not str(error).startswith(f"{operation}: "):  # a signal's handler raised it
            raise
        raise TypingError(str(error)) from None


def is_flag(type_):
    """Whether values of a type are None, True or False."""
    if isinstance(type_, types.Optional):
        type_ = type_.type
    return is_none(type_) or isinstance(type_, (types.Boolean, types.Omitted, bool))


def given(**arrays):
    """The arguments that are not None."""
    return {name.replace("_", "."): a for name, a in arrays.items() if not is_none(a)}


def may_be_none(*arrays):
    """Whether any has a type that may be None."""
    return any(isinstance(a, types.Optional) for a in arrays)


#: LLVM copies the call into its caller, where Numba then need not count references: 20 ns less.
INLINED = PLAIN | {"forceinline": True}


def result(operation, name="out"):
    """An operation: a call's out, or a new array if there is none.

    It takes the out, the reduction, and the call's inputs or None.
    """

    @intrinsic(prefer_literal=True)
    def word(typingctx, out, reduction, first, second, third):
        letters = checks.out_letters(operation, literal(reduction) or "sum")[name]
        inputs, own = (first, second, third), letters.replace("…", "")
        batch = array_of(first).ndim - 1 if "…" in letters else 0
        new = types.Array(array_of(first).dtype, batch + len(own), "C")
        kind = new if is_none(out) else array_of(out)
        if name == "out.input" and is_none(third):  # a network's first layer
            kind = types.none

        def codegen(context, builder, sig, args):
            def made():
                sizes = {}
                for i, wanted in enumerate(checks.LETTERS[operation].values()):
                    _, array, there = opened(context, builder, inputs[i], args[2 + i])
                    shape = cgutils.unpack_tuple(builder, array.shape) if array else []
                    if there is not None:
                        shape = [builder.select(there, size, size.type(0)) for size in shape]
                    last = wanted.replace("…", "")
                    sizes = dict(zip(last, shape[-len(last) :], strict=False)) | sizes
                    if i == 0:
                        sizes["…"] = shape[:-1]
                shape = sizes["…"][:batch] + [sizes[letter] for letter in own]
                array = new_array(context, builder, new, shape)
                return context.cast(builder, array, new, kind)

            if kind == types.none:
                return context.get_dummy_value()
            if is_none(out):
                return made()
            if not isinstance(out, types.Optional):
                count_reference(context, builder, kind, args[0])
                return args[0]
            optional = context.make_helper(builder, out, value=args[0])
            slot = cgutils.alloca_once_value(builder, optional.data)
            with builder.if_else(optional.valid) as (given, missing):
                with given:
                    count_reference(context, builder, kind, optional.data)
                with missing:
                    builder.store(made(), slot)
            return builder.load(slot)

        return kind(out, reduction, first, second, third), codegen

    return word


forward_result, grad_input_result = result("forward"), result("grad_input")
grad_weight_result, grad_bias_result = result("grad_weight"), result("grad_bias")
input_result, weight_result, bias_result = (
    result("backward", f"out.{name}") for name in Gradients._fields
)


@overload(forward, prefer_literal=True, jit_options=INLINED)
def _forward(x, w, b=None, out=None, parallel=None):
    check_typed("forward", {"x": x, "w": w} | given(b=b), given(out=out), parallel)
    no_memory = checks.no_memory("forward")

    def call(x, w, b=None, out=None, parallel=None):
        mode = mode_of(x, parallel)
        y = forward_result(out, "mean", x, w, b)
        done = forward_of_samples(
            tiling_of(x), samples(x), samples(w), samples(b), samples(y), mode
        )
        if done != FINE:
            code = run_forward(operand(x, x), operand(x, w), operand(x, b), operand(x, y), mode)
            if code == MEMORY:
                raise MemoryError(no_memory)
            if code != FINE:
                raise ArgumentError(
                    "forward", "mean", code, shape_of(x), shape_of(w), shape_of(b), y.shape
                )
        return y

    return call


@overload(grad_input, prefer_literal=True, jit_options=INLINED)
def _grad_input(g, w, out=None, parallel=None):
    check_typed("grad_input", {"g": g, "w": w}, given(out=out), parallel)
    no_memory = checks.no_memory("grad_input")

    def call(g, w, out=None, parallel=None):
        mode = mode_of(g, parallel)
        dx = grad_input_result(out, "mean", g, w, None)
        done = grad_input_of_samples(tiling_of(g), samples(g), samples(w), samples(dx), mode)
        if done != FINE:
            code = run_grad_input(operand(g, g), operand(g, w), operand(g, dx), mode)
            if code == MEMORY:
                raise MemoryError(no_memory)
            if code != FINE:
                raise ArgumentError("grad_input", "mean", code, shape_of(g), shape_of(w), dx.shape)
        return dx

    return call


@intrinsic(prefer_literal=True)
def reduction_over_samples(typingctx, g, reduce):
    """The reduction; for a sample without a batch, the sum."""
    one_sample = array_of(g).ndim == 1

    def codegen(context, builder, sig, args):
        return context.get_constant(types.intp, SUM) if one_sample else args[1]

    return types.intp(g, types.intp), codegen


@overload(grad_weight, prefer_literal=True, jit_options=INLINED)
def _grad_weight(g, x, reduction="mean", out=None, parallel=None):
    check_typed("grad_weight", {"g": g, "x": x}, given(out=out), parallel, reduction)
    no_memory = checks.no_memory("grad_weight")

    def call(g, x, reduction="mean", out=None, parallel=None):
        reduce, mode = reduction_of("grad_weight", reduction), mode_of(g, parallel)
        of_samples = reduction_over_samples(g, reduce)
        dw = grad_weight_result(out, reduction, g, x, None)
        done = grad_weight_of_samples(
            tiling_of(g), samples(g), samples(x), samples(dw), of_samples, mode
        )
        if done != FINE:
            code = run_grad_weight(operand(g, g), operand(g, x), operand(g, dw), reduce, mode)
            if code == MEMORY:
                raise MemoryError(no_memory)
            if code != FINE:
                raise ArgumentError(
                    "grad_weight", reduction, code, shape_of(g), shape_of(x), dw.shape
                )
        return dw

    return call


@overload(grad_bias, prefer_literal=True, jit_options=INLINED)
def _grad_bias(g, reduction="mean", out=None, parallel=None):
    check_typed("grad_bias", {"g": g}, given(out=out), parallel, reduction)
    no_memory = checks.no_memory("grad_bias")

    def call(g, reduction="mean", out=None, parallel=None):
        reduce, mode = reduction_of("grad_bias", reduction), mode_of(g, parallel)
        of_samples = reduction_over_samples(g, reduce)
        db = grad_bias_result(out, reduction, g, None, None)
        done = grad_bias_of_samples(tiling_of(g), samples(g), samples(db), of_samples, mode)
        if done != FINE:
            code = run_grad_bias(operand(g, g), operand(g, db), reduce, mode)
            if code == MEMORY:
                raise MemoryError(no_memory)
            if code != FINE:
                raise ArgumentError("grad_bias", reduction, code, shape_of(g), db.shape)
        return db

    return call


@overload(backward, prefer_literal=True, jit_options=INLINED)
def _backward(g, x, w, reduction="mean", out=None, parallel=None):
    first, arrays = is_none(w), array_of(out)
    outs = {}
    if not is_none(out):
        fields = getattr(arrays, "fields", None) == Gradients._fields
        try:
            checks.check_gradients(fields, str(out))
            if first:
                checks.check_no_input(checks.given_type(arrays[0]).kind)
        except TypeError as error:
            raise TypingError(str(error)) from None
        outs = dict(zip((f"out.{name}" for name in Gradients._fields), arrays, strict=True))
        if first:
            del outs["out.input"]
    check_typed("backward", {"g": g, "x": x} | given(w=w), outs, parallel, reduction)
    no_memory = checks.no_memory("backward")

    def with_or_without_out(g, x, w, reduction="mean", out=None, parallel=None):
        if out is None:
            return backward(g, x, w, reduction, None, parallel)
        return backward(g, x, w, reduction, there(out), parallel)

    def call(g, x, w, reduction="mean", out=None, parallel=None):
        reduce, mode = reduction_of("backward", reduction), mode_of(g, parallel)
        if out is None:
            dx = input_result(None, reduction, g, x, w)
            dw = weight_result(None, reduction, g, x, w)
            db = bias_result(None, reduction, g, x, w)
        else:
            dx, dw, db = out
        done = backward_of_samples(
            tiling_of(g),
            samples(g),
            samples(x),
            samples(w),
            samples(dx),
            samples(dw),
            samples(db),
            reduction_over_samples(g, reduce),
            mode,
        )
        if done != FINE:
            code = run_backward(
                operand(g, g),
                operand(g, x),
                operand(g, w),
                operand(g, dx),
                operand(g, dw),
                operand(g, db),
                reduce,
                mode,
            )
            if code == MEMORY:
                raise MemoryError(no_memory)
            if code != FINE:
                raise ArgumentError(
                    "backward",
                    reduction,
                    code,
                    shape_of(g),
                    shape_of(x),
                    shape_of(w),
                    shape_of(dx),
                    shape_of(dw),
                    shape_of(db),
                )
        return Gradients(there(dx), there(dw), there(db))

    return with_or_without_out if may_be_none(out) else call

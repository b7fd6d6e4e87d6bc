"""Every check of a call's arguments and every error message, once for both worlds.

A table of letters says what a call takes: `x` is (…, n) and `w` is (m, n), so their n must agree.
`check_types` checks types: from Python when a call fails, and inside `@njit` at compile time.
Compiled code (`entry.py`, `operand.conforming`) checks shapes by the same table. It returns a
code, which `message_of` puts into words.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.np.numpy_support import as_dtype

from numba_linear.codes import EMPTY_MEAN, FULL, OVERLAP, SCATTERED, UNCOUNTED
from numba_linear.cpu.rule import LEAF

REDUCTIONS = ("mean", "sum", "none")

#: The letters of each call's arguments; "…" is the batch. `out_letters` has those of `out`.
LETTERS = {
    "forward": {"x": "…n", "w": "mn", "b": "m"},
    "grad_input": {"g": "…m", "w": "mn"},
    "grad_weight": {"g": "…m", "x": "…n"},
    "grad_bias": {"g": "…m"},
    "backward": {"g": "…m", "x": "…n", "w": "mn"},
    "linear": {"input": "…n", "weight": "mn", "bias": "m"},
    "accumulator": {"w": "mn"},
    "accumulate": {"g": "…m", "x": "…n"},
    "accumulated": {"acc.weight": "qmn", "acc.bias": "qm", "acc.samples": "1"},
}
#: The letter q counts an accumulator's levels; 1 stands for the number one.
WORDS = {"q": "levels"}


def out_letters(operation: str, reduction: str) -> dict[str, str]:
    """The letters of what a call returns."""
    batch = "…" if reduction == "none" else ""
    weight, bias = batch + "mn", batch + "m"
    return {
        "forward": {"out": "…m"},
        "grad_input": {"out": "…n"},
        "grad_weight": {"out": weight},
        "grad_bias": {"out": bias},
        "backward": {"out.input": "…n", "out.weight": weight, "out.bias": bias},
        "linear": {"out": "…m"},
        "accumulator": {},
        "accumulate": LETTERS["accumulated"],
        "accumulated": {"out.weight": "mn", "out.bias": "m"},
    }[operation]


#: Arguments that may be None.
OPTIONAL = {"forward": ("b",), "backward": ("w", "out.input")}


def sizes_of(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, Any] | None:
    """The size of each letter, from arrays given as letters and shape; None if they do not
    conform."""
    sizes: dict[str, Any] = {"1": 1}
    for letters, shape in shapes:
        own = letters.replace("…", "")
        batch = len(shape) - len(own)
        if batch < 0 or (batch > 0 and "…" not in letters):
            return None
        found: dict[str, Any] = dict(zip(own, shape[batch:], strict=True))
        if "…" in letters:
            found["…"] = shape[:batch]
        if any(sizes.setdefault(letter, size) != size for letter, size in found.items()):
            return None
    return None if sizes.get("q") == 0 else sizes  # an accumulator has a level


def shape_of(letters: str, sizes: dict[str, Any]) -> tuple[int, ...]:
    """The shape for these letters and sizes."""
    return sum((sizes[x] if x == "…" else (sizes[x],) for x in letters), ())


def no_memory(operation: str) -> str:
    return f"{operation}: there is no memory to work in"


def no_threads(operation: str, parallel: Any, reason: str) -> str:
    return (
        f"{operation}: parallel is {parallel!r} and Numba can start no threads ({reason}); wanted"
        " None or False, or a NUMBA_THREADING_LAYER that is installed"
    )


class Worded(ValueError):
    """An error for which compiled code has only the arguments of a message.

    Numba raises by calling a class. Calling this one makes the exception that the call from Python
    raises, which can be copied and pickled.
    """

    made: Callable[..., Exception]

    def __new__(cls, *arguments: Any) -> Any:
        if isinstance(arguments[0], Exception):  # Python 3.11 calls again, with the exception
            return arguments[0]
        return cls.made(*arguments)


class ArgumentError(Worded):
    """A wrong argument found by compiled code, with the message that Python's check gives."""

    @staticmethod
    def made(operation: str, reduction: str, code: int, *shapes: tuple[int, ...]) -> Exception:
        names = [*LETTERS[operation], *out_letters(operation, reduction)]
        given = {name: shape for name, shape in zip(names, shapes, strict=True) if shape}
        missing = [name for name, shape in given.items() if -1 in shape]
        given = {name: shape for name, shape in given.items() if name not in missing}
        both = "w" in given, "out.input" in given  # each may be None, but only with the other
        try:
            for name in missing:
                if name not in OPTIONAL.get(operation, ()) or (name != "b" and any(both)):
                    check_types(operation, reduction, {name: Given("None")}, {})
        except TypeError as error:
            return error
        return ValueError(message_of(operation, reduction, code, given))


class ReductionError(Worded):
    """An unknown reduction found by compiled code."""

    @staticmethod
    def made(operation: str, reduction: str) -> Exception:
        return ValueError(unknown_reduction(operation, reduction))


class Given(NamedTuple):
    """What is known of an argument: an array's dtype and dimensions, else its type's name."""

    kind: str
    dtype: np.dtype[Any] | None = None
    ndim: int = 0
    writable: bool = True


def given_value(value: Any) -> Given:
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        return Given("ndarray", value.dtype, value.ndim, value.flags.writeable)
    return Given(type(value).__name__)


def given_type(type_: Any) -> Given:
    if isinstance(type_, types.Optional):
        type_ = type_.type
    if isinstance(type_, types.Array):
        return Given("ndarray", as_dtype(type_.dtype), type_.ndim, type_.mutable)
    return Given("None" if is_none(type_) else str(type_))


def is_none(type_: Any) -> bool:
    """Whether a Numba type stands for None, given or left out."""
    return (
        type_ is None
        or isinstance(type_, types.NoneType)
        or (isinstance(type_, types.Omitted) and type_.value is None)
    )


def wanted(letters: str) -> str:
    """The letters as a shape: (…, n)."""
    inside = ", ".join(WORDS.get(letter, letter) for letter in letters)
    return f"({inside},)" if len(letters) == 1 else f"({inside})"


class OfType(NamedTuple):
    """Stands in messages for a value whose type alone is known."""

    name: str

    def __repr__(self) -> str:
        return f"of type {self.name}"


def reductions(operation: str) -> tuple[str, ...]:
    """A call's reductions. Samples that were added up cannot be told apart."""
    return REDUCTIONS[:2] if operation == "accumulated" else REDUCTIONS


def unknown_reduction(operation: str, reduction: Any) -> str:
    choices = ", ".join(map(repr, reductions(operation)))
    return f"{operation}: reduction is {reduction!r}; wanted one of {choices}"


def check_reduction(operation: str, reduction: Any) -> None:
    if not isinstance(reduction, str) or reduction not in reductions(operation):
        raise ValueError(unknown_reduction(operation, reduction))


def check_parallel(operation: str, parallel: Any, fine: bool) -> None:
    if not fine:
        raise TypeError(f"{operation}: parallel is {parallel!r}; wanted None, True or False")


def check_gradients(fine: bool, kind: str, operation: str = "backward") -> None:
    if not fine:
        raise TypeError(
            f"{operation}: out is of type {kind}; wanted a Gradients(input, weight, bias) of"
            " arrays"
        )


def check_no_input(kind: str, operation: str = "backward", why: str = "as w is None") -> None:
    """Without w, as in a network's first layer, there is no ∂L/∂x."""
    if kind not in ("None", "NoneType"):
        raise TypeError(f"{operation}: out.input is of type {kind}; wanted None, {why}")


#: Why an accumulator has no ∂L/∂x.
NEVER_ADDED = "for ∂L/∂x is never added up"


def check_accumulator(operation: str, fine: bool, kind: str) -> None:
    if not fine:
        raise TypeError(
            f"{operation}: acc is of type {kind}; wanted an Accumulator(weight, bias, samples) as"
            " `accumulator` makes it"
        )


def check_count(given: Given, operation: str, writes: bool) -> None:
    """Check the type of an accumulator's samples."""
    name = "acc.samples"
    if given.dtype is None:
        raise TypeError(
            f"{operation}: {name} is of type {given.kind}; wanted a NumPy ndarray of shape (1,)"
        )
    if given.dtype != np.int64 or not given.dtype.isnative:
        raise TypeError(f"{operation}: {name} has dtype {given.dtype}; wanted int64")
    if given.ndim != 1:
        raise ValueError(f"{operation}: {name} has {dimensions(given.ndim)}; wanted shape (1,)")
    if writes:
        check_writable(operation, name, given)


def wrong_count(operation: str, shape: tuple[int, ...]) -> str:
    return f"{operation}: acc.samples has shape {shape}; wanted (1,)"


def bad_samples(samples: Any) -> str:
    return f"accumulator: samples is {samples!r}; wanted an integer of at least 1"


class SamplesError(Worded):
    """Too few samples, found by compiled code."""

    @staticmethod
    def made(samples: int) -> Exception:
        return ValueError(bad_samples(samples))


def check_samples(samples: Any) -> None:
    if isinstance(samples, bool) or not isinstance(samples, int | np.integer):
        raise TypeError(bad_samples(samples))
    if samples < 1:
        raise ValueError(bad_samples(samples))


def no_room(levels: int, so_far: int, more: int) -> str:
    return (
        f"accumulate: acc has {so_far} samples and room for {capacity(levels)}, and g has {more}"
        " more; wanted no more than `accumulator` was asked for"
    )


def miscounted(operation: str, levels: int, so_far: int) -> str:
    return (
        f"{operation}: acc.samples is [{so_far}]; wanted 0 to {capacity(levels)}, for which"
        f" acc has {levels} level{'s' * (levels != 1)}"
    )


def capacity(levels: int) -> int:
    """The samples that an accumulator of `levels` levels has room for."""
    return LEAF << (levels - 1)


class AccumulatorError(Worded):
    """A fault of an accumulator found by compiled code."""

    @staticmethod
    def made(
        operation: str, code: int, levels: int, so_far: int, shape: tuple[int, ...]
    ) -> Exception:
        return ValueError(accumulator_fault(operation, code, levels, so_far, shape))


def accumulator_fault(
    operation: str, code: int, levels: int, so_far: int, shape: tuple[int, ...]
) -> str:
    """The message for a code from FULL to SCATTERED + 1; `shape` is g's."""
    if code == FULL:
        return no_room(levels, so_far, math.prod(shape[:-1]))
    if code == UNCOUNTED:
        return miscounted(operation, levels, so_far)
    name = ("acc.weight", "acc.bias")[code - SCATTERED]
    return (
        f"{operation}: the numbers of {name} do not follow each other; wanted a C-contiguous"
        " array, as `accumulator` makes it"
    )


def dimensions(ndim: int) -> str:
    return f"{ndim} dimension{'s' * (ndim != 1)}"


#: A hint about unequal dtypes inside @njit, where they arise unnoticed.
WIDENED = (
    "; inside @njit a float such as 0.5 makes a float32 array float64, np.float32(0.5) does not"
)


def check_types(
    operation: str,
    reduction: str,
    inputs: dict[str, Given],
    outs: dict[str, Given],
    why_unequal: str = "",
) -> None:
    """Raise for what is wrong by the arguments' types alone.

    Raises
    ------
    TypeError
        An input or out that is not an array, or an input of a wrong dtype.
    ValueError
        A wrong number of dimensions, or an out of a wrong dtype or read-only.
    """
    letters = LETTERS[operation] | out_letters(operation, reduction)
    for name, given in (inputs | outs).items():
        if given.dtype is None:
            raise TypeError(
                f"{operation}: {name} is of type {given.kind}; wanted a NumPy ndarray of shape"
                f" {wanted(letters[name])}{'; without one leave b out' if name == 'b' else ''}"
            )
    for name, given in inputs.items():
        check_dtype(operation, name, given, inputs)
    first = next(iter(inputs))
    dtype = inputs[first].dtype
    for name, given in inputs.items():
        if given.dtype != dtype:
            # Cast to float32: a network is seldom float64 on purpose, least of all in one array.
            wide, narrow = (name, first) if dtype == np.float32 else (first, name)
            raise TypeError(
                f"{operation}: {first} has dtype {dtype} and {name} has dtype {given.dtype};"
                f" wanted one dtype for all: cast with {wide}.astype({narrow}.dtype){why_unequal}"
            )
    for name, given in outs.items():
        if given.dtype != dtype:
            raise ValueError(
                f"{operation}: {name} has dtype {given.dtype}; wanted {dtype} as of {first}"
            )
    batch = None
    for name, given in (inputs | outs).items():
        fixed = letters[name].replace("…", "")
        more = given.ndim - len(fixed)
        if more < 0 or (more > 0 and "…" not in letters[name]):
            raise ValueError(
                f"{operation}: {name} has {dimensions(given.ndim)}; wanted shape"
                f" {wanted(letters[name])}"
            )
        if "…" in letters[name]:
            batch = batch or (name, given.ndim, more)
            if more != batch[2]:
                raise ValueError(
                    f"{operation}: {batch[0]} has {dimensions(batch[1])} and {name} has"
                    f" {given.ndim}; wanted {batch[0]} of shape {wanted(letters[batch[0]])} and"
                    f" {name} of shape {wanted(letters[name])} with the same batch (…)"
                )
    for name, given in outs.items():
        check_writable(operation, name, given)


def check_writable(operation: str, name: str, given: Given) -> None:
    if not given.writable:
        raise ValueError(f"{operation}: {name} is read-only; wanted a writable array")


def is_float(dtype: np.dtype[Any] | None) -> bool:
    """Whether a dtype is float32 or float64, in any byte order."""
    return dtype is not None and dtype.type in (np.float32, np.float64)


def check_dtype(operation: str, name: str, given: Given, inputs: dict[str, Given]) -> None:
    assert given.dtype is not None
    if not is_float(given.dtype):
        # NumPy's StringDType has no dtype in another byte order, nor a kind.
        right = [f"{other}.dtype" for other in inputs if is_float(inputs[other].dtype)]
        cures = {
            "c": f": pass {name}.real and {name}.imag, each to a call of its own",
            **dict.fromkeys("biufO", f": cast with {name}.astype({[*right, 'np.float64'][0]})"),
        }
        raise TypeError(
            f"{operation}: {name} has dtype {given.dtype}; wanted float32 or float64"
            f"{cures.get(given.dtype.kind, '')}"
        )
    if not given.dtype.isnative:
        raise TypeError(
            f"{operation}: {name} has dtype {given.dtype.str}, not in this machine's byte order;"
            f" wanted native float32 or float64: cast with"
            f" {name}.astype({name}.dtype.newbyteorder('='))"
        )


def message_of(
    operation: str, reduction: str, code: int, shapes: dict[str, tuple[int, ...]]
) -> str:
    """The message for a code that compiled checks returned."""
    inputs = list(LETTERS[operation])
    outs = list(out_letters(operation, reduction))
    if code >= OVERLAP:
        pair = divmod(code - OVERLAP, 8)
        others = inputs + outs
        return (
            f"{operation}: {outs[pair[0]]} overlaps {others[pair[1]]} in memory; wanted an array"
            " of its own"
        )
    if code == EMPTY_MEAN and operation == "accumulated":
        return (
            "accumulated: reduction 'mean' over no samples; wanted at least one in acc, or"
            " reduction 'sum'"
        )
    if code == EMPTY_MEAN:
        return (
            f"{operation}: reduction 'mean' over an empty batch, {inputs[0]} has shape"
            f" {shapes[inputs[0]]}; wanted at least one sample, or reduction 'sum'"
        )
    letters = LETTERS[operation] | out_letters(operation, reduction)
    bound: dict[str, tuple[str, Any]] = {"1": ("", 1)}
    for name, shape in shapes.items():
        fixed = letters[name].replace("…", "")
        batch = max(0, len(shape) - len(fixed))
        dimensions: dict[str, Any] = dict(zip(reversed(fixed), reversed(shape), strict=False))
        if "…" in letters[name] or batch:
            dimensions["…"] = shape[:batch]
        for letter, dimension in dimensions.items():
            other, size = bound.setdefault(letter, (name, dimension))
            if size != dimension:
                if letter == "1" or (name in outs and not name.startswith("acc.")):
                    right = shape_of(letters[name], {x: size for x, (_, size) in bound.items()})
                    return f"{operation}: {name} has shape {shape}; wanted {right}"
                return (
                    f"{operation}: {other} has shape {shapes[other]} and {name} has shape {shape};"
                    f" wanted {other} {wanted(letters[other])} and {name} {wanted(letters[name])}"
                    f" with the same {'batch (…)' if letter == '…' else letter}"
                )
    weight = shapes.get("acc.weight")
    if weight and not weight[0]:
        return f"{operation}: acc.weight has shape {weight}; wanted at least one of {wanted('q')}"
    raise AssertionError(f"{operation}: no error in {shapes}")

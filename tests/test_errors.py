"""A wrong call says what was got and what was wanted, in both worlds, and writes nothing."""

import copy
import math
import pickle
import re
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from numba import njit, prange
from numba.core.errors import TypingError, UnsupportedBytecodeError
from operations import operands

from numba_linear import Gradients, backward, forward, grad_bias, grad_input, grad_weight
from numba_linear.commands import UserError
from numba_linear.cuda import CudaUnavailableError

K, n, m = 4, 6, 5


def call_forward(x, w, b, out):
    return forward(x, w, b, out)


def call_grad_input(g, w, out):
    return grad_input(g, w, out)


def call_grad_weight(g, x, out):
    return grad_weight(g, x, out=out)


def call_grad_weight_none(g, x, out):
    return grad_weight(g, x, "none", out)


def call_grad_weight_max(g, x, out):
    return grad_weight(g, x, "max", out)


def call_grad_weight_named(g, x, reduction, out):
    return grad_weight(g, x, reduction, out)


def call_grad_bias(g, out):
    return grad_bias(g, out=out)


def call_grad_bias_none(g, out):
    return grad_bias(g, "none", out)


def call_grad_bias_max(g, out):
    return grad_bias(g, "max", out)


def call_backward(g, x, w, out):
    return backward(g, x, w, out=out)


def call_backward_max(g, x, w, out):
    return backward(g, x, w, "max", out)


#: For each call the operands in order, without `out`, and the shape of `out`.
CALLS = {
    call_forward: ("xwb", (K, m)),
    call_grad_input: ("gw", (K, n)),
    call_grad_weight: ("gx", (m, n)),
    call_grad_weight_none: ("gx", (K, m, n)),
    call_grad_weight_max: ("gx", (m, n)),
    call_grad_bias: ("g", (m,)),
    call_grad_bias_none: ("g", (K, m)),
    call_grad_bias_max: ("g", (m,)),
    call_backward: ("gxw", ((K, n), (m, n), (m,))),
    call_backward_max: ("gxw", ((K, n), (m, n), (m,))),
}
COMPILED = {call: njit(call) for call in CALLS}


class Wrong(NamedTuple):
    """One wrong call: what to change in a right one, the error, and words its message has."""

    call: object
    change: dict
    error: type[Exception]
    words: tuple[str, ...]
    #: Whether the types alone show it, so that @njit refuses to compile it.
    typed: bool = False
    #: Whether Numba knows a type for the arguments at all.
    njit: bool = True


def ones(*shape, dtype=np.float64):
    return np.ones(shape, dtype)


def shapes(*words):
    return tuple(re.escape(str(word)) for word in words)


SHAPES = {
    "forward, n": Wrong(
        call_forward, {"x": ones(K, 7)}, ValueError, shapes("x", "w", (K, 7), (m, n))
    ),
    "forward, n, one sample": Wrong(
        call_forward, {"x": ones(7), "out": None}, ValueError, shapes("x", "w", (7,), (m, n))
    ),
    "forward, w transposed": Wrong(
        call_forward, {"w": ones(n, m)}, ValueError, shapes("x", "w", (K, n), (n, m))
    ),
    "forward, b": Wrong(call_forward, {"b": ones(6)}, ValueError, shapes("b", "w", (6,), (m, n))),
    "forward, b that would broadcast": Wrong(
        call_forward, {"b": ones(1)}, ValueError, shapes("b", "w", (1,), (m, n))
    ),
    "grad_input, m": Wrong(
        call_grad_input, {"g": ones(K, 3)}, ValueError, shapes("g", "w", (K, 3), (m, n))
    ),
    "grad_weight, K": Wrong(
        call_grad_weight, {"x": ones(3, n)}, ValueError, shapes("g", "x", (K, m), (3, n))
    ),
    "grad_weight, K that would broadcast": Wrong(
        call_grad_weight, {"x": ones(1, n)}, ValueError, shapes("g", "x", (K, m), (1, n))
    ),
    "backward, K": Wrong(
        call_backward, {"x": ones(3, n)}, ValueError, shapes("g", "x", (K, m), (3, n))
    ),
    "backward, n": Wrong(
        call_backward, {"x": ones(K, 7)}, ValueError, shapes("x", "w", (K, 7), (m, n))
    ),
    "backward, m": Wrong(
        call_backward, {"g": ones(K, 3)}, ValueError, shapes("g", "w", (K, 3), (m, n))
    ),
    "forward, 0-d x": Wrong(call_forward, {"x": ones()}, ValueError, ("x",), True),
    "forward, 1-d w": Wrong(
        call_forward, {"w": ones(n)}, ValueError, ("w has 1 dimension",), True
    ),
    "forward, 3-d w": Wrong(call_forward, {"w": ones(1, m, n)}, ValueError, ("w",), True),
    "forward, 2-d b": Wrong(call_forward, {"b": ones(1, m)}, ValueError, ("b",), True),
    "forward, 0-d b": Wrong(call_forward, {"b": ones()}, ValueError, ("b",), True),
    "grad_input, 0-d g": Wrong(call_grad_input, {"g": ones()}, ValueError, ("g",), True),
    "grad_weight, 0-d x": Wrong(call_grad_weight, {"x": ones()}, ValueError, ("x",), True),
    "grad_weight, g for one sample": Wrong(
        call_grad_weight, {"g": ones(m)}, ValueError, ("g", "x"), True
    ),
    "grad_bias, 0-d g": Wrong(call_grad_bias, {"g": ones()}, ValueError, ("g",), True),
    "backward, g for one sample": Wrong(
        call_backward, {"g": ones(m)}, ValueError, ("g", "x"), True
    ),
}

DTYPES = {
    "forward, w float32": Wrong(
        call_forward,
        {"w": ones(m, n, dtype=np.float32)},
        TypeError,
        ("x", "w", "float64", "float32", "astype"),
        True,
    ),
    "forward, b float32": Wrong(
        call_forward,
        {"b": ones(m, dtype=np.float32)},
        TypeError,
        ("b", "float64", "float32", "astype"),
        True,
    ),
    "grad_input, g float32": Wrong(
        call_grad_input,
        {"g": ones(K, m, dtype=np.float32)},
        TypeError,
        ("g", "w", "float64", "float32", "astype"),
        True,
    ),
    "grad_weight, x float32": Wrong(
        call_grad_weight,
        {"x": ones(K, n, dtype=np.float32)},
        TypeError,
        ("g", "x", "float64", "float32", "astype"),
        True,
    ),
    "backward, w float32": Wrong(
        call_backward,
        {"w": ones(m, n, dtype=np.float32)},
        TypeError,
        ("w", "float64", "float32", "astype"),
        True,
    ),
    **{
        f"forward, x {dtype}": Wrong(
            call_forward,
            {"x": ones(K, n, dtype=dtype)},
            TypeError,
            ("x", dtype, "float32", "float64", re.escape("x.astype(w.dtype)")),
            True,
        )
        for dtype in ("int64", "bool", "float16", "uint8")
    },
    "forward, x and w int64": Wrong(
        call_forward,
        {"x": ones(K, n, dtype=np.int64), "w": ones(m, n, dtype=np.int64), "b": None},
        TypeError,
        ("x", "int64", "float32", "float64", re.escape("x.astype(np.float64)")),
        True,
    ),
    "forward, x complex": Wrong(
        call_forward,
        {"x": ones(K, n, dtype=np.complex64)},
        TypeError,
        ("x", "complex64", "float32 or float64: pass x.real and x.imag"),
        True,
    ),
    "forward, x of dates": Wrong(
        call_forward,
        {"x": np.zeros((K, n), "M8[s]")},
        TypeError,
        (r"x has dtype datetime64",),
        True,
    ),
    "forward, x of text": Wrong(
        call_forward, {"x": np.full((K, n), "1.5")}, TypeError, ("x has dtype <U3",), True
    ),
    **(
        {
            "forward, x of StringDType": Wrong(
                call_forward,
                {"x": np.full((K, n), "1.5", np.dtypes.StringDType())},
                TypeError,
                (r"x has dtype StringDType\(\); wanted float32 or float64",),
                njit=False,
            )
        }
        if hasattr(np.dtypes, "StringDType")  # of NumPy 2
        else {}
    ),
    "grad_bias, g int64": Wrong(
        call_grad_bias,
        {"g": ones(K, m, dtype=np.int64)},
        TypeError,
        ("g", "int64", "float32", "float64", "astype"),
        True,
    ),
    "forward, x of objects": Wrong(
        call_forward, {"x": ones(K, n, dtype=object)}, TypeError, ("x", "object"), njit=False
    ),
    "forward, x byte-swapped": Wrong(
        call_forward,
        {"x": ones(K, n).astype(np.dtype(np.float64).newbyteorder())},
        TypeError,
        ("x", "byte order", "astype"),
        njit=False,
    ),
    "grad_bias, g byte-swapped": Wrong(
        call_grad_bias,
        {"g": ones(K, m).astype(np.dtype(np.float64).newbyteorder())},
        TypeError,
        ("g", "byte order", "astype"),
        njit=False,
    ),
}

NOT_ARRAYS = {
    "forward, x a list": Wrong(
        call_forward, {"x": [[1.0] * n]}, TypeError, ("x", "list", r"(nd)?array"), njit=False
    ),
    "forward, x None": Wrong(call_forward, {"x": None}, TypeError, ("x", "None(Type)?"), True),
    "forward, x a number": Wrong(call_forward, {"x": 1.5}, TypeError, ("x", "float(64)?"), True),
    "forward, x an object": Wrong(
        call_forward, {"x": object()}, TypeError, ("x", "object", r"(nd)?array"), njit=False
    ),
    "forward, x masked": Wrong(
        call_forward,
        {"x": np.ma.masked_array(ones(K, n), ones(K, n) > 2)},
        TypeError,
        ("x", r"(?i:masked)\w*"),
        njit=False,
    ),
    "forward, w None": Wrong(call_forward, {"w": None}, TypeError, ("w", "None(Type)?"), True),
    "forward, b a number": Wrong(
        call_forward, {"b": 0.0}, TypeError, ("b", "float(64)?", "without one leave b out"), True
    ),
    "grad_input, g None": Wrong(
        call_grad_input, {"g": None}, TypeError, ("g", "None(Type)?"), True
    ),
    "grad_weight, x None": Wrong(
        call_grad_weight, {"x": None}, TypeError, ("x", "None(Type)?"), True
    ),
    "grad_bias, g None": Wrong(call_grad_bias, {"g": None}, TypeError, ("g", "None(Type)?"), True),
    "backward, w None": Wrong(call_backward, {"w": None}, TypeError, ("w", "None(Type)?"), True),
    "forward, out a list": Wrong(
        call_forward, {"out": [0.0]}, TypeError, ("out", "list"), njit=False
    ),
    "backward, out an array": Wrong(
        call_backward,
        {"out": ones(m, n)},
        TypeError,
        ("out", "Gradients|input.*weight.*bias"),
        True,
    ),
}

REDUCTIONS = {
    **{
        call.__name__: Wrong(
            call, {}, ValueError, ("reduction", "max", "mean", "sum", "none"), True
        )
        for call in (call_grad_weight_max, call_grad_bias_max, call_backward_max)
    },
    "grad_weight, an empty mean": Wrong(
        call_grad_weight, {"g": ones(0, m), "x": ones(0, n)}, ValueError, ("mean", "empty", "sum")
    ),
    "grad_bias, an empty mean": Wrong(
        call_grad_bias, {"g": ones(0, m)}, ValueError, ("mean", "empty", "sum")
    ),
    "grad_bias, an empty mean in 3-d": Wrong(
        call_grad_bias, {"g": ones(3, 0, m)}, ValueError, ("mean", "empty", "sum")
    ),
    "backward, an empty mean": Wrong(
        call_backward,
        {"g": ones(0, m), "x": ones(0, n), "out": Gradients(ones(0, n), ones(m, n), ones(m))},
        ValueError,
        ("mean", "empty", "sum"),
    ),
}


def read_only(a):
    a.flags.writeable = False
    return a


OUT = {
    "forward, shape": Wrong(
        call_forward, {"out": ones(K, 7)}, ValueError, shapes("out", (K, 7), (K, m))
    ),
    "forward, one sample's shape": Wrong(
        call_forward, {"out": ones(m)}, ValueError, ("out",), True
    ),
    "forward, one dimension more": Wrong(
        call_forward, {"out": ones(1, K, m)}, ValueError, ("out",), True
    ),
    "forward, dtype": Wrong(
        call_forward,
        {"out": ones(K, m, dtype=np.float32)},
        ValueError,
        ("out", "float32", "float64"),
        True,
    ),
    "forward, read-only": Wrong(
        call_forward, {"out": read_only(ones(K, m))}, ValueError, ("out", "read.only"), True
    ),
    "grad_input, shape": Wrong(
        call_grad_input, {"out": ones(n, K)}, ValueError, shapes("out", (n, K), (K, n))
    ),
    "grad_input, read-only": Wrong(
        call_grad_input, {"out": read_only(ones(K, n))}, ValueError, ("out", "read.only"), True
    ),
    "grad_weight, shape": Wrong(
        call_grad_weight, {"out": ones(n, m)}, ValueError, shapes("out", (n, m), (m, n))
    ),
    "grad_weight none, shape": Wrong(
        call_grad_weight_none,
        {"out": ones(1, m, n)},
        ValueError,
        shapes("out", (1, m, n), (K, m, n)),
    ),
    "grad_bias, shape": Wrong(
        call_grad_bias, {"out": ones(7)}, ValueError, shapes("out", (7,), (m,))
    ),
    "grad_bias none, shape": Wrong(
        call_grad_bias_none, {"out": ones(m, K)}, ValueError, shapes("out", (m, K), (K, m))
    ),
    "backward, shape of input": Wrong(
        call_backward,
        {"out": Gradients(ones(n, K), ones(m, n), ones(m))},
        ValueError,
        shapes("out", "input", (n, K), (K, n)),
    ),
    "backward, shape of weight": Wrong(
        call_backward,
        {"out": Gradients(ones(K, n), ones(n, m), ones(m))},
        ValueError,
        shapes("out", "weight", (n, m), (m, n)),
    ),
    "backward, shape of bias": Wrong(
        call_backward,
        {"out": Gradients(ones(K, n), ones(m, n), ones(7))},
        ValueError,
        shapes("out", "bias", (7,), (m,)),
    ),
    "backward, dtype of bias": Wrong(
        call_backward,
        {"out": Gradients(ones(K, n), ones(m, n), ones(m, dtype=np.float32))},
        ValueError,
        ("out", "bias", "float32", "float64"),
        True,
    ),
}


def right(call):
    """The arguments of a right call by name, `out` filled with a pattern."""
    names, shape = CALLS[call]
    given = operands(K, n, m, np.float64)
    arguments = {name: getattr(given, name) for name in names}
    if "backward" in call.__name__:
        arguments["out"] = Gradients(*(np.full(each, 12345.0) for each in shape))
    else:
        arguments["out"] = np.full(shape, 12345.0)
    return arguments


def content(out):
    arrays = out if isinstance(out, tuple) else [out]
    return [a.tobytes() if isinstance(a, np.ndarray) else a for a in arrays]


def assert_words(message, words):
    missing = [word for word in words if not re.search(rf"(?<!\w)(?:{word})(?!\w)", message)]
    assert not missing, f"no {missing} in: {message}"


def raised(function, arguments, errors):
    """The error of a call, which must leave `out` unchanged."""
    before = content(arguments["out"])
    with pytest.raises(errors) as info:
        function(*arguments.values())
    assert content(arguments["out"]) == before, "out was written"
    return info.value


def cases(*tables):
    return [pytest.param(wrong, id=name) for table in tables for name, wrong in table.items()]


ALL = cases(SHAPES, DTYPES, NOT_ARRAYS, REDUCTIONS, OUT)


@pytest.mark.parametrize("wrong", ALL)
def test_from_python(wrong):
    error = raised(wrong.call, right(wrong.call) | wrong.change, wrong.error)
    assert_words(str(error), wrong.words)


@pytest.mark.parametrize("wrong", [case for case in ALL if case.values[0].njit])
def test_inside_njit(wrong):
    arguments = right(wrong.call) | wrong.change
    python = raised(wrong.call, arguments, wrong.error)
    if wrong.typed:
        error = raised(COMPILED[wrong.call], arguments, (TypingError, ValueError))
    else:
        error = raised(COMPILED[wrong.call], arguments, wrong.error)
    if not isinstance(error, TypingError):
        assert isinstance(error, wrong.error)
        assert str(error) == str(python)
    elif any("astype" in word for word in wrong.words):
        assert str(python) in str(error)
    else:
        # A type tells the number of dimensions and not the shape, `none` and not `NoneType`.
        assert_words(str(error).lower(), [word.lower() for word in wrong.words])


@njit
def scaled(x, w, b):
    return forward(x * 0.5, w, b)


@njit
def scaled_in_float32(x, w, b):
    return forward(x * np.float32(0.5), w, b)


def test_a_float32_network_stays_one():
    """A float makes Numba's float32 arrays float64: the message asks to cast that array."""
    x, w, b = (ones(*shape, dtype=np.float32) for shape in ((K, n), (m, n), (m,)))
    words = re.escape(
        "x has dtype float64 and w has dtype float32; wanted one dtype for all: cast with"
        " x.astype(w.dtype)"
    )
    why = re.escape("; inside @njit a float such as 0.5 makes a float32 array float64")
    with pytest.raises(TypingError, match=words + why):
        scaled(x, w, b)
    with pytest.raises(TypeError, match=words + "$"):
        forward(x.astype(np.float64), w, b)
    assert scaled_in_float32(x, w, b).dtype == np.float32
    with pytest.raises(TypeError, match=re.escape("cast with b.astype(x.dtype)")):
        forward(x, w, b.astype(np.float64))
    with pytest.raises(TypeError, match=re.escape("cast with g.astype(w.dtype)")):
        grad_input(ones(K, m), w)


def unaligned(*shape):
    """Ones at an odd address."""
    a = np.zeros(8 * math.prod(shape) + 1, np.uint8)[1:].view(np.float64).reshape(shape)
    a[...] = 1
    return a


@pytest.mark.parametrize("dimensions", [5, 6])
def test_arrays_that_numba_takes_for_each_other(dimensions):
    """Numba's cache of types confuses arrays that are not plain and aligned.

    Whichever comes first in a process, the next must not be taken for it. These numbers of
    dimensions are used nowhere else, so both arrays are new to the process.
    """
    shape = (1,) * (dimensions - 1) + (n,)
    w = ones(m, n)

    def right():
        assert (forward(unaligned(*shape), w) == n).all()

    def wrong():
        with pytest.raises(TypeError, match="byte order"):
            forward(unaligned(*shape).byteswap().view(np.dtype(np.float64).newbyteorder()), w)
        with pytest.raises(TypeError, match=r"(?i)masked"):
            forward(np.ma.masked_array(unaligned(*shape), ones(*shape) > 2), w)

    for check in (right, wrong) if dimensions == 5 else (wrong, right):
        check()


@pytest.mark.parametrize("call", [call_forward, call_grad_input, call_grad_weight, call_backward])
def test_out_that_overlaps_an_input(call):
    """Every input against every part of `out`, from Python and from @njit."""
    names, shape = CALLS[call]
    parts = Gradients._fields if call is call_backward else [None]
    for name in names:
        for part in parts:
            wanted = shape if part is None else shape[parts.index(part)]
            arguments = right(call)
            operand = arguments[name]
            # One buffer: the operand, then an out that begins with the operand's last element.
            buffer = np.full(operand.size + 40, 3.0)
            arguments[name] = buffer[: operand.size].reshape(operand.shape)
            start = operand.size - 1
            out = buffer[start : start + int(np.prod(wanted))].reshape(wanted)
            if part is None:
                arguments["out"] = out
            else:
                arguments["out"] = arguments["out"]._replace(**{part: out})
            python = raised(call, arguments, ValueError)
            assert_words(str(python), ("out", name, r"overlap\w*"))
            compiled = raised(COMPILED[call], arguments, ValueError)
            assert str(compiled) == str(python)


def test_parts_of_out_that_overlap_each_other():
    arguments = right(call_backward)
    buffer = np.zeros(m * n + m)
    arguments["out"] = arguments["out"]._replace(
        weight=buffer[: m * n].reshape(m, n), bias=buffer[m * n - 1 : m * n + m - 1]
    )
    python = raised(call_backward, arguments, ValueError)
    assert_words(str(python), ("out", "weight", "bias", r"overlap\w*"))
    assert str(raised(COMPILED[call_backward], arguments, ValueError)) == str(python)


def test_out_beside_an_input_is_no_overlap():
    """Interleaved and neighbouring arrays share a buffer but no element's span."""
    given = operands(K, n, m, np.float64)
    buffer = np.zeros(K * n + K * m)
    x, y = buffer[: K * n].reshape(K, n), buffer[K * n :].reshape(K, m)
    x[...] = given.x
    assert forward(x, given.w, given.b, y) is y
    np.testing.assert_array_equal(y, forward(given.x, given.w, given.b))


def test_empty_out_overlaps_nothing():
    x = np.ones((0, n))
    given = operands(K, n, m, np.float64)
    assert forward(x, given.w, given.b, np.empty((0, m))).shape == (0, m)


@pytest.mark.parametrize("wrong", ["max", "", "Mean", "mean "])
def test_a_reduction_named_at_run_time(wrong):
    arguments = right(call_grad_weight)
    arguments = {
        "g": arguments["g"],
        "x": arguments["x"],
        "reduction": wrong,
        "out": arguments["out"],
    }
    python = raised(call_grad_weight_named, arguments, ValueError)
    assert_words(str(python), ("reduction", "mean", "sum", "none"))
    assert str(raised(njit(call_grad_weight_named), arguments, ValueError)) == str(python)


@pytest.mark.parametrize("reduction", [None, 1, b"mean", ["mean"]], ids=repr)
def test_a_reduction_that_is_no_string(reduction):
    given = operands(K, n, m, np.float64)
    with pytest.raises((TypeError, ValueError)) as info:
        grad_weight(given.g, given.x, reduction)
    assert_words(str(info.value), ("reduction", "mean", "sum", "none"))


@pytest.mark.parametrize(
    ("reduction", "words"), [(None, "None"), (1, "of type int64"), (b"mean", "of type .*bytes.*")]
)
def test_a_reduction_that_is_no_string_inside_njit(reduction, words):
    """Numba calls the type of None `none`, which is not the reduction."""
    arguments = right(call_grad_weight)
    compiled = njit(call_grad_weight_named)
    for out in (None, arguments["out"]):
        with pytest.raises(TypingError, match=f"reduction is {words}; wanted one of 'mean'"):
            compiled(arguments["g"], arguments["x"], reduction, out)


@njit
def with_flag(x, w, parallel):
    return forward(x, w, parallel=parallel)


def test_a_flag_that_is_none_inside_njit():
    with pytest.raises(TypingError, match="parallel is of type int64; wanted None, True or False"):
        with_flag(ones(K, n), ones(m, n), 1)


# --------------------------------------------------------------------------------------
# What an error is
# --------------------------------------------------------------------------------------


def copies(error):
    """The error after copying and pickling, in each of Python's ways."""
    yield copy.copy(error)
    yield copy.deepcopy(error)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield pickle.loads(pickle.dumps(error, protocol))


def assert_same_elsewhere(error):
    for other in copies(error):
        assert type(other) is type(error)
        assert (str(other), other.args) == (str(error), error.args)


@pytest.mark.parametrize("wrong", ALL)
def test_an_error_can_leave_its_process(wrong):
    arguments = right(wrong.call) | wrong.change
    assert_same_elsewhere(raised(wrong.call, arguments, wrong.error))
    if wrong.njit:
        errors = (TypingError, wrong.error)
        assert_same_elsewhere(raised(COMPILED[wrong.call], arguments, errors))


@pytest.mark.parametrize("kind", [CudaUnavailableError, UserError])
def test_errors_of_a_class_of_their_own_can_leave_their_process(kind):
    assert_same_elsewhere(kind("what is missing"))


def test_no_error_is_of_an_undocumented_class():
    """At run time it is what the call from Python raises, even while another is handled."""
    x, w = ones(K, n), ones(m, n + 1)
    arguments = right(call_grad_weight) | {"reduction": "max"}
    order = ("g", "x", "reduction", "out")
    named = njit(call_grad_weight_named)
    for call in (
        lambda: COMPILED[call_forward](x, w, None, None),
        lambda: named(*(arguments[name] for name in order)),
    ):
        with pytest.raises(ValueError) as alone:
            call()
        try:
            raise KeyError("another")
        except KeyError as another:
            with pytest.raises(ValueError) as inside:
                call()
            assert inside.value.__context__ is another
        for info in (alone, inside):
            assert type(info.value) is ValueError
            assert str(info.value) == str(alone.value)


def test_the_first_call_after_an_error_is_right():
    given = operands(K, n, m, np.float64)
    for x in (ones(K, 7), ones(K, n, dtype=np.int64)):
        with pytest.raises((TypeError, ValueError)):
            forward(x, given.w)
    assert forward(given.x, given.w).shape == (K, m)


def test_nothing_is_cast_silently():
    given = SimpleNamespace(x=ones(K, n, dtype=np.float32), w=ones(m, n, dtype=np.float32))
    assert forward(given.x, given.w).dtype == np.float32
    with pytest.raises(TypeError):
        forward(given.x, given.w, ones(m))


@njit
def called(function, x, w):
    return function(x, w)


@njit
def wrapped(x, w):
    return forward(x, w)


def test_a_call_is_wrapped_to_be_passed():
    """As the page on @njit shows; impossible calls get Numba's own errors."""
    x, w = ones(K, n), ones(m, n)
    assert (called(wrapped, x, w) == forward(x, w)).all()
    with pytest.raises(
        UnsupportedBytecodeError, match="Exception object cannot be stored into variable"
    ):
        njit(forward)(x, w)
    with pytest.raises(TypingError, match="non-precise type pyobject"):
        called(forward, x, w)


def rows(x, w, y):
    for k in prange(len(x)):
        forward(x[k], w[k], out=y[k])


def test_errors_inside_prange():
    """Numba does not raise it as it was, but a wrong call still writes nothing."""
    compiled = njit(parallel=True)(rows)
    x, w, y = ones(8, n), ones(8, m, n), np.zeros((8, m))
    compiled(x, w, y)
    assert (y == n).all()
    y[:] = 7
    try:
        compiled(x, ones(8, m, n - 1), y)
    except SystemError as error:
        assert type(error.__cause__) is ValueError
        assert str(error.__cause__).startswith("forward: x has shape")
    except ValueError as error:  # some Numbas do raise it
        assert str(error).startswith("forward: x has shape")
    assert (y == 7).all()
    with pytest.raises(TypingError, match="forward: w has 1 dimension; wanted"):
        compiled(x, ones(8, n), y)

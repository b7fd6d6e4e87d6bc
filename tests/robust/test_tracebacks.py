"""A wrong call is shown as the caller's: the traceback's last line is the caller's own."""

import traceback
from pathlib import Path

import numpy as np
import pytest
import test_errors
from numba import njit
from numba.core.errors import TypingError
from test_errors import ALL, COMPILED, right

import numba_linear
from numba_linear import backward, forward, grad_weight

PACKAGE = str(Path(numba_linear.__file__).parent)


def caught(function, arguments):
    with pytest.raises((TypeError, ValueError, TypingError)) as info:
        function(*arguments.values())
    return info.value


@pytest.mark.parametrize("wrong", ALL)
def test_from_python(wrong):
    error = caught(wrong.call, right(wrong.call) | wrong.change)
    frames = traceback.extract_tb(error.__traceback__)
    assert frames[-1].filename == test_errors.__file__
    assert frames[-1].name == wrong.call.__name__
    assert error.__cause__ is None and error.__context__ is None
    assert "\n" not in str(error)


@pytest.mark.parametrize("wrong", [case for case in ALL if case.values[0].njit])
def test_inside_njit(wrong):
    """At run time Numba shows the package's raising line instead of the caller's.

    At compile time it shows the caller's line.
    """
    error = caught(COMPILED[wrong.call], right(wrong.call) | wrong.change)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(PACKAGE)]
    text = str(error)
    if isinstance(error, TypingError):
        assert not own
        assert len(text.splitlines()) < 40
        operation = wrong.call.__name__.removeprefix("call_").removesuffix("_max")
        operation = operation.removesuffix("_none")
        words = [line for line in text.splitlines() if f"Error: {operation}: " in line]
        assert words, text
        line = wrong.call.__code__.co_firstlineno + 1
        assert f'test_errors.py", line {line}:' in text
        assert "numba_linear/cpu" not in text and "entry.py" not in text
    else:
        assert "\n" not in text
        assert len(own) == 1
    assert error.__cause__ is None


@pytest.mark.parametrize("parallel", [[], "yes", np.array([1, 2]), object()])
def test_no_flag(parallel):
    x = np.ones((2, 2))
    with pytest.raises(TypeError, match=r"parallel is .*; wanted None, True or False"):
        forward(x, x, parallel=parallel)


@pytest.mark.parametrize("reduction", [None, 1, ["sum"], np.array(["sum", "mean"]), b"sum"])
def test_no_reduction(reduction):
    x = np.ones((2, 2))
    for call in (lambda: grad_weight(x, x, reduction), lambda: backward(x, x, x, reduction)):
        with pytest.raises(ValueError, match="wanted one of 'mean', 'sum', 'none'"):
            call()


@njit
def overlapping(x, w):
    return forward(x, w, out=x)


def test_an_overlap():
    x = np.ones((3, 3))
    errors = []
    for call in (lambda: forward(x, x, out=x), lambda: overlapping(x, np.ones((3, 3)))):
        with pytest.raises(ValueError, match="forward: out overlaps x in memory") as info:
            call()
        errors.append(str(info.value))
    assert errors[0] == errors[1]
    assert (x == 1).all()

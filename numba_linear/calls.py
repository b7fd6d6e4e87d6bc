"""What runs the calls from Python: compiled code, or what stands in where Numba has none to give.

A stand-in takes what the compiled call takes. It serves as long as the setting that it is for, and
then gives way: the KeyError that it raises is the one of a call that was never compiled.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import config, types

from numba_linear.operand import Operand

Call = Callable[..., int]
Calls = dict[np.dtype[Any], Call]


def call_of(run: Any, kind: types.Type, calls: Calls) -> Call:
    """A call of `entry` for a dtype, to be kept in the table `calls`."""
    return interpreted_call(run, calls) if interprets() else run.resident.entry(Operand(kind))


def interprets() -> bool:
    """Whether Numba is told not to compile, and was when the equations were imported.

    Else they are compiled functions, and the calls are such too.
    """
    if not config.DISABLE_JIT:
        return False
    from numba_linear import equations  # by its first user, for they define much

    return not hasattr(equations.contract, "py_func")


def interpreted_call(run: Any, calls: Calls) -> Call:
    """The call by the equations, as long as Numba is told not to compile."""
    from numba_linear import interpreted

    by_equations = getattr(interpreted, run.__name__)

    def call(first: Any, *others: Any) -> int:
        if interprets():
            return by_equations(first, *others)
        calls.pop(first.dtype, None)
        raise KeyError(first.dtype)

    return call

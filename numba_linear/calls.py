"""What runs the calls from Python: compiled code, or its replacement if Numba does not compile.

A replacement takes the same arguments. Once `DISABLE_JIT` no longer holds, it removes itself and
raises the KeyError of a call that was never compiled.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import config, types

from numba_linear.operand import Operand

Call = Callable[..., int]
Calls = dict[np.dtype[Any], Call]


def call_of(run: Any, kind: types.Type, calls: Calls) -> Call:
    """A call of `entry` for a dtype; the caller keeps it in the table `calls`."""
    return interpreted_call(run, calls) if interprets() else run.resident.entry(Operand(kind))


def interprets() -> bool:
    """Whether Numba is told not to compile, and was so when the equations were imported.

    Otherwise the equations are compiled functions, and so are the calls.
    """
    if not config.DISABLE_JIT:
        return False
    from numba_linear import equations  # only when needed: it defines much

    return not hasattr(equations.contract, "py_func")


def interpreted_call(run: Any, calls: Calls) -> Call:
    """The call by the equations, for as long as Numba is told not to compile."""
    from numba_linear import interpreted

    by_equations = getattr(interpreted, run.__name__)

    def call(first: Any, *others: Any) -> int:
        if interprets():
            return by_equations(first, *others)
        calls.pop(first.dtype, None)
        raise KeyError(first.dtype)

    return call

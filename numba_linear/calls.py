"""What runs the calls from Python: compiled code, or what stands in where Numba has none to give.

A stand-in takes what the compiled call takes. It serves as long as the setting that it is for, and
then gives way: the KeyError that it raises is the one of a call that was never compiled.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import config, types
from numba.core.compiler_lock import global_compiler_lock

from numba_linear.checks import NO_THREADS
from numba_linear.cpu.launch import missing_threads
from numba_linear.cpu.parallel import PARALLEL, SERIAL
from numba_linear.operand import Operand

Call = Callable[..., int]
Calls = dict[np.dtype[Any], Call]


def call_alone(run: Any, kind: types.Type, calls: Calls) -> Call:
    """A call of `entry` on the caller's thread, for the table `calls`."""
    if interprets():
        return interpreted_call(run, calls)
    return compiled(run, Operand(kind))


def call_on_threads(run: Any, kind: types.Type, alone: Calls, calls: Calls) -> Call:
    """The same with threads, beside the one without in the table `alone`."""
    if interprets():
        return interpreted_call(run, calls)
    if missing_threads():
        return call_without_threads(alone, calls)
    return compiled(run, Operand(kind, threads=True))


def interprets() -> bool:
    """Whether Numba is told not to compile, and was when the equations were imported.

    Else they are compiled functions, and the calls are such too.
    """
    if not config.DISABLE_JIT:
        return False
    from numba_linear import equations  # by its first user, for they define much

    return not hasattr(equations.contract, "py_func")


def compiled(run: Any, first: Operand) -> Call:
    """Compiled code; while it is told not to compile, Numba would fail half way."""
    with global_compiler_lock:
        told, config.DISABLE_JIT = config.DISABLE_JIT, 0
        try:
            return run.resident.entry(first)
        finally:
            config.DISABLE_JIT = told


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


def call_without_threads(alone: Calls, calls: Calls) -> Call:
    """The call on the caller's thread, as long as Numba is told of threads that it can not start.

    Where threads are demanded it returns NO_THREADS.
    """
    layer = config.THREADING_LAYER

    def call(first: Any, *others: Any) -> int:
        *operands, mode = others
        if config.THREADING_LAYER != layer:
            calls.pop(first.dtype, None)
            raise KeyError(first.dtype)
        return (
            NO_THREADS if mode & PARALLEL else alone[first.dtype](first, *operands, mode | SERIAL)
        )

    return call

"""The one entry to the engine: it runs a contraction by its plan."""

from numba_linear.codes import FINE, PARALLEL, SERIAL, WANTS_THREADS
from numba_linear.cpu.contract import contract_alone
from numba_linear.cpu.plan import LARGE, MANY, STRIDED, path_of, small_path, threads_pay
from numba_linear.cpu.problem import Problem
from numba_linear.cpu.small import contract_small
from numba_linear.cpu.strided import contract_strided
from numba_linear.cpu.threads import NO_LAYER, call_on_threads, on_threads
from numba_linear.cpu.tuning import LAUNCH
from numba_linear.jit.compiler import inlined
from numba_linear.jit.resident import resident


@resident
def contract(tiling, problem: Problem, mode) -> int:
    """C from A and B of any strides: FINE, MEMORY, or WANTS_THREADS with nothing written.

    `mode` is AUTO, SERIAL or PARALLEL.
    """
    if problem.rows == 0 or problem.cols == 0:
        return FINE
    path = path_of(tiling, problem)
    if path < LARGE:
        contract_small(tiling, problem, path)
        return FINE
    if path == STRIDED:
        return contract_strided(tiling, problem)
    if mode == PARALLEL or (mode != SERIAL and threads_pay(tiling, problem, MANY, LAUNCH)):
        address = on_threads(tiling)
        if address == 0 or (address == NO_LAYER and mode == PARALLEL):
            return WANTS_THREADS
        if address != NO_LAYER:
            return call_on_threads(address, tiling, problem, mode)
    return contract_alone(tiling, problem)


@inlined
def contract_at_once(tiling, problem, mode):
    """The same, with the choice of the small path inlined at the call."""
    path = small_path(tiling, problem)
    if path < LARGE:
        contract_small(tiling, problem, path)
        return FINE
    return contract(tiling, problem, mode)

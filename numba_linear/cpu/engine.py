"""The one entry to the engine: it runs a contraction by its plan."""

from numba_linear.codes import FINE
from numba_linear.cpu.contract import contract_alone
from numba_linear.cpu.machine import tiling_for
from numba_linear.cpu.plan import LARGE, STRIDED, path_of, small_path
from numba_linear.cpu.problem import Problem
from numba_linear.cpu.small import contract_small
from numba_linear.cpu.strided import contract_strided
from numba_linear.cpu.threads import contract_on_threads, tries_threads
from numba_linear.jit.compiler import inlined
from numba_linear.jit.resident import resident


@resident(late=tiling_for)
def contract(tiling, problem: Problem, mode) -> int:
    """C from A and B of any strides: FINE, MEMORY, or a code from WANTS on.

    `mode` is AUTO, SERIAL or PARALLEL.
    """
    if problem.rows == 0 or problem.cols == 0:
        return FINE
    path = path_of(tiling, problem)
    if path < LARGE:
        return contract_small(tiling, problem, path)
    if path == STRIDED:
        return contract_strided(tiling, problem)
    if tries_threads(tiling, problem, mode):
        return contract_on_threads(tiling, problem, mode)
    return contract_alone(tiling, problem)


@inlined
def contract_at_once(tiling, problem, mode):
    """The same, with the choice of the small path inlined at the call."""
    path = small_path(tiling, problem)
    if path < LARGE:
        return contract_small(tiling, problem, path)
    return contract(tiling, problem, mode)

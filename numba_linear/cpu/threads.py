"""The contraction on several threads.

The code is late: the first call that wants threads compiles it and starts Numba's threading layer.
"""

from numba import types

from numba_linear.codes import AUTO, PARALLEL
from numba_linear.cpu.contract import contract_alone
from numba_linear.cpu.launch import for_one, lock_threads, no_layer, unlock_threads
from numba_linear.cpu.machine import tiling_for
from numba_linear.cpu.parts import contract_parts
from numba_linear.cpu.plan import MANY, parts_for, splits_k, threads_pay
from numba_linear.cpu.problem import Problem
from numba_linear.cpu.split_k import contract_split_k
from numba_linear.cpu.tuning import LAUNCH, WORKQUEUE_LAUNCH
from numba_linear.jit.compiler import inlined
from numba_linear.jit.resident import resident

# `numba.get_num_threads` as the symbol that Numba's own parallel code calls. Unlike the function,
# it lets the caller be cached. It resolves because `launch` is compiled or loaded first.
num_threads = types.ExternalFunction("get_num_threads", types.intc())


@inlined
def tries_threads(tiling, problem, mode):
    """Whether a call asks for threads: it must, or there may be as many as save most."""
    if mode == AUTO:
        return threads_pay(tiling, problem, MANY, LAUNCH) and not no_layer()
    return mode == PARALLEL


@inlined
def threads_for(tiling, problem, mode):
    """As many threads as pay, or all. If these are several, the caller holds the lock."""
    threads = num_threads()
    if mode == AUTO:
        launch = WORKQUEUE_LAUNCH if for_one() else LAUNCH
        if not threads_pay(tiling, problem, threads, launch):
            threads = 1
    if threads == 1 or not lock_threads():
        return 1
    return threads


@resident(late=tiling_for, threads=True)
def contract_on_threads(tiling, problem: Problem, mode) -> int:
    """C, whose rows and bias are contiguous, on as many threads as pay, or on all."""
    threads = threads_for(tiling, problem, mode)
    if threads == 1:
        return contract_alone(tiling, problem)
    if splits_k(tiling, problem, threads):
        failed = contract_split_k(tiling, problem, threads)
    else:
        failed = contract_parts(tiling, problem, parts_for(tiling, problem, threads))
    unlock_threads()
    return failed

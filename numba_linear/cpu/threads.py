"""The contraction on several threads.

The engine does not contain this. It has an address for each dtype, `ON_THREADS`, which is 0 until
the first call that wants threads: then the code is compiled and Numba's threading layer started.
"""

from numba import types
from numba.extending import intrinsic

from numba_linear.codes import AUTO
from numba_linear.cpu.contract import contract_alone
from numba_linear.cpu.launch import for_one, lock_threads, missing_threads, unlock_threads
from numba_linear.cpu.machine import tiling_for
from numba_linear.cpu.parts import contract_parts
from numba_linear.cpu.plan import parts_for, splits_k, threads_pay
from numba_linear.cpu.problem import Problem
from numba_linear.cpu.split_k import contract_split_k
from numba_linear.cpu.tuning import LAUNCH, WORKQUEUE_LAUNCH
from numba_linear.jit.resident import Needed, call_address, resident
from numba_linear.jit.words import new_word, word_of

# `numba.get_num_threads` as the symbol that Numba's own parallel code calls: unlike the function,
# it lets the caller be cached. `launch`, compiled or loaded first, makes it resolve.
num_threads = types.ExternalFunction("get_num_threads", types.intc())


#: In the place of an address where Numba can start no threads.
NO_LAYER = 1

SYMBOL = "numba_linear.on_threads."
ON_THREADS = {kind: new_word(f"{SYMBOL}{kind}", 0) for kind in (types.float32, types.float64)}


def has_code(tiling, address):
    ON_THREADS[tiling.dtype].value = address


@resident(ready=has_code)
def contract_on_threads(tiling, problem: Problem, mode) -> int:
    """C, whose rows and bias are contiguous, on as many threads as pay, or on all."""
    threads = num_threads()
    if mode == AUTO:
        launch = WORKQUEUE_LAUNCH if for_one() else LAUNCH
        if not threads_pay(tiling, problem, threads, launch):
            threads = 1
    if threads == 1 or not lock_threads():
        return contract_alone(tiling, problem)
    if splits_k(tiling, problem, threads):
        failed = contract_split_k(tiling, problem, threads)
    else:
        failed = contract_parts(tiling, problem, parts_for(tiling, problem, threads))
    unlock_threads()
    return failed


call_on_threads = call_address(contract_on_threads)


@intrinsic
def on_threads(typingctx, tiling):
    """The address of `contract_on_threads` for the tiling, 0 without one, or NO_LAYER."""

    def codegen(context, builder, sig, args):
        return builder.load(word_of(builder, f"{SYMBOL}{tiling.dtype}"))

    return types.intp(tiling), codegen


def enable_threads(kind):
    """Make code for threads ready; why there can be none, "" where there is."""
    reason = missing_threads()
    if reason:
        ON_THREADS[kind].value = NO_LAYER
    else:
        contract_on_threads.resident.load(tiling_for(kind))
    return reason


def needs_threads(kind):
    """A constant of compiled code: to read it from a cache makes code for threads ready."""
    return Needed(contract_on_threads.resident.name, tiling_for(kind))

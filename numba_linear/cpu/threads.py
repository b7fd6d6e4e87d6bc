"""The contraction on several threads.

The engine does not contain this code, only its address for each dtype, `ON_THREADS`. It is 0 until
the first call that wants threads, which compiles the code and starts Numba's threading layer.
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
from numba_linear.jit.compiler import inlined
from numba_linear.jit.resident import Needed, call_address, resident
from numba_linear.jit.words import new_word, word_of

# `numba.get_num_threads` as the symbol that Numba's own parallel code calls. Unlike the function,
# it lets the caller be cached. It resolves because `launch` is compiled or loaded first.
num_threads = types.ExternalFunction("get_num_threads", types.intc())


#: Stands in for an address if Numba can start no threads.
NO_LAYER = 1


class Words:
    """An address for each dtype, which compiled code finds by name."""

    def __init__(self, name):
        self.symbol = symbol = f"numba_linear.{name}."
        kinds = types.float32, types.float64
        self.words = {kind: new_word(f"{symbol}{kind}", 0) for kind in kinds}

        @intrinsic
        def address(typingctx, tiling):
            def codegen(context, builder, sig, args):
                return builder.load(word_of(builder, f"{symbol}{tiling.dtype}"))

            return types.intp(tiling), codegen

        #: An operation: the address for a tiling, 0 if there is none yet, or NO_LAYER.
        self.address = address

    def has_code(self, tiling, address):
        self.words[tiling.dtype].value = address


ON_THREADS = Words("on_threads")
on_threads = ON_THREADS.address


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


@resident(ready=ON_THREADS.has_code)
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


call_on_threads = call_address(contract_on_threads)


def enable_threads(kind, words=ON_THREADS, function=contract_on_threads):
    """Load the code for threads; "" or why there can be none."""
    reason = missing_threads()
    if reason:
        words.words[kind].value = NO_LAYER
    else:
        function.resident.load(tiling_for(kind))
    return reason


def needs_threads(kind, function=contract_on_threads):
    """A constant for compiled code: reading it from a cache loads the code for threads first."""
    return Needed(function.resident.name, tiling_for(kind))

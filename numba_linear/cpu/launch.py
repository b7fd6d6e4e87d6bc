"""Whether a call may start threads now. If not, it runs on its own thread, to the same bits.

One call at a time has the threads: the holder of a token. The others would find the cores busy,
and OpenMP would start a team of threads for each. In a child forked after Numba's threading layer
was started a launch could end the process, so there nobody ever gets the token.

Two threads must not enter the layer "workqueue" at once (numba#8563, #9288). With that layer the
token goes only to a thread that is Python's only one: while it runs compiled code Python cannot
start another, and Python does not know the layer's own threads, on which a prange runs.
"""

import functools
import logging
import os
import time
from pathlib import Path

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from numba_linear.jit.compiler import inlined
from numba_linear.jit.private import compiler_lock
from numba_linear.jit.words import new_word, word_of

FREE, HELD = 0, 1
#: Held until the first code for threads has started the layer.
TOKEN = new_word("numba_linear.token", HELD)
#: Not 0 once Numba failed to start a layer.
NO_LAYER = new_word("numba_linear.no_layer", 0)
#: Not 0 if only a thread that is Python's only one may enter the layer.
FOR_ONE = new_word("numba_linear.for_one", 0)


def layer():
    """Numba's threading layer, None before it is started."""
    try:
        return numba.threading_layer()
    except ValueError:
        return None


def missing_threads():
    """Why Numba can start no threads; "" if it can, and then they are started."""
    reason = ""
    try:
        numba.get_num_threads()
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
    NO_LAYER.value = bool(reason)
    return reason


def younger_than_python():
    """Whether this process began after `logging` was loaded, and so by a fork."""
    try:  # a process's name may be any bytes
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (AttributeError, IndexError, OSError, ValueError):
        return False  # not Linux: only there does a launch in a forked child end it
    # not `makeLogRecord`, which calls a factory that the program may have replaced
    return age < logging.LogRecord("", 0, "", 0, "", (), None).relativeCreated / 1000


#: Whether this process was forked from one that had started the layer. If we cannot tell which
#: came first, the fork or the layer, we assume that the layer did.
forked = layer() is not None and younger_than_python()


def after_fork():
    global forked
    if layer() is not None:
        forked, TOKEN.value = True, HELD


if hasattr(os, "register_at_fork"):
    # A fork waits while another thread compiles: the child would wait for ever for the lock.
    os.register_at_fork(
        before=compiler_lock.acquire,
        after_in_parent=compiler_lock.release,
        after_in_child=compiler_lock.release,
    )
    os.register_at_fork(after_in_child=after_fork)


@functools.cache
def start_layer(*_):
    """Called once there is code for threads, and so a layer."""
    FOR_ONE.value = layer() == "workqueue"
    if not forked:
        TOKEN.value = FREE


this_thread = types.ExternalFunction("PyGILState_GetThisThreadState", types.uintp())
interpreter = types.ExternalFunction("PyInterpreterState_Main", types.uintp())
newest_thread = types.ExternalFunction("PyInterpreterState_ThreadHead", types.uintp(types.uintp))
older_thread = types.ExternalFunction("PyThreadState_Next", types.uintp(types.uintp))


@inlined
def only_thread():
    """Whether Python knows the caller's thread and no other.

    This needs no GIL, since it follows only the caller's own pointer.
    """
    thread = this_thread()
    return thread != 0 and newest_thread(interpreter()) == thread and older_thread(thread) == 0


def flag(symbol):
    """An operation: whether the word of that name is not 0."""

    def codegen(context, builder, sig, args):
        word = builder.load(word_of(builder, symbol))
        return builder.icmp_unsigned("!=", word, ir.Constant(word.type, 0))

    return intrinsic(lambda typingctx: (types.boolean(), codegen))


for_one, no_layer = flag("numba_linear.for_one"), flag("numba_linear.no_layer")


@intrinsic
def exchange(typingctx):
    """Take the token: whether it was free."""

    def codegen(context, builder, sig, args):
        held = ir.Constant(ir.IntType(64), HELD)
        token = word_of(builder, "numba_linear.token")
        was = builder.atomic_rmw("xchg", token, held, "acquire")
        return builder.icmp_unsigned("==", was, ir.Constant(was.type, FREE))

    return types.boolean(), codegen


@inlined
def lock_threads():
    """Whether the caller now holds the token, which it must give back."""
    return (not for_one() or only_thread()) and exchange()


@intrinsic
def unlock_threads(typingctx):
    def codegen(context, builder, sig, args):
        free = ir.Constant(ir.IntType(64), FREE)
        builder.store_atomic(free, word_of(builder, "numba_linear.token"), "release", 8)
        return context.get_dummy_value()

    return types.void(), codegen

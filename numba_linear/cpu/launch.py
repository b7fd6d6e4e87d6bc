"""Whether a call may start threads now. Where it may not it runs on its own, to the same bits.

Of all calls that want threads at once one has them, the holder of a token: the others find the
cores busy, and OpenMP would start a team of threads for each. The token is held for good where a
launch could end the process: in a child forked after Numba's threading layer was started, and on
the layer "workqueue" (numba#8563, #9288), which must not be entered twice at once by whomever.
There only a call from Python has it, while its thread is the only one that Python knows.
"""

import ctypes
import functools
import os
import sys

import numba
from llvmlite import binding, ir
from numba import types
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic

FREE, HELD = 0, 1
TOKEN = ctypes.c_int64(HELD)  # until the first code for threads has started the layer
SYMBOL = "numba_linear.token"
binding.add_symbol(SYMBOL, ctypes.addressof(TOKEN))

#: Whether this process was forked from one that had started the layer.
forked = False


def layer():
    """Numba's threading layer, None before it is started."""
    try:
        return numba.threading_layer()
    except ValueError:
        return None


def after_fork():
    global forked
    if layer() is not None:
        forked, TOKEN.value = True, HELD


if hasattr(os, "register_at_fork"):
    # A fork waits for what another thread compiles: its child would wait for ever.
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )
    os.register_at_fork(after_in_child=after_fork)


@functools.cache
def started():
    """To be called once there is code for threads, and so a layer."""
    if not forked and layer() != "workqueue":
        TOKEN.value = FREE


def from_python(call):
    """A compiled function for threads as Python may call it."""
    if layer() != "workqueue":
        return call

    def guarded(*arguments):
        if not forked and len(sys._current_frames()) == 1:
            TOKEN.value = FREE
        try:
            return call(*arguments)
        finally:
            TOKEN.value = HELD

    return guarded


def _token(builder):
    try:
        return builder.module.get_global(SYMBOL)
    except KeyError:
        return ir.GlobalVariable(builder.module, ir.IntType(64), SYMBOL)


@intrinsic
def take(typingctx):
    """Whether the caller holds the token now; then it gives it back."""

    def codegen(context, builder, sig, args):
        held = ir.Constant(ir.IntType(64), HELD)
        was = builder.atomic_rmw("xchg", _token(builder), held, "acquire")
        return builder.icmp_unsigned("==", was, ir.Constant(was.type, FREE))

    return types.boolean(), codegen


@intrinsic
def give(typingctx):
    def codegen(context, builder, sig, args):
        free = ir.Constant(ir.IntType(64), FREE)
        builder.store_atomic(free, _token(builder), "release", 8)
        return context.get_dummy_value()

    return types.void(), codegen

"""All undocumented parts of Numba that the package uses.

If a later Numba lacks one, the package does without it: functions compile by Numba's own pipeline,
which takes longer, to the same bits, and `info` says so. There is no substitute for how Numba
calls code and counts references: those functions stand last.
"""

import contextlib
import functools
import threading
from typing import Any

import numpy as np
from llvmlite import binding
from numba import config, types

#: What is missing, and why.
MISSING: dict[str, str] = {}

Compiler: Any = None
InlinedCompiler: Any = None
Cache: Any = None


@contextlib.contextmanager
def optional(name):
    """Note in `MISSING` what fails to import here."""
    try:
        yield
    except (ImportError, AttributeError, TypeError) as error:
        MISSING[name] = " ".join(str(error).split())


#: Held while Numba compiles.
compiler_lock: Any = threading.RLock()
with optional("compiler lock"):
    from numba.core import compiler_lock as locks

    compiler_lock = locks.global_compiler_lock
with optional("pipeline"):
    from numba_linear.jit import pipeline as passes

    Compiler, InlinedCompiler = passes.Compiler, passes.InlinedCompiler
with optional("cache"):
    from numba_linear.jit import cache

    Cache = cache.Cache
cpu_target: Any = None
with optional("target"):
    from numba.core import registry

    cpu_target = registry.cpu_target


@functools.cache
def empty_nd():
    """Numba's function that makes an array in compiled code, or None; imported when needed."""
    with optional("empty arrays"):
        from numba.np import arrayobj

        return arrayobj._empty_nd_impl
    return None


def target():
    """What Numba compiles for: LLVM's triple, and the processor's features."""
    with optional("target"):
        triple, _, features = cpu_target.target_context.codegen().magic_tuple()
        return triple, set(features.split(","))
    features = config.CPU_FEATURES
    if features is None:
        features = binding.get_host_cpu_features().flatten()
    return binding.get_process_triple(), set(features.split(","))


def new_array(context, builder, type_, shape):
    """A new array, its numbers undefined. A call of `np.empty` takes 50 ms more to compile."""
    empty = empty_nd()
    if empty is not None:
        return empty(context, builder, type_, shape)._getvalue()
    dtype, tuple_type = type_.dtype, types.UniTuple(types.intp, type_.ndim)
    return context.compile_internal(
        builder,
        lambda shape: np.empty(shape, dtype),
        type_(tuple_type),
        [context.make_tuple(builder, tuple_type, shape)],
    )


def keep(context, builder, *constants):
    """Make constants part of the code being built: reading it from a cache unpickles them first.

    If that is not possible, keep Numba from caching it.
    """
    with optional("constants"):
        context.environment.consts.extend(constants)
        return
    context.add_dynamic_addr(builder, 0, "numba_linear")


def pipeline():
    """How the engine is compiled, for `info`."""
    empty_nd()
    if not MISSING:
        return "the passes that it needs"
    missing = ", ".join(f"{name} ({why})" for name, why in MISSING.items())
    by = "Numba's own pipeline" if Compiler is None else "the passes that it needs"
    return f"{by}; this Numba lacks: {missing}"


def code_of(dispatcher, args):
    """The address of the code for arguments of these types."""
    compiled = dispatcher.overloads[args]
    return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)


def link(context, dispatcher, args):
    """The symbol of the code for arguments of these types, whose bitcode the caller now links."""
    compiled = dispatcher.overloads[args]
    context.add_linking_libs([compiled.library])
    return compiled.fndesc.llvm_func_name


def code_type(context, signature):
    """LLVM's type of the code for a signature."""
    return context.call_conv.get_function_type(signature.return_type, signature.args)


def call_code(context, builder, code, signature, args):
    """The status and the result of a call of code."""
    return context.call_conv.call_function(
        builder, code, signature.return_type, signature.args, args
    )


def count_reference(context, builder, type_, value):
    """Count one more reference to an array."""
    context.nrt.incref(builder, type_, value)

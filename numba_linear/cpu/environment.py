"""The floating-point environment: bits are those of the default one, whatever the caller set.

Another rounding mode, or subnormals flushed to 0 (PyTorch's `set_flush_denormal` does so for the
calling thread), would change bits on some threads only. So the layer computes in the default
environment and restores the caller's. Checking it takes no measurable time.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numba_linear.jit.words import slot_of, slot_with

#: By LLVM's name of the processor: the control register's width, the intrinsics that read and
#: write it, and its bits for rounding and subnormals, which are 0 by default.
REGISTERS = {
    "x86_64": (32, "llvm.x86.sse.stmxcsr", "llvm.x86.sse.ldmxcsr", 0xE040),
    "aarch64": (64, "llvm.aarch64.get.fpcr", "llvm.aarch64.set.fpcr", 0x3C00007),
}

#: For a call that each quick call of the layer makes: LLVM does not copy a user's loop around it.
#: It would, for conditions known outside the loop, and Numba would then count references in it: a
#: grad_weight of 18 ns instead of 12.
COPIES_NO_LOOP = ("convergent",)


def register_of(builder):
    """The entry of `REGISTERS` for the code being built, or None."""
    processor = builder.module.triple.split("-")[0]
    return REGISTERS.get("aarch64" if processor == "arm64" else processor)


def read(builder, width, name):
    word = ir.IntType(width)
    if width == 64:
        function_type = ir.FunctionType(word, [])
        function = cgutils.get_or_insert_function(builder.module, function_type, name)
        return builder.call(function, [], attrs=COPIES_NO_LOOP)
    slot = slot_of(builder, word)
    at_slot(builder, name, slot)
    return builder.load(slot)


def at_slot(builder, name, slot):
    slot = builder.bitcast(slot, ir.IntType(8).as_pointer())  # older LLVMs have typed pointers
    function_type = ir.FunctionType(ir.VoidType(), [slot.type])
    function = cgutils.get_or_insert_function(builder.module, function_type, name)
    builder.call(function, [slot], attrs=COPIES_NO_LOOP)


def write(builder, width, name, value):
    if width == 32:
        at_slot(builder, name, slot_with(builder, value))
        return
    function_type = ir.FunctionType(ir.VoidType(), [value.type])
    builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), [value])


@intrinsic
def is_default(typingctx):
    """Whether the calling thread has the default environment."""

    def codegen(context, builder, sig, args):
        register = register_of(builder)
        if register is None:
            return context.get_constant(types.boolean, True)
        width, get, _, bits = register
        word = read(builder, width, get)
        return builder.icmp_unsigned("==", builder.and_(word, word.type(bits)), word.type(0))

    return types.boolean(), codegen


@intrinsic
def set_default(typingctx):
    """Set the default environment, and return the former one for `restore`.

    Arithmetic in between must be in another function, since LLVM would move it across these calls.
    """

    def codegen(context, builder, sig, args):
        register = register_of(builder)
        if register is None:
            return context.get_constant(types.intp, 0)
        width, get, put, bits = register
        word = read(builder, width, get)
        changed = builder.and_(word, word.type(bits))
        with builder.if_then(cgutils.is_not_null(builder, changed), likely=False):
            write(builder, width, put, builder.xor(word, changed))
        return builder.zext(word, ir.IntType(64)) if width == 32 else word

    return types.intp(), codegen


@intrinsic
def restore(typingctx, former):
    def codegen(context, builder, sig, args):
        register = register_of(builder)
        if register is not None:
            width, _, put, bits = register
            word = builder.trunc(args[0], ir.IntType(32)) if width == 32 else args[0]
            changed = builder.and_(word, word.type(bits))
            with builder.if_then(cgutils.is_not_null(builder, changed), likely=False):
                write(builder, width, put, word)
        return context.get_dummy_value()

    return types.void(types.intp), codegen

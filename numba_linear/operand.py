"""An operand: what the compiled layer needs to know of an array, whatever its type.

Arrays of every layout, number of dimensions and read-only flag have Numba types of their own. As
an `Operand` (address, dimensions, strides) they share one type per dtype, so that the layer is
compiled once. A Python array becomes one without being wrapped for Numba first, which saves a
third of a small call.
"""

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import (
    NativeValue,
    intrinsic,
    models,
    register_model,
    unbox,
)

from numba_linear.cpu.resident import CompileTime

INTP = ir.IntType(64)

#: Bytes from the start of a PyArrayObject to its fields: data, nd, dimensions, strides, base,
#: descr, flags.
HEADER = object.__basicsize__
TYPE = HEADER - 8
DATA, NDIM, SHAPE, STRIDES, DTYPE, FLAGS = (HEADER + offset for offset in (0, 8, 16, 24, 40, 48))
WRITEABLE = 0x0400  # NPY_ARRAY_WRITEABLE

# Objects whose addresses cached code finds by name in another process: the array type and NumPy's
# own descriptors of the native dtypes.
NDARRAY = "numba_linear.ndarray"
OBJECTS = {
    NDARRAY: np.ndarray,
    "numba_linear.float32": np.dtype(np.float32),
    "numba_linear.float64": np.dtype(np.float64),
}
for symbol, known in OBJECTS.items():
    binding.add_symbol(symbol, id(known))


class Operand(CompileTime):
    """An array of `dtype`, or None; with `threads`, of a call that may use them."""

    def __init__(self, dtype, threads=False):
        self.dtype, self.threads = dtype, threads
        super().__init__(name=f"Operand({dtype}, {threads})")


@register_model(Operand)
class OperandModel(models.StructModel):
    def __init__(self, dmm, fe_type):
        names = ("address", "ndim", "shape", "strides", "writable")
        super().__init__(dmm, fe_type, [(name, types.intp) for name in names])


@unbox(Operand)
def unbox_operand(typ, obj, c):
    """Read the fields of a PyArrayObject. None has -1 dimensions.

    What is not quite a plain array of the dtype has -2, which no call takes, and Python decides: a
    subclass may mean something else by its numbers, as masked arrays do, and Numba's cache of
    types takes a byte-swapped array for any other that is not plain.
    """
    builder = c.builder
    start = builder.ptrtoint(obj, INTP)

    def field(offset, kind):
        pointer = builder.inttoptr(builder.add(start, INTP(offset)), kind.as_pointer())
        return builder.load(pointer)

    def is_at(offset, name):
        try:
            known = builder.module.get_global(name)
        except KeyError:
            known = ir.GlobalVariable(builder.module, ir.IntType(8), name)
        return builder.icmp_unsigned("==", field(offset, INTP), builder.ptrtoint(known, INTP))

    operand = cgutils.create_struct_proxy(typ)(c.context, builder)
    operand.address = INTP(0)
    is_none = builder.icmp_unsigned("==", obj, c.pyapi.borrow_none())
    operand.ndim = builder.select(is_none, INTP(-1), INTP(-2))
    operand.shape = operand.strides = operand.writable = INTP(0)
    with (
        builder.if_then(is_at(TYPE, NDARRAY)),
        builder.if_then(is_at(DTYPE, f"numba_linear.{typ.dtype}")),
    ):
        operand.address = field(DATA, INTP)
        operand.ndim = builder.sext(field(NDIM, ir.IntType(32)), INTP)
        operand.shape = field(SHAPE, INTP)
        operand.strides = field(STRIDES, INTP)
        operand.writable = builder.and_(
            builder.sext(field(FLAGS, ir.IntType(32)), INTP), INTP(WRITEABLE)
        )
    return NativeValue(operand._getvalue())


@intrinsic(prefer_literal=True)
def operand(typingctx, like, array, threads):
    """`array`, or None, as an operand of the dtype of the array `like`; `threads` is a
    constant."""
    result = Operand(like.dtype, bool(threads.literal_value))

    def codegen(context, builder, sig, args):
        operand = cgutils.create_struct_proxy(result)(context, builder)
        if not isinstance(array, types.Array):
            operand.address = operand.shape = operand.strides = operand.writable = INTP(0)
            operand.ndim = INTP(-1)
            return operand._getvalue()
        value = context.make_array(array)(context, builder, args[1])

        def kept(field):
            return builder.ptrtoint(cgutils.alloca_once_value(builder, field), INTP)

        operand.address = builder.ptrtoint(value.data, INTP)
        operand.ndim = INTP(array.ndim)
        operand.shape, operand.strides = kept(value.shape), kept(value.strides)
        operand.writable = INTP(int(array.mutable))
        return operand._getvalue()

    return result(like, array, threads), codegen


def _field(name):
    @intrinsic
    def field(typingctx, operand):
        def codegen(context, builder, sig, args):
            return getattr(cgutils.create_struct_proxy(operand)(context, builder, args[0]), name)

        return types.intp(operand), codegen

    return field


address, ndim, writable = _field("address"), _field("ndim"), _field("writable")


def _item(name):
    @intrinsic
    def item(typingctx, operand, i):
        def codegen(context, builder, sig, args):
            fields = cgutils.create_struct_proxy(operand)(context, builder, args[0])
            items = builder.inttoptr(getattr(fields, name), INTP.as_pointer())
            return builder.load(builder.gep(items, [args[1]]))

        return types.intp(operand, types.intp), codegen

    return item


dim, stride = _item("shape"), _item("strides")

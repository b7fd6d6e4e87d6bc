"""An operand: what the compiled layer needs to know of an array, whatever its type.

Numba has a type of array for each layout, number of dimensions and read-only flag. As an `Operand`
(address, dimensions, strides) they share one type per dtype, so the layer is compiled once. A
Python array becomes one without Numba's own unboxing, which saves a third of a small call.
"""

import functools
from typing import NamedTuple

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

from numba_linear.checks import LETTERS, OPTIONAL, out_letters
from numba_linear.cpu.matrix import Matrix
from numba_linear.jit.compiler import inlined
from numba_linear.jit.resident import CompileTime
from numba_linear.jit.words import slot_with

INTP = ir.IntType(64)

#: Bytes from the start of a PyArrayObject to its fields: data, nd, dimensions, strides, base,
#: descr, flags.
HEADER = object.__basicsize__
TYPE = HEADER - 8
DATA, NDIM, SHAPE, STRIDES, DTYPE, FLAGS = (HEADER + offset for offset in (0, 8, 16, 24, 40, 48))
WRITEABLE = 0x0400  # NPY_ARRAY_WRITEABLE

# Objects that cached code finds by name in another process: the array type and NumPy's own
# descriptors of the native dtypes.
NDARRAY = "numba_linear.ndarray"
OBJECTS = {
    NDARRAY: np.ndarray,
    "numba_linear.float32": np.dtype(np.float32),
    "numba_linear.float64": np.dtype(np.float64),
    "numba_linear.int64": np.dtype(np.int64),
}
for symbol, known in OBJECTS.items():
    binding.add_symbol(symbol, id(known))


class Operand(CompileTime):
    """An array of `dtype`, or None."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(name=f"Operand({dtype})")


#: The operand that counts samples.
COUNT = Operand(types.int64)


@register_model(Operand)
class OperandModel(models.StructModel):
    def __init__(self, dmm, fe_type):
        names = ("address", "ndim", "shape", "strides", "writable")
        super().__init__(dmm, fe_type, [(name, types.intp) for name in names])


@unbox(Operand)
def unbox_operand(typ, obj, c):
    """Read the fields of a PyArrayObject. None gets ndim -1.

    Anything else but a plain array of the dtype gets ndim -2, which sends the call to Python's
    checks. A subclass may give its numbers another meaning, as masked arrays do. And Numba's cache
    of types confuses a byte-swapped array with any other array that is not plain.
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


class Samples(NamedTuple):
    """An array of one or two dimensions as a matrix; a single dimension makes one row.

    None has -1 rows, and an array of more dimensions has -2.
    """

    at: Matrix
    rows: int
    cols: int


MATRIX = types.BaseTuple.from_types([types.intp] * 3, Matrix)
SAMPLES = types.BaseTuple.from_types([MATRIX, types.intp, types.intp], Samples)


def array_of(type_):
    """The type of an array that may be optional."""
    return type_.type if isinstance(type_, types.Optional) else type_


def opened(context, builder, type_, value):
    """An array's type and structure, and whether it is there, None for always. For None the first
    two are None."""
    there = None
    if isinstance(type_, types.Optional):
        optional = context.make_helper(builder, type_, value=value)
        type_, value, there = type_.type, optional.data, optional.valid
    if not isinstance(type_, types.Array):
        return None, None, None
    return type_, context.make_array(type_)(context, builder, value), there


@intrinsic
def samples(typingctx, array):
    """An array, None, or an optional array, as `Samples`."""

    def codegen(context, builder, sig, args):
        type_, opened_array, there = opened(context, builder, array, args[0])
        at, rows, cols = [INTP(0)] * 3, INTP(-1), INTP(0)
        if type_ is not None and type_.ndim > 2:
            rows = INTP(-2)
        elif type_ is not None:
            rows, cols = pair(builder, type_, opened_array.shape, INTP(1))
            strides = pair(builder, type_, opened_array.strides, INTP(0))
            if type_.layout == "C":  # known at compile time
                strides[1] = INTP(type_.dtype.bitwidth // 8)
            at = [builder.ptrtoint(opened_array.data, INTP), *strides]
        if there is not None:
            rows = builder.select(there, rows, INTP(-1))
            at[0] = builder.select(there, at[0], INTP(0))
        matrix = context.make_tuple(builder, MATRIX, at)
        return context.make_tuple(builder, SAMPLES, [matrix, rows, cols])

    def pair(builder, type_, values, first):
        values = cgutils.unpack_tuple(builder, values)
        return values if type_.ndim == 2 else [first, *values]

    return SAMPLES(array), codegen


def conforming(operation):
    """An operation: whether the `Samples` of a call's inputs and outs, in this order, have shapes
    that conform, and no out may share memory with another array."""
    letters = LETTERS[operation] | out_letters(operation, "sum")
    return conforming_to(letters, len(LETTERS[operation]), OPTIONAL.get(operation, ()))


def conforming_to(letters, inputs, optional=()):
    """The same for arrays of these letters, the first `inputs` of which are inputs."""

    def codegen(context, builder, sig, args):
        size = INTP(sig.args[0].size)

        def least(a, b):
            return builder.select(builder.icmp_signed("<", a, b), a, b)

        def ends(matrix, rows, cols):
            """The address of its first number, and the address after its last."""
            start, row, col = cgutils.unpack_tuple(builder, matrix)
            down = builder.mul(builder.sub(rows, INTP(1)), row)
            across = builder.mul(builder.sub(cols, INTP(1)), col)
            last = builder.add(builder.add(start, down), across)
            first = builder.add(start, builder.add(least(down, INTP(0)), least(across, INTP(0))))
            # the matrix is symmetric: its highest address mirrors the lowest
            return first, builder.add(builder.sub(builder.add(start, last), first), size)

        sizes, done, fine = {"1": INTP(1)}, [], builder.icmp_signed("==", INTP(0), INTP(0))
        for i, array in enumerate(cgutils.unpack_tuple(builder, args[1])):
            name = list(letters)[i]
            samples = cgutils.unpack_tuple(builder, array)
            there = builder.icmp_signed("!=", samples[1], INTP(-1))
            right = [builder.icmp_signed(">=", samples[1], INTP(0))]
            for letter, found in zip(letters[name].rjust(2, "1"), samples[1:], strict=True):
                known = sizes.setdefault(letter, found)
                right.append(builder.icmp_signed("==", known, found))
            low, end = ends(*samples)
            for other_there, other_low, other_end in done if i >= inputs else ():
                before = builder.icmp_signed("<=", end, other_low)
                apart = builder.or_(before, builder.icmp_signed("<=", other_end, low))
                right.append(builder.or_(apart, builder.not_(other_there)))
            right = functools.reduce(builder.and_, right)
            if name in optional:
                right = builder.or_(right, builder.not_(there))
            fine = builder.and_(fine, right)
            done.append((there, low, end))
        return fine

    @intrinsic
    def conforms(typingctx, tiling, arrays):
        return types.boolean(tiling, types.UniTuple(SAMPLES, len(letters))), codegen

    return conforms


@inlined
def as_samples(x):
    """An operand of up to two dimensions, or None."""
    if ndim(x) == 2:
        return Samples(Matrix(address(x), stride(x, 0), stride(x, 1)), dim(x, 0), dim(x, 1))
    if ndim(x) == 1:
        return Samples(Matrix(address(x), 0, stride(x, 0)), 1, dim(x, 0))
    return Samples(Matrix(0, 0, 0), -1, 0)


@intrinsic
def operand(typingctx, like, array):
    """An array, None, or an optional array, as an operand of the dtype of `like`."""
    result = Operand(array_of(like).dtype)

    def codegen(context, builder, sig, args):
        return as_operand(context, builder, result, array, args[1])

    return result(like, array), codegen


def as_operand(context, builder, result, array, value):
    operand = cgutils.create_struct_proxy(result)(context, builder)
    operand.address = operand.shape = operand.strides = operand.writable = INTP(0)
    operand.ndim = INTP(-1)
    type_, opened_array, there = opened(context, builder, array, value)

    if type_ is not None:
        operand.address = builder.ptrtoint(opened_array.data, INTP)
        operand.ndim = INTP(type_.ndim)
        operand.shape, operand.strides = (
            builder.ptrtoint(slot_with(builder, field), INTP)
            for field in (opened_array.shape, opened_array.strides)
        )
        operand.writable = INTP(int(type_.mutable))
    if there is not None:
        operand.ndim = builder.select(there, operand.ndim, INTP(-1))
    return operand._getvalue()


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


@intrinsic
def as_like(typingctx, like, operand):
    """An operand of any dtype, retyped as `like` to go with others."""
    return like(like, operand), lambda context, builder, sig, args: args[1]


@intrinsic
def count_at(typingctx, at):
    """The int64 at an address."""

    def codegen(context, builder, sig, args):
        return builder.load(builder.inttoptr(args[0], INTP.as_pointer()), align=1)

    return types.intp(types.intp), codegen


@intrinsic
def set_count(typingctx, at, count):
    def codegen(context, builder, sig, args):
        builder.store(args[1], builder.inttoptr(args[0], INTP.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen

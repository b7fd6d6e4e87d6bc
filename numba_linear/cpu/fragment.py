"""Fragments: rows of numbers in vector registers, and the operations in which the tile and the
packing are written.

No other arithmetic of the engine is written in LLVM. A `Shape` (dtype, rows, columns) is known at
compile time; a `Fragment` of that shape is the numbers themselves. A row is one LLVM vector, which
LLVM splits if it is wider than a register. Addresses and strides are integers, in bytes.

==================================  ============================================================
`zero(shape)`                       every number +0
`outer(acc, a, a_row, b)`           acc[r, c] ← fma(a[r], b[c], acc[r, c])
`outer_terms(acc, a, a_row, b, …)`  the same for the terms that 128 bits of A's row hold
`outer_inside(acc, a, …, b, cols)`  `outer`, reading no b[c] beyond cols
`chain(acc, a, t)`                  for every row p of t: acc[c] ← fma(a[p], t[p, c], acc[c])
`chain_pairs(acc, a, t)`            the same with pairs a[p]: acc[c] ← fma(a[p][c % 2], …)
`chain_columns(sides, acc, …)`      for each row of A a vector for each side s:
                                    acc[r, s, c] ← fma(a[r, p], b[s · apart + c, p], acc[r, s, c])
                                    for the terms p that 128 bits hold; contiguous in A and B
`chain_few(sides, acc, …)`          the same for all terms of rows that have two or three
`outer_apart(sides, acc, …)`        for each row of A a vector for each side s:
                                    acc[r, s, c] ← fma(a[r], b[s · apart + c], acc[r, s, c])
`add(left, right)`                  left + right
`add_pairs(acc)`                    acc[0] + acc[1], acc[2] + acc[3], …
`finish(acc, bias, divisor)`        (acc[r, c] + bias[c]) / divisor, both optional
`load(shape, a, a_row)`             rows of a matrix
`load_part(shape, a, cols)`         one row, reading nothing beyond cols
`load_cols(shape, a, a_row, cols)`  rows of a matrix, reading nothing beyond cols
`load_columns(square, a, a_row)`    columns of a matrix, as the rows of the fragment
`load_few_columns(…, rows, cols)`   the same, reading nothing beyond rows and cols
`load_columns_of_pairs(…)`          the same, of each row one part and another, in turn
`load_terms(shape, a, a_row)`       the columns that 128 bits of a matrix's rows hold
`load_apart(sides, shape, …)`       several vectors of each row of a matrix, `apart` bytes apart
`store_apart(sides, acc, …)`        the same, to a matrix
`store(acc, c, c_row)`              to rows of a matrix
`put(acc, c, c_row, rows, cols)`    the same, writing nothing beyond rows and cols
`store_cols(acc, c, c_row, cols)`   the same, writing nothing beyond cols
`copy(shape, c, a)`                 one number
`prefetch(a)`                       prefetch the cache line at a
`prefetch_rows(shape, a, a_row)`    prefetch one line in each row of a matrix
==================================  ============================================================
"""

from contextlib import nullcontext

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from numba_linear.cpu.tuning import PACKED_TERMS
from numba_linear.jit.resident import CompileTime
from numba_linear.jit.words import slot_of, slot_with

#: LLVM's names of the processor with 32 registers of 128 bits, whose multiply-adds can take one
#: factor from a lane.
AARCH64 = ("aarch64", "arm64")

BYTE, INT32, INT64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)


class Shape(CompileTime):
    """A fragment's dtype, rows and columns; as a value in a kernel it only carries this type."""

    def __init__(self, dtype, rows, columns):
        self.dtype, self.rows, self.columns = dtype, rows, columns
        self.size = dtype.bitwidth // 8
        super().__init__(name=f"{type(self).__name__}({dtype}, {rows}, {columns})")

    def of(self, rows, columns):
        return Shape(self.dtype, rows, columns)

    @property
    def fragment(self):
        return Fragment(self.dtype, self.rows, self.columns)


class Fragment(Shape):
    """The numbers of a shape, in registers."""


@register_model(Shape)
class ShapeModel(models.OpaqueModel):
    pass


@register_model(Fragment)
class FragmentModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        rows = ir.ArrayType(Emitter(None, fe_type).vector, fe_type.rows)
        super().__init__(dmm, fe_type, rows)


class Emitter:
    """An LLVM builder that knows one shape."""

    def __init__(self, builder, shape):
        self.builder, self.shape = builder, shape
        self.scalar = ir.FloatType() if shape.dtype == types.float32 else ir.DoubleType()
        self.vector = ir.VectorType(self.scalar, shape.columns)
        self.suffix = f"v{shape.columns}f{shape.dtype.bitwidth}"

    @property
    def aarch64(self):
        return self.builder.module.triple.startswith(AARCH64)

    def at(self, address, stride, index, pointee):
        """A pointer to `pointee` at address + stride · index."""
        if isinstance(index, int):
            index = ir.Constant(INT64, index)
        address = self.builder.add(address, self.builder.mul(stride, index))
        return self.builder.inttoptr(address, pointee.as_pointer())

    def least(self, number, other):
        number = ir.Constant(INT64, number)
        return self.builder.select(self.builder.icmp_signed("<", number, other), number, other)

    def opaque(self, address):
        """The address, hidden from LLVM's optimiser on x86, which has 16 registers for addresses.

        LLVM would keep each row's address in a register of its own and run out of them. With this
        every third row has one; the next two rows are one and two strides from it, which x86 adds
        while loading.
        """
        if self.aarch64:
            return address
        return self.builder.asm(ir.FunctionType(INT64, [INT64]), "", "=r,0", [address], False)

    def here(self, number):
        """The number, with which LLVM must not compute before this point."""
        return self.builder.asm(ir.FunctionType(INT64, [INT64]), "", "=r,0", [number], True)

    def call(self, name, result, *args):
        function_type = ir.FunctionType(result, [x.type for x in args])
        function = cgutils.get_or_insert_function(self.builder.module, function_type, name)
        return self.builder.call(function, args)

    def aligned(self, instruction):
        """The instruction, which must not assume alignment: arrays may be views of bytes."""
        instruction.align = 1
        return instruction

    def load(self, pointer, mask=None):
        if mask is None:
            return self.aligned(self.builder.load(pointer))
        name = f"llvm.masked.load.{self.suffix}.p0"
        zero = ir.Constant(self.vector, None)
        return self.call(name, self.vector, pointer, ir.Constant(INT32, 1), mask, zero)

    def store(self, value, pointer, mask=None):
        if mask is None:
            self.aligned(self.builder.store(value, pointer))
        else:
            name = f"llvm.masked.store.{self.suffix}.p0"
            self.call(name, ir.VoidType(), value, pointer, ir.Constant(INT32, 1), mask)

    def splat(self, number):
        """The number in every column; a float64 given for a float32 is narrowed, exactly."""
        if isinstance(self.scalar, ir.FloatType) and isinstance(number.type, ir.DoubleType):
            number = self.builder.fptrunc(number, self.scalar)
        unset = ir.Constant(ir.VectorType(number.type, self.shape.columns), ir.Undefined)
        value = self.builder.insert_element(unset, number, ir.Constant(INT32, 0))
        first = ir.Constant(ir.VectorType(INT32, self.shape.columns), None)
        return self.builder.shuffle_vector(value, unset, first)

    def lane(self, vector, index):
        """A vector's lane in every column; AArch64's multiply-adds take it from the vector."""
        return self.shuffle(
            vector, ir.Constant(vector.type, ir.Undefined), [index] * self.shape.columns
        )

    def shuffle(self, left, right, columns):
        columns = ir.Constant(ir.VectorType(INT32, len(columns)), list(columns))
        return self.builder.shuffle_vector(left, right, columns)

    def fma(self, a, b, c):
        return self.call(f"llvm.fma.{self.suffix}", self.vector, a, b, c)

    def mask(self, count):
        """The columns below count, which may exceed their number."""
        count = self.least(self.shape.columns, count)
        columns = ir.Constant(
            ir.VectorType(INT32, self.shape.columns), list(range(self.shape.columns))
        )
        return self.builder.icmp_signed("<", columns, self.splat(self.builder.trunc(count, INT32)))

    def unpack(self, fragment):
        return [self.builder.extract_value(fragment, r) for r in range(self.shape.rows)]

    def pack(self, rows):
        value = ir.Constant(ir.ArrayType(self.vector, len(rows)), ir.Undefined)
        for r, row in enumerate(rows):
            value = self.builder.insert_value(value, row, r)
        return value


@intrinsic
def zero(typingctx, shape):
    def codegen(context, builder, sig, args):
        e = Emitter(builder, shape)
        return e.pack([ir.Constant(e.vector, None)] * shape.rows)

    return shape.fragment(shape), codegen


def multiply(e, fragment, a, a_row, columns):
    """A fragment with a[r] · columns[c] added to each of its numbers, in one rounding."""
    builder, rows = e.builder, []
    for r, row in enumerate(e.unpack(fragment)):
        if r % 3 == 0:
            start = e.opaque(builder.add(a, builder.mul(a_row, ir.Constant(INT64, r))))
        number = e.aligned(builder.load(e.at(start, a_row, r % 3, e.scalar)))
        rows.append(e.fma(e.splat(number), columns, row))
    return e.pack(rows)


@intrinsic
def outer(typingctx, acc, a, a_row, b):
    def codegen(context, builder, sig, args):
        e = Emitter(builder, acc)
        fragment, a, a_row, b = args
        columns = e.load(builder.inttoptr(b, e.vector.as_pointer()))
        return multiply(e, fragment, a, a_row, columns)

    return acc(acc, types.intp, types.intp, types.intp), codegen


@intrinsic
def outer_terms(typingctx, acc, a, a_row, b, b_col):
    """`outer` for the terms that 128 bits hold: contiguous in A's rows, `b_col` apart in B."""

    def codegen(context, builder, sig, args):
        e = Emitter(builder, acc)
        fragment, a, a_row, b, b_col = args
        terms = Emitter(builder, some_terms(acc))
        rows = e.unpack(fragment)
        numbers = [terms.load(e.at(a, a_row, r, terms.vector)) for r in range(len(rows))]
        for p in range(terms.shape.columns):
            columns = e.load(e.at(b, b_col, p, e.vector))
            rows = [
                e.fma(e.lane(x, p), columns, row) for x, row in zip(numbers, rows, strict=True)
            ]
        return e.pack(rows)

    return acc(acc, *[types.intp] * 4), codegen


@intrinsic
def outer_packed(typingctx, acc, a, a_row, a_col, b, b_col):
    """`outer` for `PACKED_TERMS` terms, `a_col` and `b_col` apart. A's strides must be constants:
    x86 adds them while loading."""

    def codegen(context, builder, sig, args):
        e = Emitter(builder, acc)
        fragment, a, a_row, a_col, b, b_col = args
        rows = e.unpack(fragment)
        for p in range(PACKED_TERMS):
            columns = e.load(e.at(b, b_col, p, e.vector))
            term = builder.add(a, builder.mul(a_col, ir.Constant(INT64, p)))
            for r, row in enumerate(rows):
                number = e.aligned(builder.load(e.at(term, a_row, r, e.scalar)))
                rows[r] = e.fma(e.splat(number), columns, row)
        return e.pack(rows)

    return acc(acc, *[types.intp] * 5), codegen


@intrinsic
def outer_inside(typingctx, acc, a, a_row, b, cols):
    """Columns from `cols` on are unchanged, except for the sign of a zero."""

    def codegen(context, builder, sig, args):
        e = Emitter(builder, acc)
        fragment, a, a_row, b, cols = args
        columns = e.load(builder.inttoptr(b, e.vector.as_pointer()), e.mask(cols))
        return multiply(e, fragment, a, a_row, columns)

    return acc(acc, *[types.intp] * 4), codegen


def some_terms(shape):
    return shape.of(1, 16 // shape.size)


@intrinsic
def chain(typingctx, acc, a, t):
    def codegen(context, builder, sig, args):
        e = Emitter(builder, acc)
        fragment, a, t_rows = args
        (sums,) = e.unpack(fragment)
        for p, columns in enumerate(Emitter(builder, t).unpack(t_rows)):
            number = e.aligned(builder.load(e.at(a, ir.Constant(INT64, acc.size), p, e.scalar)))
            sums = e.fma(e.splat(number), columns, sums)
        return e.pack([sums])

    return acc(acc, types.intp, t), codegen


def sides_at(e, sides, b, b_row, apart):
    """The address of each side's first row of B, which are `apart` rows apart."""
    apart = e.builder.mul(b_row, apart)
    return [
        e.builder.add(b, e.builder.mul(apart, ir.Constant(INT64, s))) for s in range(sides.rows)
    ]


def chained(e, fragment, sides, a, a_row, p, columns):
    """A fragment with a[r, p] · columns[s], for each side s of these, added to its vectors."""
    sums, item = e.unpack(fragment), ir.Constant(INT64, e.shape.size)
    for r in range(len(sums) // sides.rows):
        at = e.builder.add(a, e.builder.mul(a_row, ir.Constant(INT64, r)))
        number = e.splat(e.aligned(e.builder.load(e.at(at, item, p, e.scalar))))
        for s, column in columns.items():
            row = r * sides.rows + s
            sums[row] = e.fma(number, column, sums[row])
    return e.pack(sums)


@intrinsic
def chain_columns(typingctx, sides, acc, a, a_row, b, b_row, apart, first):
    """Of the terms that 128 bits hold, those from `first` on. A single row takes one side after
    the other, since all sides' columns do not fit in AVX2's registers."""

    def codegen(context, builder, sig, args):
        _, fragment, a, a_row, b, b_row, apart, first = args
        e, terms = Emitter(builder, acc), some_terms(acc).columns
        starts = list(enumerate(sides_at(e, sides, b, b_row, apart)))
        slot = slot_with(builder, fragment)
        for some in [[start] for start in starts] if acc.rows == sides.rows else [starts]:
            columns = {s: read_terms(e, at, b_row) for s, at in some}
            for p in range(terms):
                wanted = builder.icmp_signed(">=", ir.Constant(INT64, p), first)
                with builder.if_then(wanted) if p < terms - 1 else nullcontext():
                    column = {s: columns[s][p] for s in columns}
                    sums = chained(e, builder.load(slot), sides, a, a_row, p, column)
                    builder.store(sums, slot)
        return builder.load(slot)

    return acc(sides, acc, *[types.intp] * 6), codegen


@intrinsic
def chain_few(typingctx, sides, acc, a, a_row, b, b_row, apart, terms):
    """The terms of rows that have two or three."""

    def codegen(context, builder, sig, args):
        _, fragment, a, a_row, b, b_row, apart, terms = args
        e = Emitter(builder, acc)
        starts = sides_at(e, sides, b, b_row, apart)
        pairs = [read_pairs(e, at, b_row) for at in starts]
        for p, column in enumerate(zip(*pairs, strict=True)):
            fragment = chained(e, fragment, sides, a, a_row, p, dict(enumerate(column)))
        slot = slot_with(builder, fragment)
        with builder.if_then(builder.icmp_signed(">", terms, ir.Constant(INT64, 2))):
            third = ir.Constant(INT64, 2 * acc.size)
            column = {
                s: read_numbers(e, builder.add(at, third), b_row) for s, at in enumerate(starts)
            }
            builder.store(chained(e, fragment, sides, a, a_row, 2, column), slot)
        return builder.load(slot)

    return acc(sides, acc, *[types.intp] * 6), codegen


def read_pairs(e, a, a_row):
    """The first two columns of a matrix."""
    lanes, pair = e.shape.columns, Emitter(e.builder, e.shape.of(1, 2))
    rows = [pair.load(e.at(a, a_row, r, pair.vector)) for r in range(lanes)]
    # every other two rows in one register, so that each shuffle stays within 128 bits
    order = sorted(range(lanes), key=lambda r: r // 2 % 2)
    left, right = (
        joined(e, [rows[r] for r in half]) for half in (order[: lanes // 2], order[lanes // 2 :])
    )
    return [e.shuffle(left, right, [2 * order.index(r) + p for r in range(lanes)]) for p in (0, 1)]


def read_numbers(e, a, a_row):
    """The first column of a matrix."""
    column = ir.Constant(e.vector, ir.Undefined)
    for r in range(e.shape.columns):
        number = e.aligned(e.builder.load(e.at(a, a_row, r, e.scalar)))
        column = e.builder.insert_element(column, number, ir.Constant(INT32, r))
    return column


def apart_at(e, sides, a, a_row, apart):
    """The address of each vector of a fragment; a row has one for each side."""
    for r in range(e.shape.rows):
        row = e.builder.add(a, e.builder.mul(a_row, ir.Constant(INT64, r // sides.rows)))
        yield e.at(row, apart, r % sides.rows, e.vector)


@intrinsic
def outer_apart(typingctx, sides, acc, a, a_row, b, apart):
    def codegen(context, builder, sig, args):
        e = Emitter(builder, acc)
        _, fragment, a, a_row, b, apart = args
        columns = [e.load(e.at(b, apart, s, e.vector)) for s in range(sides.rows)]
        rows = e.unpack(fragment)
        for r in range(0, acc.rows, sides.rows):
            at = e.at(a, a_row, r // sides.rows, e.scalar)
            number = e.splat(e.aligned(builder.load(at)))
            for s, vector in enumerate(columns):
                rows[r + s] = e.fma(number, vector, rows[r + s])
        return e.pack(rows)

    return acc(sides, acc, *[types.intp] * 4), codegen


@intrinsic
def load_apart(typingctx, sides, shape, a, a_row, apart):
    def codegen(context, builder, sig, args):
        e = Emitter(builder, shape)
        return e.pack([e.load(at) for at in apart_at(e, sides, *args[2:])])

    return shape.fragment(sides, shape, *[types.intp] * 3), codegen


@intrinsic
def store_apart(typingctx, sides, acc, c, c_row, apart):
    def codegen(context, builder, sig, args):
        e = Emitter(builder, acc)
        rows = zip(e.unpack(args[1]), apart_at(e, sides, *args[2:]), strict=True)
        for row, at in rows:
            e.store(row, at)
        return context.get_dummy_value()

    return types.void(sides, acc, *[types.intp] * 3), codegen


@intrinsic
def chain_pairs(typingctx, acc, a, t):
    def codegen(context, builder, sig, args):
        e = Emitter(builder, acc)
        fragment, a, t_rows = args
        (sums,) = e.unpack(fragment)
        pair = Emitter(builder, acc.of(1, 2))
        lanes = [c % 2 for c in range(acc.columns)]
        for p, columns in enumerate(Emitter(builder, t).unpack(t_rows)):
            numbers = pair.load(e.at(a, ir.Constant(INT64, 2 * acc.size), p, pair.vector))
            sums = e.fma(e.shuffle(numbers, numbers, lanes), columns, sums)
        return e.pack([sums])

    return acc(acc, types.intp, t), codegen


@intrinsic
def add_pairs(typingctx, acc):
    result = Fragment(acc.dtype, 1, acc.columns // 2)

    def codegen(context, builder, sig, args):
        (sums,) = Emitter(builder, acc).unpack(args[0])
        e = Emitter(builder, result)
        left, right = (e.shuffle(sums, sums, range(s, acc.columns, 2)) for s in (0, 1))
        return e.pack([builder.fadd(left, right)])

    return result(acc), codegen


@intrinsic
def add(typingctx, left, right):
    def codegen(context, builder, sig, args):
        e = Emitter(builder, left)
        pairs = zip(e.unpack(args[0]), e.unpack(args[1]), strict=True)
        return e.pack([builder.fadd(x, y) for x, y in pairs])

    return left(left, right), codegen


@intrinsic
def finish(typingctx, acc, bias, divisor):
    """`bias` is an address, 0 for none. `divisor` is 0 for none, or -1 / s for a power of two s:
    multiplying by its exact inverse is faster."""

    def codegen(context, builder, sig, args):
        e = Emitter(builder, acc)
        fragment, bias, divisor = args
        slot = slot_with(builder, fragment)

        def each(change):
            builder.store(e.pack([change(x) for x in e.unpack(builder.load(slot))]), slot)

        none = ir.Constant(divisor.type, 0.0)
        with builder.if_then(cgutils.is_not_null(builder, bias)):
            row = e.load(builder.inttoptr(bias, e.vector.as_pointer()))
            each(lambda x: builder.fadd(x, row))
        with builder.if_then(builder.fcmp_ordered(">", divisor, none)):
            s = e.splat(divisor)
            each(lambda x: builder.fdiv(x, s))
        with builder.if_then(builder.fcmp_ordered("<", divisor, none)):
            inverse = e.splat(builder.fsub(none, divisor))
            each(lambda x: builder.fmul(x, inverse))
        return builder.load(slot)

    return acc(acc, types.intp, types.float64), codegen


@intrinsic
def load(typingctx, shape, a, a_row):
    def codegen(context, builder, sig, args):
        e = Emitter(builder, shape)
        _, a, a_row = args
        return e.pack([e.load(e.at(a, a_row, r, e.vector)) for r in range(shape.rows)])

    return shape.fragment(shape, types.intp, types.intp), codegen


@intrinsic
def load_part(typingctx, shape, a, cols):
    """Columns from `cols` on are +0."""

    def codegen(context, builder, sig, args):
        e = Emitter(builder, shape)
        _, a, cols = args
        return e.pack([e.load(builder.inttoptr(a, e.vector.as_pointer()), e.mask(cols))])

    return shape.fragment(shape, types.intp, types.intp), codegen


@intrinsic
def load_cols(typingctx, shape, a, a_row, cols):
    """Columns from `cols` on are +0."""

    def codegen(context, builder, sig, args):
        e = Emitter(builder, shape)
        _, a, a_row, cols = args
        inside = e.mask(cols)
        return e.pack([e.load(e.at(a, a_row, r, e.vector), inside) for r in range(shape.rows)])

    return shape.fragment(shape, *[types.intp] * 3), codegen


@intrinsic
def store_cols(typingctx, acc, c, c_row, cols):
    def codegen(context, builder, sig, args):
        e = Emitter(builder, acc)
        fragment, c, c_row, cols = args
        inside = e.mask(cols)
        for r, row in enumerate(e.unpack(fragment)):
            e.store(row, e.at(c, c_row, r, e.vector), inside)
        return context.get_dummy_value()

    return types.void(acc, *[types.intp] * 3), codegen


@intrinsic
def store(typingctx, acc, c, c_row):
    def codegen(context, builder, sig, args):
        e = Emitter(builder, acc)
        for r, row in enumerate(e.unpack(args[0])):
            e.store(row, e.at(args[1], args[2], r, e.vector))
        return context.get_dummy_value()

    return types.void(acc, types.intp, types.intp), codegen


@intrinsic
def put(typingctx, acc, c, c_row, rows, cols):
    def codegen(context, builder, sig, args):
        e = Emitter(builder, acc)
        fragment, c, c_row, rows, cols = args
        columns, height = ir.Constant(INT64, acc.columns), ir.Constant(INT64, acc.rows)
        whole = builder.and_(
            builder.icmp_signed(">=", cols, columns), builder.icmp_signed(">=", rows, height)
        )
        with builder.if_else(whole) as (then, otherwise):
            with then:
                for r, row in enumerate(e.unpack(fragment)):
                    e.store(row, e.at(c, c_row, r, e.vector))
            with otherwise:
                rows, cols = e.here(rows), e.here(cols)
                inside = e.mask(cols)
                for r, row in enumerate(e.unpack(fragment)):
                    is_row = builder.icmp_signed("<", ir.Constant(INT64, r), rows)
                    mask = builder.and_(inside, e.splat(is_row))
                    e.store(row, e.at(c, c_row, r, e.vector), mask)
        return context.get_dummy_value()

    return types.void(acc, *[types.intp] * 4), codegen


def joined(e, parts):
    """A power of two of vectors, side by side in one."""
    while len(parts) > 1:
        parts = [
            e.shuffle(x, y, range(2 * x.type.count))
            for x, y in zip(parts[::2], parts[1::2], strict=True)
        ]
    return parts[0]


def exchange(e, rows, step):
    """The transpose of rows, in groups of `step` columns; within each 128 bits if `step` is 1."""
    n = rows[0].type.count
    within = 16 // e.shape.size if step == 1 else n
    evens = [
        s + i + j + k
        for i in range(0, n, within)
        for s in (0, n)
        for j in range(0, within, 2 * step)
        for k in range(step)
    ]
    for _ in range(len(rows).bit_length() - 1):
        pairs = list(zip(rows[::2], rows[1::2], strict=True))
        rows = [e.shuffle(x, y, [j + odd for j in evens]) for odd in (0, step) for x, y in pairs]
    return rows


def read_terms(e, a, a_row):
    """The columns of a matrix that 128 bits of its rows hold, as vectors.

    Each row's 128 bits are loaded into a part of a register; transposing stays within the parts.
    """
    builder, terms = e.builder, some_terms(e.shape).columns
    numbers = Emitter(builder, e.shape.of(1, terms))
    rows = [[] for _ in range(terms)]
    for r in range(e.shape.columns):
        if r % 4 == 0:
            start = e.opaque(builder.add(a, builder.mul(a_row, ir.Constant(INT64, r))))
        rows[r % terms].append(numbers.load(e.at(start, a_row, r % 4, numbers.vector)))
    return exchange(e, [joined(e, parts) for parts in rows], 1)


def read_columns(e, a, row_offset, cols=None):
    """The columns, as rows, of a matrix whose row r is at a + row_offset(r). It may have more rows
    than columns, by a power of two: they are taken square by square."""
    n = e.shape.rows
    square = Emitter(e.builder, e.shape.of(n, n))
    rows = [[]] * n
    for first in range(0, e.shape.columns, n):
        more = read_square(square, a, lambda r, first=first: row_offset(first + r), cols)
        rows = [[*x, y] for x, y in zip(rows, more, strict=True)]
    return e.pack([joined(e, parts) for parts in rows])


def read_square(e, a, row_offset, cols):
    """The columns of a square matrix, as rows.

    Each shuffle is one instruction: first within 128 bits, then of 128-bit parts. If a register
    has several parts, rows are read in halves, two rows' halves into one register, which saves a
    shuffle.
    """
    n, part = e.shape.rows, 16 // e.shape.size
    halves = 2 if n > part else 1
    half = Emitter(e.builder, e.shape.of(1, n // halves))
    masks = [None] * halves
    if cols is not None:
        counts = [e.builder.sub(cols, ir.Constant(INT64, h * n // halves)) for h in range(halves)]
        masks = [half.mask(count) for count in counts]

    def read(h, r):
        offset = ir.Constant(INT64, h * n // halves * e.shape.size)
        address = e.builder.add(e.builder.add(a, offset), row_offset(r))
        return half.load(e.builder.inttoptr(address, half.vector.as_pointer()), masks[h])

    groups = [[] for _ in range(halves)]
    for r in range(0, n, halves * part):
        for h in range(halves):  # both halves before other rows evict these
            rows = [
                joined(e, [read(h, r + i + k * part) for k in range(halves)]) for i in range(part)
            ]
            groups[h].append(exchange(e, rows, 1))
    columns = []
    for half_groups in groups:
        by_column = [exchange(e, list(group), part) for group in zip(*half_groups, strict=True)]
        columns += [x for i in range(len(half_groups)) for x in [c[i] for c in by_column]]
    return columns


@intrinsic
def load_columns(typingctx, square, a, a_row):
    def codegen(context, builder, sig, args):
        _, a, a_row = args
        return read_columns(
            Emitter(builder, square), a, lambda r: builder.mul(a_row, ir.Constant(INT64, r))
        )

    return square.fragment(square, types.intp, types.intp), codegen


@intrinsic
def load_terms(typingctx, shape, a, a_row):
    """The matrix has as many rows as the shape has columns."""
    result = Fragment(shape.dtype, some_terms(shape).columns, shape.columns)

    def codegen(context, builder, sig, args):
        return Emitter(builder, result).pack(read_terms(Emitter(builder, shape), *args[1:]))

    return result(shape, types.intp, types.intp), codegen


@intrinsic
def load_columns_of_pairs(typingctx, shape, a, a_row, other):
    """Even lanes take half as many rows as there are lanes; odd lanes take the numbers of the same
    rows that are `other` bytes further."""

    def codegen(context, builder, sig, args):
        _, a, a_row, other = args

        def offset(r):
            row = builder.mul(a_row, ir.Constant(INT64, r // 2))
            return builder.add(row, other) if r % 2 else row

        return read_columns(Emitter(builder, shape), a, offset)

    return shape.fragment(shape, *[types.intp] * 3), codegen


@intrinsic
def load_few_columns(typingctx, square, a, a_row, rows, cols):
    """A matrix of `rows` rows, the last of which is repeated, and `cols` columns, padded with
    +0."""

    def codegen(context, builder, sig, args):
        _, a, a_row, rows, cols = args
        e = Emitter(builder, square)
        last = builder.sub(rows, ir.Constant(INT64, 1))
        return read_columns(e, a, lambda r: builder.mul(a_row, e.least(r, last)), cols)

    return square.fragment(square, *[types.intp] * 4), codegen


@intrinsic
def copy(typingctx, shape, c, a):
    def codegen(context, builder, sig, args):
        e = Emitter(builder, shape)
        pointer = e.scalar.as_pointer()
        number = e.aligned(builder.load(builder.inttoptr(args[2], pointer)))
        e.aligned(builder.store(number, builder.inttoptr(args[1], pointer)))
        return context.get_dummy_value()

    return types.void(shape, types.intp, types.intp), codegen


def prefetch_line(builder, pointer):
    constants = [ir.Constant(INT32, x) for x in (0, 2, 1)]  # to read, into L2, data
    function_type = ir.FunctionType(ir.VoidType(), [pointer.type, INT32, INT32, INT32])
    function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
    builder.call(function, [pointer, *constants])


@intrinsic
def prefetch_rows(typingctx, shape, a, a_row):
    def codegen(context, builder, sig, args):
        e = Emitter(builder, shape)
        _, a, a_row = args
        for r in range(shape.rows):
            prefetch_line(builder, e.at(a, a_row, r, BYTE))
        return context.get_dummy_value()

    return types.void(shape, types.intp, types.intp), codegen


@intrinsic
def prefetch_terms(typingctx, shape, a, step):
    """Prefetch a line for each term of `outer_terms`, `step` bytes apart."""

    def codegen(context, builder, sig, args):
        e = Emitter(builder, shape)
        for p in range(some_terms(shape).columns):
            prefetch_line(builder, e.at(args[1], args[2], p, BYTE))
        return context.get_dummy_value()

    return types.void(shape, types.intp, types.intp), codegen


@intrinsic
def prefetch(typingctx, a):
    def codegen(context, builder, sig, args):
        prefetch_line(builder, builder.inttoptr(args[0], BYTE.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.intp), codegen


def constant_word(value):
    """An operation that is an integer known at compile time."""

    @intrinsic
    def word(typingctx, shape):
        return types.intp(shape), lambda *_: ir.Constant(INT64, value(shape))

    return word


item_bytes = constant_word(lambda shape: shape.size)
rows_of = constant_word(lambda shape: shape.rows)
columns_of = constant_word(lambda shape: shape.columns)
terms_of = constant_word(lambda shape: some_terms(shape).columns)
row_bytes = constant_word(lambda shape: shape.columns * shape.size)
fragment_bytes = constant_word(lambda shape: shape.rows * shape.columns * shape.size)


@intrinsic(prefer_literal=True)
def scratch(typingctx, size):
    """The address of `size` bytes on the stack, 64-byte aligned, until the function returns."""

    def codegen(context, builder, sig, args):
        pointer = slot_of(builder, ir.ArrayType(BYTE, size.literal_value))
        pointer.align = 64
        return builder.ptrtoint(pointer, INT64)

    if isinstance(size, types.IntegerLiteral):
        return types.intp(size), codegen


@intrinsic
def allocate(typingctx, size):
    """The address of `size` bytes on the heap, or 0; `release` frees them."""

    def codegen(context, builder, sig, args):
        return builder.ptrtoint(context.nrt.allocate_unchecked(builder, args[0]), INT64)

    return types.intp(types.intp), codegen


@intrinsic
def release(typingctx, address):
    def codegen(context, builder, sig, args):
        context.nrt.free(builder, builder.inttoptr(args[0], BYTE.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@intrinsic
def one(typingctx, shape):
    """The address of the number 1 of the shape's dtype."""

    def codegen(context, builder, sig, args):
        number = ir.Constant(Emitter(builder, shape).scalar, 1.0)
        return builder.ptrtoint(cgutils.global_constant(builder, "one", number), INT64)

    return types.intp(shape), codegen

"""Fragments on the GPU: a thread's rows × columns sums in registers, and the operations in which
the kernels are written.

No other file of the CUDA variants contains LLVM. A `Tile` or `Panel` is known at compile time; a
`Fragment` of a tile is the numbers themselves. Places in global memory are addresses, as on the
CPU; places in shared memory count numbers from its start. All offsets within a tile are constants,
which ptxas puts into its instructions.

==================================  ============================================================
`shared(tile)`                      the block's shared memory, for two panels of A and of B
`partials(tile)`                    the thread's local memory, for a fragment of each level
`zero(tile)`                        every number +0
`outer(acc, panels, a, b)`          for every term p of two panels:
                                    acc[r, c] ← fma(a[p, r], b[p, c], acc[r, c])
`add(left, right)`                  left + right
`keep(acc, partials, level)`        to local memory
`kept(tile, partials, level)`       from local memory
`finish(acc, …, divisor)`           (acc[r, c] + bias[r, c]) / divisor, both optional
`put(acc, c, …, rows, cols)`        to global memory, writing nothing beyond rows and cols
`get(number, at)`                   one number, from global memory
`give(number, at, value)`           one number, to global memory
`thread_again()`                    the thread's number, read again to save a register
`one(panel)`                        the address of the number 1
`fetch(panel, at, row_stride)`      the thread's share of a panel, from global memory
`fetch_part(…, rows, terms)`        the same, reading nothing beyond rows and terms
`stash(panel, panels, at, share)`   the share, to shared memory
==================================  ============================================================
"""

from llvmlite import ir
from numba.cuda import cgutils, types
from numba.cuda.datamodel import models
from numba.cuda.extending import intrinsic, register_model, typeof_impl

from numba_linear.cuda.machine import Number, Panel, Tile

INT32, INT64 = ir.IntType(32), ir.IntType(64)
GLOBAL, SHARED = 1, 3  # address spaces


class Constant(types.Opaque):
    """A tile, panel or number; as a value in a kernel it only carries this type."""

    def __init__(self, value):
        self.value = value
        super().__init__(name=f"Constant({value})")


class OfTile(types.Type):
    """A value at run time whose type has a tile."""

    def __init__(self, tile):
        self.tile = tile
        super().__init__(name=f"{type(self).__name__}({tile})")


class Fragment(OfTile):
    """A thread's sums, in registers."""


class Shared(OfTile):
    """The start of the block's shared memory."""


class Partials(OfTile):
    """The start of the thread's local memory."""


@typeof_impl.register(Tile)
@typeof_impl.register(Panel)
@typeof_impl.register(Number)
def _typeof_constant(value, context):
    return Constant(value)


register_model(Constant)(models.OpaqueModel)


def scalar(dtype):
    return {"float32": ir.FloatType(), "float64": ir.DoubleType()}[dtype]


@register_model(Fragment)
class FragmentModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        tile = fe_type.tile
        super().__init__(dmm, fe_type, ir.ArrayType(scalar(tile.dtype), tile.numbers))


@register_model(Shared)
class SharedModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, scalar(fe_type.tile.dtype).as_pointer(SHARED))


@register_model(Partials)
class PartialsModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, scalar(fe_type.tile.dtype).as_pointer())


class Emitter:
    """An LLVM builder that knows a tile's or panel's dtype."""

    def __init__(self, builder, dtype):
        self.builder, self.scalar = builder, scalar(dtype)
        self.size = {"float32": 4, "float64": 8}[dtype]

    def number(self, value):
        return ir.Constant(self.scalar, value)

    def at(self, address):
        """An address in global memory as a pointer."""
        return self.builder.inttoptr(address, self.scalar.as_pointer(GLOBAL))

    def along(self, address, stride, index):
        """address + stride · index; the index is known at compile time."""
        return self.builder.add(address, self.builder.mul(stride, ir.Constant(INT64, index)))

    def beside(self, pointer, numbers):
        """The pointer moved by a constant count of numbers."""
        return self.builder.gep(pointer, [ir.Constant(INT32, numbers)], inbounds=True)

    def load_vector(self, pointer, count):
        """`count` neighbours in one load: 16 bytes, or one number."""
        if count == 1:
            return [self.builder.load(pointer)]
        vector = ir.VectorType(self.scalar, count)
        pointer = self.builder.bitcast(pointer, vector.as_pointer(pointer.type.addrspace))
        value = self.builder.load(pointer, align=count * self.size)
        return [self.builder.extract_element(value, INT32(i)) for i in range(count)]

    def store_vector(self, numbers, pointer):
        if len(numbers) == 1:
            self.builder.store(numbers[0], pointer)
            return
        vector = ir.VectorType(self.scalar, len(numbers))
        value = ir.Constant(vector, ir.Undefined)
        for i, number in enumerate(numbers):
            value = self.builder.insert_element(value, number, INT32(i))
        pointer = self.builder.bitcast(pointer, vector.as_pointer(pointer.type.addrspace))
        self.builder.store(value, pointer, align=len(numbers) * self.size)

    def unpack(self, fragment):
        return [self.builder.extract_value(fragment, i) for i in range(fragment.type.count)]

    def pack(self, numbers):
        value = ir.Constant(ir.ArrayType(self.scalar, len(numbers)), ir.Undefined)
        for i, number in enumerate(numbers):
            value = self.builder.insert_value(value, number, i)
        return value

    def below(self, index, count):
        return self.builder.icmp_signed("<", index, count)


@intrinsic
def shared(typingctx, tile):
    def codegen(context, builder, sig, args):
        # If it is more than a kernel may have by itself, the launch gives the size.
        size = 0 if tile.value.dynamic_bytes else tile.value.panels
        array = ir.ArrayType(scalar(tile.value.dtype), size)
        memory = cgutils.add_global_variable(builder.module, array, "panels", SHARED)
        memory.align = 16
        if size:
            memory.linkage = "internal"
            memory.initializer = ir.Constant(array, ir.Undefined)
        return builder.gep(memory, [INT32(0), INT32(0)], inbounds=True)

    return Shared(tile.value)(tile), codegen


@intrinsic
def partials(typingctx, tile):
    def codegen(context, builder, sig, args):
        e = Emitter(builder, tile.value.dtype)
        array = ir.ArrayType(e.scalar, tile.value.levels * tile.value.numbers)
        with builder.goto_entry_block():  # Numba fills its own local arrays with zeros
            memory = builder.alloca(array)
        memory.align = 16
        return builder.bitcast(memory, e.scalar.as_pointer())

    return Partials(tile.value)(tile), codegen


@intrinsic
def zero(typingctx, tile):
    def codegen(context, builder, sig, args):
        e = Emitter(builder, tile.value.dtype)
        return e.pack([e.number(0.0)] * tile.value.numbers)

    return Fragment(tile.value)(tile), codegen


@intrinsic
def outer(typingctx, acc, panels, a, b):
    def codegen(context, builder, sig, args):
        tile = acc.tile
        e = Emitter(builder, tile.dtype)
        fragment, memory, a, b = args
        a_at, b_at = (builder.gep(memory, [at], inbounds=True) for at in (a, b))
        numbers = e.unpack(fragment)

        def line(at, count, vector, place, pitch, p):
            """The fragment's part of a panel's term."""
            for i in range(0, count, vector):
                yield from e.load_vector(e.beside(at, p * pitch + place(i)), vector)

        for p in range(tile.turn):
            rows = list(line(a_at, tile.rows, tile.row_vector, tile.row, tile.a.pitch, p))
            columns = list(
                line(b_at, tile.columns, tile.column_vector, tile.column, tile.b.pitch, p)
            )
            pairs = [(x, y) for x in rows for y in columns]
            numbers = [builder.fma(x, y, s) for (x, y), s in zip(pairs, numbers, strict=True)]
        return e.pack(numbers)

    return acc(acc, panels, types.int32, types.int32), codegen


@intrinsic
def add(typingctx, left, right):
    def codegen(context, builder, sig, args):
        e = Emitter(builder, left.tile.dtype)
        pairs = zip(e.unpack(args[0]), e.unpack(args[1]), strict=True)
        return e.pack([builder.fadd(x, y) for x, y in pairs])

    return left(left, right), codegen


def _partial(builder, tile, memory, level):
    """The vectors of a level's fragment: numbers in each, and their places."""
    e = Emitter(builder, tile.dtype)
    vector = 16 // e.size if tile.numbers % (16 // e.size) == 0 else 1
    offset = builder.mul(builder.trunc(level, INT32), INT32(tile.numbers))
    start = builder.gep(memory, [offset], inbounds=True)
    return e, vector, [(i, e.beside(start, i)) for i in range(0, tile.numbers, vector)]


@intrinsic
def keep(typingctx, acc, partials, level):
    def codegen(context, builder, sig, args):
        fragment, memory, level = args
        e, vector, places = _partial(builder, acc.tile, memory, level)
        numbers = e.unpack(fragment)
        for i, place in places:
            e.store_vector(numbers[i : i + vector], place)
        return context.get_dummy_value()

    return types.void(acc, partials, types.int64), codegen


@intrinsic
def kept(typingctx, tile, partials, level):
    def codegen(context, builder, sig, args):
        e, vector, places = _partial(builder, tile.value, *args[1:])
        return e.pack([x for _, place in places for x in e.load_vector(place, vector)])

    return Fragment(tile.value)(tile, partials, types.int64), codegen


@intrinsic
def finish(typingctx, acc, bias, row_stride, col_stride, rows, cols, divisor):
    """`bias` is the address of the fragment's first bias, 0 for none; `divisor` is 0 for none.

    It goes row by row: the addresses of all biases at once would not fit the registers.
    """

    def codegen(context, builder, sig, args):
        tile = acc.tile
        e = Emitter(builder, tile.dtype)
        fragment, bias, row_stride, col_stride, rows, cols, divisor = args
        biased = builder.icmp_signed("!=", bias, INT64(0))
        divided = builder.fcmp_unordered("!=", divisor, ir.Constant(divisor.type, 0))
        K = divisor if e.scalar == divisor.type else builder.fptrunc(divisor, e.scalar)

        def inside(stride, index, count):
            """The offset of a row or column; beyond C, the offset of the fragment's first."""
            index = builder.select(e.below(INT32(index), count), INT64(index), INT64(0))
            return builder.mul(stride, index)

        numbers = e.unpack(fragment)
        for r in range(tile.rows):
            row = slice(r * tile.columns, (r + 1) * tile.columns)
            slot = cgutils.alloca_once_value(builder, e.pack(numbers[row]))
            with builder.if_then(biased):
                start = builder.add(bias, inside(row_stride, tile.row(r), rows))
                places = [
                    builder.add(start, inside(col_stride, tile.column(c), cols))
                    for c in range(tile.columns)
                ]
                added = [builder.load(e.at(place)) for place in places]
                pairs = zip(e.unpack(builder.load(slot)), added, strict=True)
                builder.store(e.pack([builder.fadd(x, y) for x, y in pairs]), slot)
            with builder.if_then(divided):
                quotients = [builder.fdiv(x, K) for x in e.unpack(builder.load(slot))]
                builder.store(e.pack(quotients), slot)
            numbers[row] = e.unpack(builder.load(slot))
        return e.pack(numbers)

    return (
        acc(acc, types.int64, types.int64, types.int64, types.int32, types.int32, types.float64),
        codegen,
    )


@intrinsic
def put(typingctx, acc, c, row_stride, col_stride, rows, cols):
    """`c` is the address of the fragment's first number; `rows` and `cols` count from there."""

    def codegen(context, builder, sig, args):
        tile = acc.tile
        e = Emitter(builder, tile.dtype)
        fragment, address, row_stride, col_stride, rows, cols = args
        numbers = e.unpack(fragment)
        vector = tile.column_vector
        # Store 16 bytes at once if columns are contiguous and rows aligned to 16 bytes.
        rest = builder.and_(builder.or_(address, row_stride), INT64(vector * e.size - 1))
        wide = builder.and_(
            builder.icmp_signed("==", col_stride, INT64(e.size)),
            builder.icmp_signed("==", rest, INT64(0)),
        )
        for r in range(tile.rows):
            with builder.if_then(e.below(INT32(tile.row(r)), rows)):
                start = e.along(address, row_stride, tile.row(r))
                for c in range(0, tile.columns, vector):
                    group = numbers[r * tile.columns + c :][:vector]
                    inside = e.below(INT32(tile.column(c + vector - 1)), cols)
                    with builder.if_else(builder.and_(wide, inside)) as (then, orelse):
                        with then:
                            e.store_vector(group, e.at(e.along(start, col_stride, tile.column(c))))
                        with orelse:
                            for i, number in enumerate(group):
                                with builder.if_then(e.below(INT32(tile.column(c + i)), cols)):
                                    place = e.along(start, col_stride, tile.column(c + i))
                                    builder.store(number, e.at(place))
        return context.get_dummy_value()

    return (
        types.void(acc, types.int64, types.int64, types.int64, types.int32, types.int32),
        codegen,
    )


def _numba_type(constant):
    return {"float32": types.float32, "float64": types.float64}[constant.value.dtype]


@intrinsic
def get(typingctx, number, at):
    def codegen(context, builder, sig, args):
        return builder.load(Emitter(builder, number.value.dtype).at(args[1]))

    return _numba_type(number)(number, types.int64), codegen


@intrinsic
def give(typingctx, number, at, value):
    def codegen(context, builder, sig, args):
        builder.store(args[2], Emitter(builder, number.value.dtype).at(args[1]))
        return context.get_dummy_value()

    return types.void(number, types.int64, _numba_type(number)), codegen


@intrinsic
def thread_again(typingctx):
    """Volatile, so that what depends on it is not computed before the loop and kept."""

    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(INT32, [])
        return builder.asm(kind, "mov.u32 $0, %tid.x;", "=r", [], side_effect=True)

    return types.int32(), codegen


@intrinsic
def one(typingctx, panel):
    def codegen(context, builder, sig, args):
        kind = scalar(panel.value.dtype)
        number = cgutils.add_global_variable(builder.module, kind, "one", GLOBAL)
        number.linkage = "internal"
        number.global_constant = True
        number.initializer = ir.Constant(kind, 1.0)
        return builder.ptrtoint(number, INT64)

    return types.int64(panel), codegen


def _numbers(panel):
    return types.UniTuple(_numba_type(panel), panel.value.share)


@intrinsic
def fetch(typingctx, panel, at, row_stride):
    def codegen(context, builder, sig, args):
        e = Emitter(builder, panel.value.dtype)
        _, at, row_stride = args
        count = len(panel.value.within)
        step = builder.mul(row_stride, INT64(panel.value.rows_at_once))
        places = [e.at(e.along(at, step, v)) for v in range(panel.value.units)]
        numbers = [x for place in places for x in e.load_vector(place, count)]
        return context.make_tuple(builder, sig.return_type, numbers)

    return _numbers(panel)(panel, types.int64, types.int64), codegen


@intrinsic
def fetch_part(typingctx, panel, at, row_stride, rows, terms):
    """`rows` and `terms` count from the thread's first number."""

    def codegen(context, builder, sig, args):
        e = Emitter(builder, panel.value.dtype)
        _, at, row_stride, rows, terms = args
        pad, within = e.number(panel.value.pad), panel.value.within
        numbers = []

        def inside(row, term):
            is_row, is_term = e.below(INT32(row), rows), e.below(INT32(term), terms)
            return builder.and_(is_row, is_term)

        step = builder.mul(row_stride, INT64(panel.value.rows_at_once))
        for v in range(panel.value.units):
            row = v * panel.value.rows_at_once
            slots = [cgutils.alloca_once_value(builder, pad) for _ in within]
            last_row, last_term = within[-1]
            whole = inside(row + last_row, last_term)
            with builder.if_then(whole):
                loaded = e.load_vector(e.at(e.along(at, step, v)), len(within))
                for slot, number in zip(slots, loaded, strict=True):
                    builder.store(number, slot)
            for n, (i, p) in enumerate(within[:-1]):
                with builder.if_then(builder.and_(builder.not_(whole), inside(row + i, p))):
                    place = e.beside(e.at(e.along(at, step, v)), n)
                    builder.store(builder.load(place), slots[n])
            numbers += [builder.load(slot) for slot in slots]
        return context.make_tuple(builder, sig.return_type, numbers)

    signature = _numbers(panel)(panel, types.int64, types.int64, types.int32, types.int32)
    return signature, codegen


@intrinsic
def stash(typingctx, panel, panels, at, numbers):
    def codegen(context, builder, sig, args):
        e = Emitter(builder, panel.value.dtype)
        _, memory, at, numbers = args
        start = builder.gep(memory, [at], inbounds=True)
        rows, terms = panel.value.unit
        values = iter(e.unpack(numbers))
        for v in range(panel.value.units):
            row = v * panel.value.rows_at_once
            unit = [next(values) for _ in range(rows * terms)]
            for p in range(terms):
                place = e.beside(start, p * panel.value.pitch + row)
                e.store_vector(unit[p::terms], place)
        return context.get_dummy_value()

    return types.void(panel, panels, types.int32, numbers), codegen

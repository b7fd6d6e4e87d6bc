"""Resident functions: compiled once for each type of their first argument, and called by symbol.

Numba copies a called function's code into each caller and optimises it there again. For the engine
that would cost seconds in every user's function. A resident function is compiled or read from the
cache together with its first caller, and all callers share that copy.

A *linked* function is compiled once and cached too, but as LLVM's bitcode, which each caller links
and inlines. It suits code that must cost little at a call and little in its caller's compilation.

A *late* function is compiled for the first call from Python that needs it. Its callers know only a
word, by name, that holds its address. While that is 0, a call does nothing and returns the
function's code from WANTS on; Python then loads it and repeats the whole call. What compiles a
caller for `@njit` loads all late functions with it: compiled code must not wait for Python.

A resident function does not raise. This saves its callers a branch, and Numba the counting of
references around the call. It reports failure by the integer that it returns.
"""

import contextlib
import functools
import gc
import inspect
import sys

from llvmlite import binding, ir
from numba import config, njit, types
from numba.core import cgutils
from numba.core.errors import UnsupportedError
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from numba_linear.codes import FINE, WANTS
from numba_linear.cpu.launch import missing_threads
from numba_linear.jit.build import build
from numba_linear.jit.compiler import OPTIONS
from numba_linear.jit.interrupts import uninterrupted
from numba_linear.jit.private import (
    Cache,
    call_code,
    code_of,
    code_type,
    compiler_lock,
    keep,
    link,
)
from numba_linear.jit.words import new_words, slot_with, word_of

RESIDENTS: dict[str, "Resident"] = {}

#: The late ones, by number; and their addresses for each dtype, 0 without code.
LATE: list["Resident"] = []
FOUND = {
    dtype: new_words(f"numba_linear.late.{dtype}", 32) for dtype in (types.float32, types.float64)
}


@contextlib.contextmanager
def no_collection():
    """Pause the garbage collector, which takes 0.7 s of 6 s of compiling and finds little."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextlib.contextmanager
def told_to_compile():
    """Switch `DISABLE_JIT` off meanwhile: with it compiling would fail half way."""
    told, config.DISABLE_JIT = config.DISABLE_JIT, 0
    try:
        yield
    finally:
        config.DISABLE_JIT = told


class CompileTime(types.Type):
    """A type that only parametrises resident functions."""

    def __init__(self, name):
        self.build = build()
        super().__init__(name=name)

    @property
    def key(self):
        return self.name, self.build


class OneOf(CompileTime):
    """One of several shapes, chosen at run time by its index."""

    def __init__(self, shapes):
        self.shapes = tuple(shapes)
        super().__init__(name=f"OneOf{self.shapes}")


@register_model(OneOf)
class OneOfModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.IntType(64))


def kind(annotation, first):
    """The Numba type of a parameter with this annotation; `first` is the first parameter's."""
    if annotation in (inspect.Parameter.empty, int):
        return types.intp
    if annotation is float:
        return types.float64
    if isinstance(annotation, types.Type):
        return annotation
    if issubclass(annotation, tuple):
        fields = [kind(field, first) for field in annotation.__annotations__.values()]
        return types.BaseTuple.from_types(fields, annotation)
    return first


class Resident:
    """A function and its machine code so far."""

    def __init__(self, function, ready, linked, late, threads, options):
        self.ready, self.linked, self.late, self.threads = ready, linked, late, threads
        self.name = f"{function.__module__}.{function.__name__}"
        self.signature = inspect.signature(function)
        self.annotations = [p.annotation for p in self.signature.parameters.values()]
        self.result = types.intp if self.signature.return_annotation is int else types.none
        self.function = function
        self.options = OPTIONS | options | ({"forceinline": True} if linked else {})
        self.cached = None
        self.addresses = {}
        self.entries = {}
        if late:
            self.number = len(LATE)
            LATE.append(self)

    @functools.cached_property
    def dispatcher(self):
        """Made on demand: there is none while `DISABLE_JIT` is set."""
        return njit(**self.options)(self.function)

    def typed(self, first):
        """The signature for the type of the first argument."""
        return self.result(first, *[kind(each, first) for each in self.annotations[1:]])

    def entry(self, first):
        """The function as Python calls it."""
        self.load(first)
        return self.entries[first]

    def enable_caching(self):
        """Whether Numba found a folder for its cache."""
        try:
            if Cache is None:
                self.dispatcher.enable_caching()
            else:
                self.dispatcher._cache = Cache(self.dispatcher.py_func)
        except RuntimeError:
            return False
        return True

    def symbol(self, first):
        return f"{self.name}({first})"

    def declared(self, context, builder, first):
        """The code for this type of first argument, in a module that is being built."""
        kind, symbol = code_type(context, self.typed(first)), self.symbol(first)
        if self.linked:
            symbol = link(context, self.dispatcher, self.typed(first).args)
        return cgutils.get_or_insert_function(builder.module, kind, symbol)

    def call(self, context, builder, callee, first, args):
        status, result = call_code(context, builder, callee, self.typed(first), args)
        if self.result == types.intp:  # Numba's code for prange raises if memory is short
            result = builder.select(status.is_error, ir.Constant(ir.IntType(64), 1), result)
        return result

    def found(self, builder, first, index):
        """The address of the late function so many numbers on, whether there is one, and the code
        that wants it."""
        number = builder.add(index, ir.Constant(index.type, self.number))
        table = word_of(builder, f"numba_linear.late.{first.dtype}")
        address = builder.load(builder.gep(table, [number]))
        there = builder.icmp_unsigned("!=", address, ir.Constant(address.type, 0))
        return address, there, builder.add(number, ir.Constant(number.type, WANTS))

    def call_late(self, context, builder, first, args, index):
        """The result, FINE for none, or the code that wants the function."""
        address, there, code = self.found(builder, first, index)
        code = slot_with(builder, code)
        with builder.if_then(there, likely=True):
            kind = code_type(context, self.typed(first)).as_pointer()
            result = self.call(context, builder, builder.inttoptr(address, kind), first, args)
            if self.result != types.intp:
                result = context.get_constant(types.intp, FINE)
            builder.store(result, code)
        return builder.load(code)

    def load(self, first):
        """Make the symbol for this type of first argument resolve."""
        if first in self.addresses:
            return
        if self.options.get("parallel"):
            reason = missing_threads()
            if reason:
                raise RuntimeError(f"numba_linear: Numba can start no threads ({reason})")
        with compiler_lock, no_collection(), uninterrupted(), told_to_compile():
            args = self.typed(first).args
            if self.cached is None:
                self.cached = self.enable_caching()
            self.entries[first] = self.dispatcher.compile(args)
            address = code_of(self.dispatcher, args)
            binding.add_symbol(self.symbol(first), address)
            if self.ready:
                self.ready(first)
            if self.late:
                FOUND[first.dtype][self.number] = address
            self.addresses[first] = address  # last: another thread now takes it for loaded


class Needed:
    """A constant of compiled callers: reading a caller from a cache loads the resident first."""

    def __init__(self, name, first):
        self.name, self.first = name, first

    def __reduce__(self):
        refuse_ahead()
        return need, (self.name, self.first)


def refuse_ahead():
    """Raise if numba.pycc is at work.

    Checked when a call is typed and, for a function that was compiled before, when its constants
    are pickled, which Numba 0.61 does only for what it exports.
    """
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "numba.pycc.compiler":
            raise UnsupportedError(
                "numba_linear cannot be compiled ahead of time by numba.pycc: what calls it needs"
                " functions that its own process compiles or reads from a cache. Use"
                " @njit(cache=True), which compiles once for all processes"
            )
        frame = frame.f_back


def need(name, first):
    if first.build != build():
        # Numba's cache takes this for a missing file and compiles anew
        raise FileNotFoundError(f"{name} was cached by another build of numba_linear")
    RESIDENTS[name].load(first)
    return Needed(name, first)


def load_late(dtype, threads=()):
    """Load the late functions for a dtype, of those for threads only these.

    Returns constants of compiled callers.
    """
    wanted = [each for each in LATE if not each.threads or each.function in threads]
    firsts = {each.name: each.late(dtype) for each in wanted}
    return [need(name, first) for name, first in firsts.items() if first]


def load_wanted(code, dtype):
    """Load the late function of a code; "" or why Numba can start no threads for it."""
    wanted = LATE[code - WANTS]
    reason = missing_threads() if wanted.threads else ""
    if not reason:
        wanted.load(wanted.late(dtype))
    return reason


def resident(function=None, ready=None, linked=False, late=None, threads=False, **options):
    """Decorate a function that is compiled once for each type of its first argument.

    The other parameters are integers, or what their annotation says: `float`, a named tuple or a
    Numba type; any other annotation means the first one's type. A result is annotated `int`.
    `ready` is called with the type once there is code, before anything calls it. If `linked`, LLVM
    copies the code into its callers. A `late` function is one with this: it gives the first
    argument's type for a dtype, or None if this machine never calls the function. It may need
    `threads`. `options` of `numba.njit` override `OPTIONS`.
    """
    if function is None:
        return lambda function: resident(function, ready, linked, late, threads, **options)
    owner = function.resident = Resident(function, ready, linked, late, threads, options)
    RESIDENTS[owner.name] = owner

    @type_callable(function)
    def type_call(context):
        def typer(*args):
            first = args[0]
            if owner.late:
                return types.intp(*owner.typed(first).args)
            for shape in first.shapes if isinstance(first, OneOf) else [first]:
                owner.load(shape)
            return owner.typed(first)

        typer.pysig = owner.signature
        return typer

    @lower_builtin(function, types.VarArg(types.Any))
    def lower(context, builder, sig, args):
        first = sig.args[0]
        if owner.late:
            own = context.get_constant(types.intp, 0)
            return owner.call_late(context, builder, first, args, own)
        shapes = first.shapes if isinstance(first, OneOf) else [first]
        keep(context, builder, *(Needed(owner.name, shape) for shape in shapes))
        callees = [owner.declared(context, builder, shape) for shape in shapes]
        callee = callees[0]
        if isinstance(first, OneOf):
            table = ir.Constant(ir.ArrayType(callee.type, len(callees)), callees)
            table = cgutils.global_constant(builder, "shapes", table)
            zero = ir.Constant(ir.IntType(64), 0)
            callee = builder.load(builder.gep(table, [zero, args[0]]))
            args = [context.get_dummy_value(), *args[1:]]
        return owner.call(context, builder, callee, shapes[0], args)

    return function


def address_of(function):
    """An operation: the address of a resident function's code for the type of its argument."""
    owner = function.resident

    def word(typingctx, first):
        owner.load(first)

        def codegen(context, builder, sig, args):
            keep(context, builder, Needed(owner.name, first))
            return builder.ptrtoint(owner.declared(context, builder, first), ir.IntType(64))

        return types.intp(first), codegen

    return intrinsic(word)


def call_address(function):
    """An operation: call a resident function of three parameters by its address, the first
    argument."""
    owner = function.resident

    def word(typingctx, address, first, second, third):
        signature = owner.typed(first)

        def codegen(context, builder, sig, args):
            callee = builder.inttoptr(args[0], code_type(context, signature).as_pointer())
            return owner.call(context, builder, callee, first, args[1:])

        return signature.return_type(types.intp, *signature.args), codegen

    return intrinsic(word)


def wants(function):
    """An operation: FINE if a late function is there, or else the code that wants it."""
    owner = function.resident

    def word(typingctx, first):
        def codegen(context, builder, sig, args):
            zero = context.get_constant(types.intp, FINE)
            _, there, code = owner.found(builder, first, zero)
            return builder.select(there, zero, code)

        return types.intp(first), codegen

    return intrinsic(word)


def one_of(*functions):
    """An operation: call the late function of an index, the first argument. They have the same two
    parameters, and were defined in this order, one after the other."""
    owner = functions[0].resident
    assert LATE[owner.number :][: len(functions)] == [each.resident for each in functions]

    def word(typingctx, index, first, second):
        def codegen(context, builder, sig, args):
            return owner.call_late(context, builder, first, args[1:], args[0])

        return types.intp(types.intp, *owner.typed(first).args), codegen

    return intrinsic(word)


def cache_state():
    """Where Numba keeps compiled code, and how many functions this process read or compiled."""
    counts = [r.dispatcher.stats for r in RESIDENTS.values() if r.cached]
    if not counts:
        return "off, for want of a folder that Numba can write to"
    hits = sum(sum(stats.cache_hits.values()) for stats in counts)
    misses = sum(sum(stats.cache_misses.values()) for stats in counts)
    return f"{counts[0].cache_path}, {hits} functions read, {misses} compiled"

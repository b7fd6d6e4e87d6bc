"""Memory of compiled code: integers that it finds by name, also if it comes from another process's
cache, and slots on the stack."""

import ctypes

from llvmlite import binding, ir


def new_word(symbol, value):
    """An integer at an address of that name; the caller must keep it alive."""
    word = ctypes.c_int64(value)
    binding.add_symbol(symbol, ctypes.addressof(word))
    return word


def new_words(symbol, count):
    """The same for so many integers, all 0."""
    words = (ctypes.c_int64 * count)()
    binding.add_symbol(symbol, ctypes.addressof(words))
    return words


def word_of(builder, symbol):
    """The address of an integer, for code that is being built."""
    try:
        return builder.module.get_global(symbol)
    except KeyError:
        return ir.GlobalVariable(builder.module, ir.IntType(64), symbol)


def slot_of(builder, kind):
    """A slot of an LLVM type. Numba's own are filled with zeros at each call of the function, and
    where LLVM copies the function, at each iteration of the caller's loop."""
    with builder.goto_entry_block():
        return builder.alloca(kind)


def slot_with(builder, value):
    """A slot with a value."""
    slot = slot_of(builder, value.type)
    builder.store(value, slot)
    return slot

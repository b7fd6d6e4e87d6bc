"""Words of the process that compiled code finds by name, in another process too."""

import ctypes

from llvmlite import binding, ir


def new_word(symbol, value):
    """An integer at an address of that name; it is the caller's to keep."""
    word = ctypes.c_int64(value)
    binding.add_symbol(symbol, ctypes.addressof(word))
    return word


def word_of(builder, symbol):
    """The address of an integer, for code that is being built."""
    try:
        return builder.module.get_global(symbol)
    except KeyError:
        return ir.GlobalVariable(builder.module, ir.IntType(64), symbol)

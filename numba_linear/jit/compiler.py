"""How the package's functions are compiled: every option, for the engine and for the calls."""

from numba.extending import overload

from numba_linear.jit.private import Compiler, InlinedCompiler

#: Every option of `numba.njit`. A function compiled during its caller's compilation inherits the
#: options that are not set, such as fastmath, which would change bits, in the cache too.
#: `tests/robust/test_flags.py` compares this with Numba's own lists.
PLAIN = {
    "boundscheck": False,
    "debug": False,
    "error_model": "python",
    "fastmath": False,
    "forceinline": False,
    "inline": "never",
    "looplift": False,
    "no_cfunc_wrapper": True,
    "no_cpython_wrapper": True,
    "no_rewrites": False,
    "nogil": True,
    "parallel": False,
    "_dbg_extend_lifetimes": False,
    "_dbg_optnone": False,
    "_nrt": True,
}

#: For the engine, which neither raises nor counts references.
OPTIONS = PLAIN | {"error_model": "numpy"}

#: The same for a function that LLVM copies into its callers.
INLINED = OPTIONS | {"forceinline": True}
if Compiler is not None:
    OPTIONS = OPTIONS | {"pipeline_class": Compiler}
    INLINED = INLINED | {"pipeline_class": InlinedCompiler}


def inlined(function):
    """Decorate a function that LLVM copies into its callers.

    Unlike with `njit`, a constant argument is an integer like any other: nothing is compiled again
    for it.
    """
    overload(function, jit_options=INLINED, strict=False)(lambda *arguments: function)
    return function

"""The kernels' operations, for a GPU or for Numba's simulator, and how kernels are compiled."""

import importlib
from typing import Any

from numba import cuda
from numba.cuda import types
from numba.cuda.core import config

from numba_linear.cpu.matrix import Matrix
from numba_linear.cuda.compiled import Kernel

words: Any
if config.ENABLE_CUDASIM:
    words = importlib.import_module("numba_linear.cuda.simulated")
    int32 = int64 = int
else:
    words = importlib.import_module("numba_linear.cuda.fragment")
    int32, int64 = types.int32, types.int64

NUMBA_TYPES = {"float32": types.float32, "float64": types.float64}
#: Types of the kernels' arguments.
INT, FLOAT = types.int64, types.float64
MATRIX = types.NamedUniTuple(types.int64, len(Matrix._fields), Matrix)

add = words.add
fetch = words.fetch
fetch_part = words.fetch_part
finish = words.finish
get = words.get
give = words.give
keep = words.keep
kept = words.kept
one = words.one
outer = words.outer
partials = words.partials
put = words.put
shared = words.shared
stash = words.stash
thread_again = words.thread_again
zero = words.zero


def device(function):
    """Compile a function for kernels to call."""
    if config.ENABLE_CUDASIM:
        return function
    # Inlined, so that fragments stay in registers.
    return cuda.jit(device=True, forceinline=True)(function)


def kernel(name, threads, blocks, types, shared_bytes=0):
    """A kernel for blocks of `threads` threads, `blocks` of which fit a multiprocessor at once."""
    jit = cuda.jit if config.ENABLE_CUDASIM else lambda function: function
    return lambda function: Kernel(name, jit(function), threads, blocks, types, shared_bytes)

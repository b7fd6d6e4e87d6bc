"""The caller's floating-point environment changes no bit, and is restored."""

import ctypes
import functools
import platform

import numpy as np
import pytest
from bits import assert_bits
from numba import njit, prange
from operations import DTYPES, OPERATIONS, assert_result, expected, operands

from numba_linear import forward, grad_weight

libm = ctypes.CDLL(None)
if not hasattr(libm, "fesetround"):
    pytest.skip("needs the C library's rounding modes", allow_module_level=True)

if platform.machine() in ("x86_64", "AMD64"):
    #: A function of two instructions: `ldmxcsr [rdi]` or `stmxcsr [rdi]`, and `ret`.
    LOAD, STORE = b"\x0f\xae\x17\xc3", b"\x0f\xae\x1f\xc3"
    FLUSH = 0x8040  # flush to zero, and denormals are zero
    ROUND, DOWN, UP, TO_ZERO = 0x0400 << 3, 1, 2, 3
    KEPT = 0xFFC0
elif platform.machine() == "aarch64":
    #: `ldr x1, [x0]`, `msr fpcr, x1` or `mrs x1, fpcr`, `str x1, [x0]`, and `ret`.
    LOAD = bytes.fromhex("010040f9 01441bd5 c0035fd6")
    STORE = bytes.fromhex("01443bd5 010000f9 c0035fd6")
    FLUSH = 1 << 24
    ROUND, DOWN, UP, TO_ZERO = 1 << 22, 2, 1, 3
    KEPT = FLUSH | 3 * ROUND
else:
    pytest.skip("knows the registers of x86-64 and AArch64", allow_module_level=True)


def machine_code(code):
    import mmap

    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    function = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_uint64))(address)
    function.page = page
    return function


load, store = machine_code(LOAD), machine_code(STORE)


class Environment:
    """Another rounding mode of the calling thread, or subnormals flushed to zero."""

    def __init__(self, bits):
        self.bits = bits

    def __enter__(self):
        self.word = ctypes.c_uint64()
        store(ctypes.byref(self.word))
        load(ctypes.byref(ctypes.c_uint64(self.word.value | self.bits)))

    def __exit__(self, *_):
        now = ctypes.c_uint64()
        store(ctypes.byref(now))
        load(ctypes.byref(self.word))
        assert now.value & KEPT == (self.word.value | self.bits) & KEPT


ENVIRONMENTS = {
    "flush to zero": FLUSH,
    "downward": DOWN * ROUND,
    "upward": UP * ROUND,
    "toward zero": TO_ZERO * ROUND,
}


def small_numbers(shape, dtype, seed):
    """Numbers whose products are partly subnormal, with many bits."""
    numbers = np.random.default_rng(seed).standard_normal(shape)
    return (numbers * np.sqrt(np.finfo(dtype).tiny) * 0.7).astype(dtype)


SHAPES = [(1, 3, 5), (4, 8, 8), (37, 300, 50), (700, 40, 60)]


@functools.cache
def case(name, shape, dtype):
    """Operands and the equations' results, the same for every environment."""
    given = operands(*shape, dtype, small_numbers)
    return given, expected(OPERATIONS[name], given)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_from_python(name, environment):
    operation = OPERATIONS[name]
    for shape in SHAPES:
        for dtype in DTYPES:
            given, want = case(name, shape, dtype)
            for parallel in (False, True):
                operation(given, parallel=parallel)  # compiled in the default environment
                with Environment(ENVIRONMENTS[environment]):
                    got = operation(given, parallel=parallel)
                assert_result(f"{name} {shape} parallel={parallel}", got, want)


@njit
def each(x, w, y):
    for k in range(len(x)):
        forward(x[k], w, None, y[k])


@njit(parallel=True)
def in_prange(x, w, y):
    for k in prange(len(x)):
        forward(x[k], w, None, y[k])


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_inside_njit(environment):
    for n, m in [(3, 5), (40, 60)]:
        given = operands(9, n, m, np.float32, small_numbers)
        want = expected(OPERATIONS["forward without b"], given)
        for function in (each, in_prange):
            got = np.empty_like(want)
            function(given.x, given.w, got)
            got[:] = np.nan
            with Environment(ENVIRONMENTS[environment]):
                function(given.x, given.w, got)
            assert_bits(f"{function.__name__} {n} {m}", got, want)


def test_the_environments_differ():
    """The comparison can fail: a user's loop gives other bits in each environment."""

    @njit
    def loop(g, x, out):
        for i in range(len(g)):
            for j in range(len(x)):
                out[i, j] = g[i] * x[j]

    g, x = (small_numbers(30, np.float32, seed) for seed in (0, 1))
    want, ours = np.empty((30, 30), np.float32), grad_weight(g, x)
    loop(g, x, want)
    for name, bits in ENVIRONMENTS.items():
        got = np.empty_like(want)
        with Environment(bits):
            loop(g, x, got)
            again = grad_weight(g, x)
        assert (got != want).any(), name
        assert_bits(name, again, ours)

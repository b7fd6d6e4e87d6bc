"""The same call everywhere: from Python, inside @njit, @njit(parallel=True), the user's prange.

Each function below is written once, as a user would write it, and runs in the three worlds.
"""

import numba
import numpy as np
import pytest
from bits import assert_bits
from numba import njit, prange
from operations import DTYPES, OPERATIONS, assert_result, expected, operands, parts

from numba_linear import Gradients, backward, forward, grad_bias, grad_input, grad_weight

WORLDS = {
    "Python": lambda function: function,
    "njit": njit,
    "njit(parallel=True)": njit(parallel=True),
}

# A user's function without a prange of its own may still be compiled with parallel=True.
pytestmark = pytest.mark.filterwarnings(
    "ignore:(?s).*no transformation for parallel execution:numba.NumbaPerformanceWarning"
)


def every_call(x, w, b, g):
    """Every operation once, positional, keyword and default arguments mixed."""
    return (
        forward(x, w, b),
        forward(x, w),
        forward(x=x, b=b, w=w),
        forward(x, w, None),
        grad_input(g, w),
        grad_input(w=w, g=g),
        grad_weight(g, x),
        grad_weight(g, x, "sum"),
        grad_weight(x=x, g=g, reduction="none"),
        grad_bias(g),
        grad_bias(g, "sum"),
        grad_bias(g=g, reduction="none"),
        backward(g, x, w),
        backward(g, x, w, "sum"),
        backward(w=w, x=x, g=g, reduction="none"),
    )


EVERY_CALL = [
    "forward",
    "forward without b",
    "forward",
    "forward without b",
    "grad_input",
    "grad_input",
    *(f"grad_weight {reduction}" for reduction in ("mean", "sum", "none")),
    *(f"grad_bias {reduction}" for reduction in ("mean", "sum", "none")),
    *(f"backward {reduction}" for reduction in ("mean", "sum", "none")),
]


def every_call_out(x, w, b, g, y, dx, dw, db, each_dw, each_db):
    """Every operation into existing arrays, results discarded."""
    forward(x, w, b, y)
    forward(x, w, b=b, out=y)
    grad_input(g, w, dx)
    grad_input(g, w, out=dx)
    grad_weight(g, x, "mean", dw)
    grad_weight(g, x, out=dw)
    grad_weight(g, x, reduction="none", out=each_dw)
    grad_bias(g, "mean", db)
    grad_bias(g, out=db)
    grad_bias(g, reduction="none", out=each_db)


def backward_out(x, w, g, dx, dw, db):
    out = Gradients(dx, dw, db)
    backward(g, x, w, "mean", out)
    return backward(g, x, w, out=out)


def threads_chosen(x, w, b, g):
    """`parallel` given both ways, and left to its default, everywhere."""
    return (
        (forward(x, w, b, parallel=True), forward(x, w, b, None, parallel=False)),
        (grad_input(g, w, parallel=True), grad_input(g, w, parallel=False)),
        (grad_weight(g, x, parallel=True), grad_weight(g, x, "mean", parallel=False)),
        (grad_bias(g, parallel=True), grad_bias(g, parallel=False)),
        (backward(g, x, w, parallel=True), backward(g, x, w, parallel=False)),
    )


def train(x, w1, b1, w2, b2, target, steps):
    """A two-layer network, the package's purpose."""
    zero, rate = x.dtype.type(0), x.dtype.type(0.125)
    for _ in range(steps):
        a = np.maximum(forward(x, w1, b1), zero)
        g = forward(a, w2, b2) - target
        second = backward(g, a, w2)
        first = backward(second.input * (a > 0), x, w1)
        w2 -= rate * second.weight
        b2 -= rate * second.bias
        w1 -= rate * first.weight
        b1 -= rate * first.bias
    return forward(np.maximum(forward(x, w1, b1), zero), w2, b2)


@pytest.mark.parametrize(
    ("world", "dtype", "batch"),
    [
        *((world, dtype, (37,)) for world in WORLDS for dtype in DTYPES),
        *((world, np.float32, batch) for world in ("Python", "njit") for batch in ((), (3, 4))),
    ],
    ids=str,
)
def test_every_call(world, dtype, batch):
    given = operands(batch, 41, 18, dtype)
    results = WORLDS[world](every_call)(given.x, given.w, given.b, given.g)
    for name, got in zip(EVERY_CALL, results, strict=True):
        assert_result(f"{name} in {world}", got, expected(OPERATIONS[name], given))


@pytest.mark.parametrize("world", WORLDS)
def test_every_call_out(world):
    given = operands(37, 41, 18, np.float64)
    names = ["forward", "grad_input", "grad_weight mean", "grad_bias mean"]
    names += ["grad_weight none", "grad_bias none"]
    wants = [expected(OPERATIONS[name], given) for name in names]
    outs = [np.full_like(want, np.nan) for want in wants]
    assert WORLDS[world](every_call_out)(given.x, given.w, given.b, given.g, *outs) is None
    for name, out, want in zip(names, outs, wants, strict=True):
        assert_bits(f"{name} in {world}", out, want)


@pytest.mark.parametrize("world", WORLDS)
def test_backward_out(world):
    given = operands(37, 41, 18, np.float32)
    want = expected(OPERATIONS["backward mean"], given)
    outs = [np.full_like(a, np.nan) for a in want]
    got = WORLDS[world](backward_out)(given.x, given.w, given.g, *outs)
    assert_result(f"backward in {world}", got, want)
    for part, out in zip(got, outs, strict=True):
        assert part.ctypes.data == out.ctypes.data


@pytest.mark.parametrize("world", WORLDS)
def test_threads_chosen(world):
    given = operands(300, 70, 45, np.float32)
    names = ["forward", "grad_input", "grad_weight mean", "grad_bias mean", "backward mean"]
    results = WORLDS[world](threads_chosen)(given.x, given.w, given.b, given.g)
    for name, pair in zip(names, results, strict=True):
        want = expected(OPERATIONS[name], given)
        for parallel, got in zip((True, False), pair, strict=True):
            assert_result(f"{name} in {world}, parallel={parallel}", got, want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_training_gives_the_same_bits_in_every_world(dtype):
    def small(shape, dtype, seed):
        return np.random.default_rng([seed, *shape]).normal(0, 0.3, shape).astype(dtype)

    def weights():
        first, second = operands(50, 13, 31, dtype, small), operands(50, 31, 4, dtype, small)
        return first.x, first.w, first.b, second.w, second.b, second.g

    results = {world: compiled(train)(*weights(), 5) for world, compiled in WORLDS.items()}
    for world, got in results.items():
        assert_bits(f"training in {world}", got, results["Python"])


@njit(parallel=True)
def each_sample(x, w, b, g, y, dx, dw, db):
    for k in prange(len(x)):
        forward(x[k], w, b, out=y[k])
        grad_input(g[k], w, out=dx[k])
        grad_weight(g[k], x[k], "sum", out=dw[k])
        grad_bias(g[k], out=db[k])


@njit(parallel=True)
def each_sample_backward(x, w, g, dx, dw, db):
    for k in prange(len(x)):
        gradients = backward(g[k], x[k], w)
        dx[k], dw[k], db[k] = gradients.input, gradients.weight, gradients.bias


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, numba.config.NUMBA_NUM_THREADS])
def test_inside_the_users_prange(dtype, threads):
    """One call per sample, on the user's own threads: the batch, bit for bit."""
    given = operands(67, 40, 23, dtype)
    y = expected(OPERATIONS["forward"], given)
    want = expected(OPERATIONS["backward none"], given)
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(threads)
        outs = [np.full_like(a, np.nan) for a in (y, *want)]
        each_sample(given.x, given.w, given.b, given.g, *outs)
        for name, out, wanted in zip(("forward", *want._fields), outs, (y, *want), strict=True):
            assert_bits(f"{name} in prange", out, wanted)
        outs = [np.full_like(a, np.nan) for a in want]
        each_sample_backward(given.x, given.w, given.g, *outs)
        assert_result("backward in prange", Gradients(*outs), want)
    finally:
        numba.set_num_threads(before)


def test_the_users_own_views():
    """Slices, transposes and read-only globals made inside compiled code."""
    weight = operands(1, 30, 12, np.float64).w

    @njit
    def views(x):
        return forward(x[::-2, 1::2], weight[:, ::2]), forward(x.T[:30].T, weight)

    x = operands(40, 31, 1, np.float64).x
    got = views(x)
    assert_bits("strided", got[0], forward(x[::-2, 1::2], weight[:, ::2]))
    assert_bits("transposed", got[1], forward(x[:, :30], weight))


def test_a_reduction_known_only_at_run_time():
    """With `out` a string variable may choose between reductions of one type."""

    @njit
    def reduce(g, x, w, reduction, dw, db, out):
        return (
            grad_weight(g, x, reduction, dw),
            grad_bias(g, reduction, out=db),
            backward(g, x, w, reduction, out),
        )

    given = operands(37, 12, 5, np.float64)
    for reduction in ("mean", "sum"):
        want = expected(OPERATIONS[f"backward {reduction}"], given)
        out = Gradients(*(np.full_like(a, np.nan) for a in want))
        dw, db = np.full_like(want.weight, np.nan), np.full_like(want.bias, np.nan)
        results = reduce(given.g, given.x, given.w, reduction, dw, db, out)
        for name, got in zip(("grad_weight", "grad_bias", "backward"), results, strict=True):
            name = f"{name} {reduction}"
            assert_result(name, got, expected(OPERATIONS[name], given))


def test_gradients_is_one_type_in_both_worlds():
    given = operands(5, 4, 3, np.float32)
    compiled = njit(lambda g, x, w: backward(g, x, w))
    for result in (compiled(given.g, given.x, given.w), backward(given.g, given.x, given.w)):
        assert type(result) is Gradients
        assert result._fields == ("input", "weight", "bias")
        assert list(parts(result)) == ["input", "weight", "bias"]


def with_or_without(x, w, b, g, out, use):
    """Variables that are an array or None."""
    bias = b if use else None
    y = out if use else None
    return forward(x, w, bias), forward(x, w, bias, y), grad_input(g, w, y if False else None)


def first_layer(g, x):
    """A network's first layer needs no ∂L/∂x."""
    return (
        backward(g, x, None),
        backward(g, x, None, "sum"),
        backward(g, x, None, reduction="none"),
    )


def first_layer_out(g, x, dw, db):
    return backward(g, x, None, "sum", Gradients(None, dw, db))


@pytest.mark.parametrize("world", ["Python", "njit"])  # Numba's own prange takes no such variable
@pytest.mark.parametrize("batch", [(), (37,), (3, 4)], ids=str)
def test_array_or_none(world, batch):
    given = operands(batch, 9, 5, np.float32)
    out = np.empty((*batch, 5), np.float32)
    function = WORLDS[world](with_or_without)
    for use, name in ((True, "forward"), (False, "forward without b")):
        y, same, dx = function(given.x, given.w, given.b, given.g, out, use)
        want = expected(OPERATIONS[name], given)
        assert_bits(f"{name} in {world}", y, want)
        assert_bits(f"{name} into what may be None in {world}", same, want)
        assert_bits(f"grad_input in {world}", dx, expected(OPERATIONS["grad_input"], given))
    assert_bits("out", out, expected(OPERATIONS["forward"], given))


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("batch", [(), (37,), (3, 4)], ids=str)
def test_first_layer(world, batch):
    given = operands(batch, 9, 5, np.float64)
    results = WORLDS[world](first_layer)(given.g, given.x)
    for reduction, got in zip(("mean", "sum", "none"), results, strict=True):
        want = expected(OPERATIONS[f"backward {reduction}"], given)
        assert got.input is None
        assert_bits(f"weight {reduction} in {world}", got.weight, want.weight)
        assert_bits(f"bias {reduction} in {world}", got.bias, want.bias)
    want = expected(OPERATIONS["backward sum"], given)
    dw, db = np.empty_like(want.weight), np.empty_like(want.bias)
    got = WORLDS[world](first_layer_out)(given.g, given.x, dw, db)
    assert got.input is None
    assert_bits(f"out.weight in {world}", dw, want.weight)
    assert_bits(f"out.bias in {world}", db, want.bias)


def test_optional_types():
    """Signatures and fields that may be None, as Numba writes them."""
    vector, matrix = numba.float64[::1], numba.float64[:, ::1]

    @njit(vector(vector, matrix, numba.optional(vector)))
    def signed(x, w, b):
        return forward(x, w, b)

    @numba.experimental.jitclass([("w", matrix), ("b", numba.optional(vector))])
    class Layer:
        def __init__(self, w, b):
            self.w = w
            self.b = b

        def forward(self, x):
            return forward(x, self.w, self.b)

    given = operands((), 4, 3, np.float64)
    for b, name in ((given.b, "forward"), (None, "forward without b")):
        want = expected(OPERATIONS[name], given)
        assert_bits(f"signature, {name}", signed(given.x, given.w, b), want)
        assert_bits(f"field, {name}", Layer(given.w, b).forward(given.x), want)


@njit
def missing(name, g, x, w, use):
    if name == "x":
        forward(x if use else None, w)
    elif name == "w":
        forward(x, w if use else None)
    elif name == "g":
        grad_bias(g if use else None)
    elif name == "backward w":
        backward(g, x, w if use else None)
    elif name == "grad_weight x":
        grad_weight(g, x if use else None)
    else:
        grad_input(g, w if use else None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x", r"forward: x is of type None; wanted a NumPy ndarray of shape \(…, n\)"),
        ("w", r"forward: w is of type None; wanted a NumPy ndarray of shape \(m, n\)"),
        ("g", r"grad_bias: g is of type None; wanted a NumPy ndarray of shape \(…, m\)"),
        ("backward w", "backward: w is of type None; wanted a NumPy ndarray"),
        ("grad_weight x", "grad_weight: x is of type None; wanted a NumPy ndarray"),
        ("grad_input w", "grad_input: w is of type None; wanted a NumPy ndarray"),
    ],
)
def test_an_array_that_turns_out_to_be_none(name, words):
    given = operands(3, 4, 5, np.float64)
    missing(name, given.g, given.x, given.w, True)
    with pytest.raises(TypeError, match=words):
        missing(name, given.g, given.x, given.w, False)

"""Sums that go on from call to call: for every way to cut a batch, the bits of the whole batch."""

import pickle
import re
import tracemalloc

import numba
import numpy as np
import pytest
from bits import assert_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import LAYOUTS
from numba import njit, prange
from numba.core.errors import TypingError
from numba.core.runtime import _nrt_python as nrt
from operations import DTYPES, operands
from processes import finish, start

from numba_linear import (
    Accumulator,
    Gradients,
    accumulate,
    accumulated,
    accumulator,
    backward,
    equations,
)

WORLDS = {
    "Python": lambda function: function,
    "njit": njit,
    "njit(parallel=True)": njit(parallel=True),
}
pytestmark = pytest.mark.filterwarnings(
    "ignore:(?s).*no transformation for parallel execution:numba.NumbaPerformanceWarning"
)

#: (m, n) around the edges of tiles and panels, of vectors of every width, and of A's packing.
SHAPES = [
    (1, 1),
    (1, 40),
    (3, 5),
    (10, 64),
    (4, 31),
    (13, 70),
    (25, 33),
    (12, 16),
    (50, 1),
    (128, 64),
]
SIZES = [1, 7, 8, 9, 32, 255, 256, 257, 600]


def cut(K, size):
    """The batches of `size` samples, or with the sizes of a list, as slices."""
    sizes = [size] * (K // size + 1) if isinstance(size, int) else size
    start = 0
    for each in sizes:
        if start < K or each == 0:
            yield slice(start, min(K, start + each))
            start = min(K, start + each)
    if start < K:
        yield slice(start, K)


def in_batches(g, x, size, parallel=None):
    acc = accumulator(np.zeros((g.shape[-1], x.shape[-1]), g.dtype), max(1, len(g)))
    for k in cut(len(g), size):
        accumulate(acc, g[k], x[k], parallel)
    return acc


def assert_gradients(label, got, want):
    assert isinstance(got, Gradients)
    assert got.input is None
    assert_bits(f"{label} weight", got.weight, want.weight)
    assert_bits(f"{label} bias", got.bias, want.bias)


def of_equations(g, x, reduction):
    return Gradients(
        None, equations.grad_weight(g, x, reduction), equations.grad_bias(g, reduction)
    )


# --------------------------------------------------------------------------------------
# The bits of the whole
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_cut_has_the_bits_of_the_whole(shape, dtype):
    m, n = shape
    for K in (1, 100, 256, 257, 1024, 1500):
        batch = operands(K, n, m, dtype)
        whole = {r: of_equations(batch.g, batch.x, r) for r in ("mean", "sum")}
        for size in SIZES:
            acc = in_batches(batch.g, batch.x, size)
            assert acc.samples[0] == K
            for reduction, want in whole.items():
                got = accumulated(acc, reduction)
                assert_gradients(f"{m} × {n}, {K} by {size}, {reduction}", got, want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(300, 270), (256, 1024), (1024, 30), (37, 520)], ids=str)
def test_large_layers(shape, dtype):
    m, n = shape
    batch = operands(900, n, m, dtype)
    want = of_equations(batch.g, batch.x, "mean")
    for size in (13, 100, 257, 850):
        for parallel in (False, True):
            acc = in_batches(batch.g, batch.x, size, parallel=parallel)
            label = f"{m} × {n} by {size}, parallel={parallel}"
            assert_gradients(label, accumulated(acc), want)


@settings(max_examples=60)
@given(
    m=st.integers(1, 40),
    n=st.integers(1, 80),
    sizes=st.lists(
        st.one_of(st.integers(0, 9), st.integers(0, 300), st.integers(500, 1300)), max_size=12
    ),
    dtype=st.sampled_from(DTYPES),
    reduction=st.sampled_from(["mean", "sum"]),
)
def test_any_cut(m, n, sizes, dtype, reduction):
    batch = operands(max(1, sum(sizes)), n, m, dtype)
    acc = in_batches(batch.g, batch.x, sizes)
    want = backward(batch.g, batch.x, None, reduction)
    assert_gradients(f"{m} × {n} by {sizes}", accumulated(acc, reduction), want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_read_in_between(dtype):
    """After each batch the gradients are those of the samples so far, and the sum can go on."""
    batch = operands(1100, 17, 6, dtype)
    acc, so_far = accumulator(np.zeros((6, 17), dtype), 1100), 0
    for k in cut(1100, 97):
        accumulate(acc, batch.g[k], batch.x[k])
        so_far = k.stop
        want = backward(batch.g[:so_far], batch.x[:so_far], None)
        assert_gradients(f"after {so_far}", accumulated(acc), want)


def test_adding_up_gives_other_bits():
    """The comparison can fail."""
    batch = operands(1000, 20, 9, np.float32)
    added = sum(
        backward(batch.g[k], batch.x[k], None, "sum").weight.astype(np.float32)
        for k in cut(1000, 32)
    )
    assert (added != accumulated(in_batches(batch.g, batch.x, 32), "sum").weight).any()


def test_signs_of_zero_infinities_and_nan():
    g = np.array([[-0.0, np.inf, 1.0, 1e-200]] * 3)
    x = np.array([[0.0, -0.0, np.nan, 1e-200, -1.0]] * 3)
    acc = in_batches(g, x, 1)
    assert_gradients("special", accumulated(acc, "sum"), backward(g, x, None, "sum"))


def test_whole_batch_of_one_sample_each():
    """A batch may be one sample without a batch dimension."""
    batch = operands(300, 9, 5, np.float64)
    acc = accumulator(np.zeros((5, 9)), 300)
    for g, x in zip(batch.g, batch.x, strict=True):
        accumulate(acc, g, x)
    assert_gradients("samples", accumulated(acc), backward(batch.g, batch.x, None))


# --------------------------------------------------------------------------------------
# The equation
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sum_that_goes_on_is_the_sum(dtype):
    a, c = (operands(2100, 1, 1, dtype).x[:, 0], operands(2100, 1, 1, dtype).g[:, 0])
    levels = np.full(4, np.nan, dtype)  # room for 2048
    for N in range(2048):
        assert_bits(f"{N} terms", equations.so_far(levels, N), equations.contract(a[:N], c[:N]))
        equations.go_on(levels, N, a[N], c[N])
    whole = equations.contract(a[:2048], c[:2048])
    assert_bits("all", equations.so_far(levels, 2048), whole)
    assert_bits("in level 0", levels[0], dtype(whole))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_levels_are_the_equations(dtype):
    batch = operands(1024, 21, 11, dtype)
    acc = accumulator(np.zeros((11, 21), dtype), 1024)
    want = Accumulator(*(a.copy() for a in acc))
    for k in cut(1024, 75):
        accumulate(acc, batch.g[k], batch.x[k])
        equations.accumulate(*want, batch.g[k], batch.x[k])
        assert acc.samples[0] == want.samples[0] == k.stop
        q = k.stop // 256
        held = [0] * (k.stop % 256 > 0 or k.stop == 1024)
        held += [1 + j for j in range(2) if q >> j & 1]
        for level in held:
            label = f"{k.stop} samples, level {level}"
            assert_bits(label, acc.weight[level], want.weight[level])
            assert_bits(label, acc.bias[level], want.bias[level])
        dw, db = equations.accumulated(*want)
        assert_gradients(f"{k.stop} samples", accumulated(acc), Gradients(None, dw, db))


# --------------------------------------------------------------------------------------
# The same call everywhere
# --------------------------------------------------------------------------------------


def train(w, g, x, size, samples):
    """A user's loop."""
    acc = accumulator(w, samples)
    for k in range(0, len(g), size):
        accumulate(acc, g[k : k + size], x[k : k + size])
    return accumulated(acc), accumulated(acc, "sum"), accumulated(acc=acc, reduction="mean")


def one_by_one(acc, g, x):
    for k in range(len(g)):
        accumulate(acc, g[k], x=x[k])
    return accumulated(acc)


#: Compiled once for each layout and dtype, whichever test comes first.
COMPILED_ONE_BY_ONE = njit(one_by_one)


def given_out(acc, g, x, reduction, dw, db):
    accumulate(acc, g, x, parallel=False)
    out = Gradients(None, dw, db)
    accumulated(acc, reduction, out)
    return accumulated(acc, reduction, out=out)


def on_threads(acc, g, x):
    accumulate(acc, g, x, parallel=True)
    return accumulated(acc)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("world", WORLDS)
def test_worlds(world, dtype):
    batch = operands(700, 41, 18, dtype)
    w, g, x = batch.w, batch.g, batch.x
    mean, total = backward(g, x, None), backward(g, x, None, "sum")
    for size in (5, 64, 700):
        means, totals, again = WORLDS[world](train)(w, g, x, size, 700)
        assert_gradients(f"{world} by {size}", means, mean)
        assert_gradients(f"{world} by {size}", totals, total)
        assert_gradients(f"{world} by {size}", again, mean)
    each = COMPILED_ONE_BY_ONE if world == "njit" else WORLDS[world](one_by_one)
    assert_gradients(f"{world} one by one", each(accumulator(w, 700), g, x), mean)
    dw, db = np.full_like(w, np.nan), np.full(18, np.nan, dtype)
    got = WORLDS[world](given_out)(accumulator(w, 700), g, x, "sum", dw, db)
    assert got.weight is dw or world != "Python"
    assert_bits("out weight", dw, total.weight)
    assert_bits("out bias", db, total.bias)
    got = WORLDS[world](on_threads)(accumulator(w, 700), g, x)
    assert_gradients(f"{world} on threads", got, mean)


def one_to_a_worker(weight, bias, samples, g, x, size):
    """Numba accepts no tuple in a prange, so the workers' arrays are stacked."""
    for i in prange(len(weight)):
        acc = Accumulator(weight[i], bias[i], samples[i])
        for k in range(0, g.shape[1], size):
            accumulate(acc, g[i, k : k + size], x[i, k : k + size])


def made_by_a_worker(w, g, x, size, dw, db):
    for i in prange(len(g)):
        acc = accumulator(w, g.shape[1])
        for k in range(0, g.shape[1], size):
            accumulate(acc, g[i, k : k + size], x[i, k : k + size])
        d = accumulated(acc)
        dw[i], db[i] = d.weight, d.bias


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_accumulator_to_a_worker(dtype):
    batch = operands((4, 600), 33, 14, dtype)
    weight, bias, samples = (
        np.stack([a] * 4) for a in accumulator(np.zeros((14, 33), dtype), 600)
    )
    compiled = njit(parallel=True)(one_to_a_worker)
    compiled(weight, bias, samples, batch.g, batch.x, 23)
    dw, db = np.empty((4, 14, 33), dtype), np.empty((4, 14), dtype)
    njit(parallel=True)(made_by_a_worker)(batch.w, batch.g, batch.x, 50, dw, db)
    for i in range(4):
        want = backward(batch.g[i], batch.x[i], None)
        got = accumulated(Accumulator(weight[i], bias[i], samples[i]))
        assert_gradients(f"worker {i}", got, want)
        assert_gradients(f"made by worker {i}", Gradients(None, dw[i], db[i]), want)


def optional_arrays(acc, g, x, given):
    accumulate(acc, g if given else None, x)
    return accumulated(acc)


def test_an_array_that_may_be_none():
    batch = operands(20, 6, 5, np.float64)
    compiled = njit(optional_arrays)
    want = backward(batch.g, batch.x, None)
    got = compiled(accumulator(batch.w, 20), batch.g, batch.x, True)
    assert_gradients("there", got, want)
    with pytest.raises(TypeError, match="accumulate: g is of type None"):
        compiled(accumulator(batch.w, 20), batch.g, batch.x, False)


def test_threads_give_the_same_bits():
    batch = operands(1500, 200, 150, np.float32)
    want = backward(batch.g, batch.x, None)
    former = numba.get_num_threads()
    try:
        for threads in (1, 2, 3):
            numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
            for size in (3, 100, 700):
                acc = in_batches(batch.g, batch.x, size, parallel=True)
                assert_gradients(f"{threads} threads by {size}", accumulated(acc), want)
    finally:
        numba.set_num_threads(former)


# --------------------------------------------------------------------------------------
# Arrays of every kind
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts(layout, dtype):
    batch = operands(300, 37, 26, dtype)
    want = backward(batch.g, batch.x, None)
    lay = LAYOUTS[layout].of
    for g, x in [(lay(batch.g), batch.x), (batch.g, lay(batch.x)), (lay(batch.g), lay(batch.x))]:
        for size in (1, 6, 50, 300):
            label = f"{layout} by {size}"
            assert_gradients(label, accumulated(in_batches(g, x, size)), want)
        acc = accumulator(batch.w, 300)
        assert_gradients(f"{layout} compiled", COMPILED_ONE_BY_ONE(acc, g, x), want)


def test_batches_of_more_dimensions():
    batch = operands((6, 5, 8), 12, 7, np.float32)
    flat = batch.g.reshape(-1, 7), batch.x.reshape(-1, 12)
    want = backward(*flat, None)
    uneven = np.zeros((6, 9, 12), np.float32)[:, ::2], np.zeros((6, 5, 9, 12), np.float32)
    apart = uneven[1][:, :, :8]
    apart[...] = batch.x
    for g, x in [(batch.g, batch.x), (batch.g, apart), (np.asfortranarray(batch.g), apart)]:
        acc = accumulator(batch.w, 240)
        for k in range(6):
            accumulate(acc, g[k], x[k])
        assert_gradients("N-D", accumulated(acc), want)
        acc = accumulator(batch.w, 240)
        accumulate(acc, g, x)
        assert_gradients("N-D at once", accumulated(acc), want)


def test_read_only_inputs():
    batch = operands(40, 6, 5, np.float64)
    batch.g.flags.writeable = batch.x.flags.writeable = batch.w.flags.writeable = False
    want = backward(batch.g, batch.x, None)
    assert_gradients("read-only", accumulated(in_batches(batch.g, batch.x, 9)), want)
    acc = accumulator(batch.w, 40)
    assert_gradients("compiled", COMPILED_ONE_BY_ONE(acc, batch.g, batch.x), want)


@pytest.mark.parametrize("shape", [(0, 5), (4, 0), (0, 0)])
def test_empty_dimensions(shape):
    batch = operands(30, shape[1], shape[0], np.float64)
    acc = in_batches(batch.g, batch.x, 7)
    assert acc.samples[0] == 30
    assert_gradients(str(shape), accumulated(acc), backward(batch.g, batch.x, None))


@pytest.mark.parametrize("compile", [lambda f: f, njit], ids=["Python", "njit"])
def test_empty_batches_change_nothing(compile):
    batch = operands(10, 4, 3, np.float64)
    acc = accumulator(batch.w, 10)
    add = compile(lambda acc, g, x: accumulate(acc, g, x))
    add(acc, batch.g[:0], batch.x[:0])
    assert_bits("nothing", accumulated(acc, "sum").weight, np.zeros((3, 4)))
    add(acc, batch.g, batch.x)
    kept = [a.copy() for a in acc]
    add(acc, np.empty((5, 0, 3)), np.empty((5, 0, 4)))
    add(acc, batch.g[:0], batch.x[:0])  # even if there is no more room
    for got, want in zip(acc, kept, strict=True):
        assert_bits("unchanged", got, want)


def test_subclasses_and_memory_mapped_files(tmp_path):
    batch = operands(300, 8, 4, np.float32)
    acc = Accumulator(
        *(
            np.memmap(tmp_path / name, a.dtype, "w+", shape=a.shape)
            for name, a in accumulator(batch.w, 300)._asdict().items()
        )
    )
    for k in cut(300, 33):
        accumulate(acc, batch.g[k].view(np.memmap), batch.x[k])
    assert acc.samples[0] == 300
    want = backward(batch.g, batch.x, None)
    assert_gradients("memory-mapped", accumulated(acc), want)
    out = Gradients(None, np.empty_like(acc.weight[0]), np.empty(4, np.float32))
    assert accumulated(acc, out=out) is out
    assert_bits("out", out.weight, want.weight)


# --------------------------------------------------------------------------------------
# Memory
# --------------------------------------------------------------------------------------


@njit
def made(w, samples):
    return accumulator(w, samples)


@pytest.mark.parametrize(
    ("samples", "levels"),
    [(1, 1), (256, 1), (257, 2), (512, 2), (513, 3), (1024, 3), (1025, 4), (10**9, 23)],
)
def test_levels(samples, levels):
    for make in (accumulator, made):
        acc = make(np.zeros((2, 3), np.float32), samples)
        assert acc.weight.shape == (levels, 2, 3)
        assert acc.bias.shape == (levels, 2)
        assert acc.weight.dtype == acc.bias.dtype == np.float32
        assert acc.samples.shape == (1,)
        assert acc.samples.dtype == np.int64
        assert levels <= max(1, np.ceil(np.log2(samples / 256)) + 3)


@njit
def added(acc, g, x):
    accumulate(acc, g, x)


@pytest.mark.parametrize("samples", [256, 512, 1024])
def test_room_for_what_was_asked_for_and_no_more(samples):
    batch = operands(samples + 1, 5, 3, np.float64)
    acc = in_batches(batch.g[:samples], batch.x[:samples], 100)
    want = backward(batch.g[:samples], batch.x[:samples], None)
    for add in (accumulate, added):
        with pytest.raises(ValueError, match=f"acc has {samples} samples and room for {samples}"):
            add(acc, batch.g[samples:], batch.x[samples:])
        assert acc.samples[0] == samples
        assert_gradients("as it was", accumulated(acc), want)


def test_it_starts_anew_without_clearing():
    batch = operands(700, 13, 8, np.float32)
    acc = in_batches(batch.g, batch.x, 64)
    for a in acc[:2]:
        a[...] = np.nan
    acc.samples[:] = 0
    for k in cut(700, 31):
        accumulate(acc, batch.g[k], batch.x[k])
    assert_gradients("anew", accumulated(acc), backward(batch.g, batch.x, None))


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_is_allocated_after(dtype):
    batch = operands(2048, 64, 128, dtype)
    acc = accumulator(batch.w, 4096)
    out = Gradients(None, np.empty_like(batch.w), np.empty(128, dtype))
    batches = [(batch.g[k], batch.x[k]) for k in cut(2048, 32)]
    batches += [(batch.g[k], batch.x[k]) for k in range(40)]

    def work():
        acc.samples[:] = 0
        for g, x in batches:
            accumulate(acc, g, x, False)
        accumulated(acc, "mean", out)

    work()
    COMPILED_ONE_BY_ONE(accumulator(batch.w, 2048), batch.g, batch.x)
    nrt.memsys_enable_stats()
    try:
        before = nrt.memsys_get_stats_alloc()
        tracemalloc.start()
        work()
        _, peak = tracemalloc.get_traced_memory()
        assert peak < 2000  # no array, only Python's own integers
        assert nrt.memsys_get_stats_alloc() == before
    finally:
        tracemalloc.stop()
        nrt.memsys_disable_stats()


CONTINUE = """
import pickle
import sys

import numpy as np

from numba_linear import Accumulator, accumulate, accumulated

name, g, x = sys.argv[1], *np.load(sys.argv[2]).values()
if name.endswith(".npz"):
    acc = Accumulator(**np.load(name))
else:
    with open(name, "rb") as file:
        acc = pickle.load(file)
for k in range(0, len(g), 40):
    accumulate(acc, g[k : k + 40], x[k : k + 40])
np.savez(sys.argv[3], *accumulated(acc)[1:], acc.samples)
"""


@pytest.mark.parametrize("form", ["pickle", "npz"])
@pytest.mark.parametrize("first", [100, 700])
def test_another_process_goes_on(form, first, tmp_path):
    batch = operands(1000, 9, 7, np.float32)
    acc = accumulator(batch.w, 1000)
    accumulate(acc, batch.g[:first], batch.x[:first])
    name = tmp_path / f"acc.{form}"
    if form == "npz":
        np.savez(name, **acc._asdict())
    else:
        name.write_bytes(pickle.dumps(acc))
    np.savez(tmp_path / "rest.npz", batch.g[first:], batch.x[first:])
    result = tmp_path / "result.npz"
    finish(start("-c", CONTINUE, name, tmp_path / "rest.npz", result))
    weight, bias, samples = np.load(result).values()
    assert samples[0] == 1000
    got = Gradients(None, weight, bias)
    assert_gradients(form, got, backward(batch.g, batch.x, None))


INTERPRETED = """
import sys

import numpy as np
from numba import config

from numba_linear import Gradients, accumulate, accumulated, accumulator

assert config.DISABLE_JIT == bool(int(sys.argv[1]))
rng = np.random.default_rng(0)
g, x = rng.standard_normal((600, 3)), rng.standard_normal((600, 4))
acc = accumulator(np.zeros((3, 4)), 600)
for k in range(0, 600, 77):
    accumulate(acc, g[k : k + 77], x[k : k + 77])
    print(accumulated(acc).weight.tobytes().hex(), accumulated(acc, "sum").bias.tobytes().hex())
wrong = [
    lambda: accumulate(acc, np.ones((500, 3)), np.ones((500, 4))),
    lambda: accumulate(acc, g[:, :2], x),
    lambda: accumulate(acc, acc.weight[0, :, :3], acc.weight[0]),
    lambda: accumulate(acc._replace(samples=np.array([-1])), g, x),
    lambda: accumulate(acc._replace(weight=acc.weight[..., ::-1]), g, x),
    lambda: accumulate(acc._replace(samples=np.zeros(2, np.int64)), g, x),
    lambda: accumulated(acc, "none"),
    lambda: accumulated(acc, out=Gradients(None, acc.weight[0], np.ones(3))),
    lambda: accumulated(acc._replace(samples=np.zeros(1, np.int64))),
]
for call in wrong:
    try:
        call()
    except ValueError as error:
        print(error)
    else:
        raise AssertionError("no error")
"""


def test_interpreted():
    """NUMBA_DISABLE_JIT=1: the same bits and words."""
    outputs = finish(
        start("-c", INTERPRETED, 0), start("-c", INTERPRETED, 1, NUMBA_DISABLE_JIT="1")
    )
    assert outputs[0] == outputs[1]
    assert outputs[0].count("\n") == 17


# --------------------------------------------------------------------------------------
# Errors
# --------------------------------------------------------------------------------------

m, n = 5, 6


def add(acc, g, x):
    accumulate(acc, g, x)


def read(acc, reduction, out):
    accumulated(acc, reduction, out)


def make(w, samples):
    accumulator(w, samples)


COMPILED = {call: njit(call) for call in (add, read, make)}


def right(call):
    """The arguments of a right call; the accumulator has some samples."""
    batch = operands(300, n, m, np.float64)
    acc = accumulator(batch.w, 512)
    accumulate(acc, batch.g, batch.x)
    if call is add:
        return {"acc": acc, "g": batch.g[:8].copy(), "x": batch.x[:8].copy()}
    if call is read:
        out = Gradients(None, np.full((m, n), 7.0), np.full(m, 7.0))
        return {"acc": acc, "reduction": "sum", "out": out}
    return {"w": batch.w, "samples": 100}


def ones(*shape, dtype=np.float64):
    return np.ones(shape, dtype)


def frozen(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def replaced(**changes):
    """A change of the accumulator's arrays, each by a function of the present one."""
    return lambda acc: acc._replace(**{k: f(getattr(acc, k)) for k, f in changes.items()})


#: The call, what to change in a right one, the error, words of its message, and whether the types
#: alone show it; None if Numba has no type for it.
WRONG = {
    "m": (add, {"g": ones(8, 3)}, ValueError, ("g", r"\(8, 3\)", r"acc\.weight", r"\(2, 5, 6\)")),
    "n": (add, {"x": ones(8, 7)}, ValueError, ("x", r"\(8, 7\)", r"acc\.weight", r"\(2, 5, 6\)")),
    "K": (add, {"x": ones(7, n)}, ValueError, ("g", "x", r"\(8, 5\)", r"\(7, 6\)", "batch")),
    "no batch in g": (add, {"g": ones(m)}, ValueError, ("g", "x", "dimension"), True),
    "0-d x": (add, {"x": ones()}, ValueError, ("x", "0 dimensions"), True),
    "dtype of g": (
        add,
        {"g": ones(8, m, dtype=np.float32)},
        TypeError,
        ("g", "float32", "float64", "cast"),
        True,
    ),
    "dtype of acc": (
        add,
        {"acc": replaced(weight=np.float32, bias=np.float32)},
        TypeError,
        ("g", "float64", r"acc\.weight", "float32"),
        True,
    ),
    "integers": (add, {"x": ones(8, n, dtype=int)}, TypeError, ("x", "int64", "float64"), True),
    "g a list": (add, {"g": [[1.0] * m] * 8}, TypeError, ("g", "list"), None),
    "g None": (add, {"g": None}, TypeError, ("g", "None(Type)?"), True),
    "acc a tuple": (add, {"acc": tuple}, TypeError, ("acc", "Accumulator"), True),
    "acc None": (add, {"acc": None}, TypeError, ("acc", "None(Type)?|none", "Accumulator"), True),
    "levels": (
        add,
        {"acc": replaced(bias=lambda a: a[:1].copy())},
        ValueError,
        (r"acc\.bias", r"\(1, 5\)", r"acc\.weight", r"\(2, 5, 6\)"),
    ),
    "no level": (
        add,
        {"acc": replaced(weight=lambda a: a[:0].copy(), bias=lambda a: a[:0].copy())},
        ValueError,
        (r"acc\.weight", r"\(0, 5, 6\)", "levels"),
    ),
    "dimensions of acc": (
        add,
        {"acc": replaced(weight=lambda a: a[0].copy())},
        ValueError,
        (r"acc\.weight", "2 dimensions", r"\(levels, m, n\)"),
        True,
    ),
    "Fortran order": (
        add,
        {"acc": replaced(weight=np.asfortranarray)},
        ValueError,
        (r"acc\.weight", "C-contiguous"),
    ),
    "bias in steps": (
        add,
        {"acc": replaced(bias=lambda a: np.repeat(a, 2, 1)[:, ::2])},
        ValueError,
        (r"acc\.bias", "C-contiguous"),
    ),
    "acc read-only": (
        add,
        {"acc": replaced(weight=frozen)},
        ValueError,
        (r"acc\.weight", "read.only"),
        True,
    ),
    "samples read-only": (
        add,
        {"acc": replaced(samples=frozen)},
        ValueError,
        (r"acc\.samples", "read.only"),
        True,
    ),
    "dtype of samples": (
        add,
        {"acc": replaced(samples=np.int32)},
        TypeError,
        (r"acc\.samples", "int32", "int64"),
        True,
    ),
    "shape of samples": (
        add,
        {"acc": replaced(samples=lambda a: np.repeat(a, 2))},
        ValueError,
        (r"acc\.samples", r"\(2,\)", r"\(1,\)"),
    ),
    "negative samples": (
        add,
        {"acc": replaced(samples=lambda a: a * 0 - 3)},
        ValueError,
        (r"acc\.samples", r"\[-3\]", "0 to 512"),
    ),
    "impossible samples": (
        add,
        {"acc": replaced(samples=lambda a: a * 0 + 513)},
        ValueError,
        (r"acc\.samples", r"\[513\]", "0 to 512"),
    ),
    "no room": (
        add,
        {"g": ones(213, m), "x": ones(213, n)},
        ValueError,
        ("300 samples", "room for 512", "213 more"),
    ),
    "reduction none": (
        read,
        {"reduction": "none"},
        ValueError,
        ("reduction", "'none'", "'mean', 'sum'"),
    ),
    "reduction max": (read, {"reduction": "max"}, ValueError, ("'max'", "'mean', 'sum'")),
    "no samples": (
        read,
        {"acc": replaced(samples=lambda a: a * 0), "reduction": "mean"},
        ValueError,
        ("mean", "no samples", "sum"),
    ),
    "shape of out": (
        read,
        {"out": Gradients(None, ones(n, m), ones(m))},
        ValueError,
        (r"out\.weight", r"\(6, 5\)", r"\(5, 6\)"),
    ),
    "shape of out's bias": (
        read,
        {"out": Gradients(None, ones(m, n), ones(7))},
        ValueError,
        (r"out\.bias", r"\(7,\)", r"\(5,\)"),
    ),
    "dtype of out": (
        read,
        {"out": Gradients(None, ones(m, n, dtype=np.float32), ones(m))},
        ValueError,
        (r"out\.weight", "float32", "float64"),
        True,
    ),
    "out with an input": (
        read,
        {"out": Gradients(ones(m, n), ones(m, n), ones(m))},
        TypeError,
        (r"out\.input", "None"),
        True,
    ),
    "out an array": (read, {"out": ones(m, n)}, TypeError, ("out", "Gradients"), True),
    "w of one dimension": (make, {"w": ones(n)}, ValueError, ("w", "1 dimension"), True),
    "w None": (make, {"w": None}, TypeError, ("w", "None(Type)?"), True),
    "w of integers": (make, {"w": ones(m, n, dtype=int)}, TypeError, ("w", "int64"), True),
    "samples 0": (make, {"samples": 0}, ValueError, ("samples", "0", "at least 1")),
    "samples a float": (make, {"samples": 10.0}, TypeError, ("samples", "integer"), True),
    "samples None": (make, {"samples": None}, TypeError, ("samples", "integer"), True),
    "samples True": (make, {"samples": True}, TypeError, ("samples", "integer"), True),
}


def changed(call, change):
    arguments = right(call)
    for name, value in change.items():
        arguments[name] = value(arguments[name]) if callable(value) else value
    return arguments


def content(arguments):
    arrays = []
    for value in arguments.values():
        arrays += value if isinstance(value, tuple) else [value]
    return [a.tobytes() for a in arrays if isinstance(a, np.ndarray)]


@pytest.mark.parametrize("name", WRONG)
def test_errors(name):
    call, change, error, words, typed = (*WRONG[name], False)[:5]
    operation = {add: "accumulate", read: "accumulated", make: "accumulator"}[call]
    arguments = changed(call, change)
    before = content(arguments)
    messages = []
    with pytest.raises(error) as raised:
        call(**arguments)
    assert type(raised.value) is error
    messages.append(str(raised.value))
    if typed is not None:
        with pytest.raises(TypingError if typed else error) as raised:
            COMPILED[call](**arguments)
        messages.append(str(raised.value))
        pickle.loads(pickle.dumps(raised.value))
        if not typed:
            assert messages[0] == messages[1]
    for message in messages:
        assert f"{operation}: " in message
        for word in words:
            assert re.search(word, message), message
    assert content(arguments) == before


def test_overlap():
    """An accumulator's arrays must not share memory."""
    buffer = np.zeros(5000)
    weight, bias = buffer[:60].reshape(2, m, n), np.zeros((2, m))
    samples = np.zeros(1, np.int64)
    right = Accumulator(weight, bias, samples)
    g, x = ones(2, m), ones(2, n)
    wrong = {
        "acc.weight overlaps g": (right, buffer[50:60].reshape(2, m), x),
        "acc.weight overlaps x": (right, g, buffer[59:71].reshape(2, n)),
        "acc.bias overlaps g": (right._replace(bias=buffer[60:70].reshape(2, m)),
                                buffer[64:74].reshape(2, m), x),
        "acc.bias overlaps acc.weight": (right._replace(bias=buffer[50:60].reshape(2, m)), g, x),
        "acc.samples overlaps x": (
            right._replace(samples=buffer[100:101].view(np.int64)),
            g,
            buffer[90:102].reshape(2, n),
        ),
        "acc.samples overlaps acc.bias": (
            right._replace(samples=bias.reshape(-1)[3:4].view(np.int64)), g, x
        ),
    }  # fmt: skip
    for words, arguments in wrong.items():
        for call in (add, COMPILED[add]):
            kept = buffer.copy()
            with pytest.raises(ValueError, match=f"accumulate: {words} in memory"):
                call(*arguments)
            assert_bits(words, buffer, kept)
            assert not samples[0]
    outs = {
        "out.weight overlaps acc.weight": Gradients(None, buffer[59:89].reshape(m, n), ones(m)),
        "out.bias overlaps acc.bias": Gradients(None, ones(m, n), bias[0]),
        "out.bias overlaps out.weight": Gradients(
            None, buffer[100:130].reshape(m, n), buffer[110:115]
        ),
        "out.bias overlaps acc.samples": Gradients(None, ones(m, n), buffer[200:205]),
    }
    for words, out in outs.items():
        acc = right
        if "samples" in words:
            acc = right._replace(samples=buffer[202:203].view(np.int64))
        for call in (read, COMPILED[read]):
            with pytest.raises(ValueError, match=f"accumulated: {words} in memory"):
                call(acc, "sum", out)
    add(right, buffer[60:70].reshape(2, m), buffer[70:82].reshape(2, n))  # side by side
    assert samples[0] == 2


def test_no_constant_reduction_without_out():
    batch = operands(10, n, m, np.float64)
    acc = in_batches(batch.g, batch.x, 3)
    compiled = njit(lambda acc, reduction: accumulated(acc, reduction))
    for reduction in ("mean", "sum"):
        want = backward(batch.g, batch.x, None, reduction)
        assert_gradients(reduction, compiled(acc, reduction), want)

"""The compiled PTX computes the equations, bit for bit, in an interpreter.

Every array has its own memory, so a read or write beside one is found, and so is a race in shared
memory: see `ptx.py`.
"""

import math
import re

import pytest

pytest.importorskip("numba_cuda", reason="the extra is not installed: pip install -e '.[cuda]'")

import cuda_operations
import numpy as np
import ptx
from bits import assert_bits
from cuda_operations import host, mixed, negligible, on, subnormal
from gpu import Array, Gpu, unfused
from layouts import LAYOUTS
from operations import DTYPES, OPERATIONS, assert_result, expected, operands, parts

import numba_linear.cuda as nl
from numba_linear import Gradients, equations
from numba_linear.cpu.matrix import Matrix
from numba_linear.cpu.rule import LEAF
from numba_linear.cuda import contract, device
from numba_linear.cuda.machine import (
    HALF,
    LARGE,
    LEVELS,
    NARROW,
    OF_ROW,
    OF_TERM,
    ROW,
    SMALL,
    WIDE,
    Cut,
)

# Sizes at which a kernel changes its path: tiles of 1, 32, 64 and 128, panels of 8 and 16 terms,
# leaves.
SHAPES = [
    (1, 1, 1),
    (1, 15, 129),
    (1, 513, 5),
    (2, 3, 1),
    (5, 17, 3),
    (15, 255, 31),
    (17, 256, 33),
    (33, 257, 32),
    (31, 65, 63),
    (3, 64, 65),
    (513, 3, 2),
]
EMPTY = [(0, 3, 4), (4, 0, 3), (3, 4, 0), (1, 0, 1)]
#: One of each kind; the others are parts of `backward`.
NAMES = ("forward", "forward without b", "backward mean", "backward sum", "backward none")


@pytest.fixture
def gpu(monkeypatch):
    return Gpu(monkeypatch)


def check(gpu, name, given, label="", layout=None, **keywords):
    got = host(cuda_operations.OPERATIONS[name](on(gpu, given, layout), **keywords))
    assert_result(f"{name} {label}", got, expected(OPERATIONS[name], given))


def defined(name, K, n, m):
    """A mean needs a sample; without a reduction, many numbers show no more than some."""
    reduction = OPERATIONS[name].reduction
    return not (reduction == "mean" and K == 0) and not (reduction == "none" and K * n * m > 2**14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ("forward", "backward mean", "backward none"))
def test_shapes(gpu, name, dtype):
    for K, n, m in SHAPES + EMPTY:
        if defined(name, K, n, m):
            check(gpu, name, operands(K, n, m, dtype), f"(K, n, m) = {(K, n, m)}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_call(gpu, name, dtype):
    for batch in [(), 7, (2, 3)]:
        check(gpu, name, operands(batch, 9, 4, dtype), f"batch {batch}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(128, 16, 129), (130, 9, 127), (64, 263, 64)], ids=str)
def test_large_tiles(gpu, shape, dtype, monkeypatch):
    tile = LARGE[np.dtype(dtype).name, LEVELS[-1]]
    monkeypatch.setattr(contract, "cut", lambda *_: Cut(tile, LEAF << tile.levels))
    names = ("forward", "grad_input", "grad_weight mean")
    for name in names if shape[1] < LEAF else names[:1]:
        check(gpu, name, operands(*shape, dtype), str(shape))


def padded(gpu, a):
    """A copy whose rows begin at multiples of 16 bytes, with NaN between them."""
    rows, cols = a.shape
    whole = gpu.to_device(np.full((rows, cols + 4 - cols % 4), np.nan, a.dtype))
    whole.view = whole.view[:, :cols]
    whole.view[...] = a
    whole.__cuda_array_interface__ |= {"shape": a.shape, "strides": whole.view.strides}
    return whole


@pytest.mark.parametrize("shape", [(128, 16, 256), (130, 9, 259), (257, 19, 6), (3, 263, 4)])
def test_the_tile_that_loads_16_bytes(gpu, shape, monkeypatch):
    """Along rows and terms, some beyond the last; with more rows than columns, and with fewer."""
    taken = []

    def cut(dtype, rows, cols, terms, processors, wide=True):
        taken.append(wide)
        return Cut(WIDE["float32", 3], LEAF << 3)

    monkeypatch.setattr(contract, "cut", cut)
    given = operands(*shape, np.float32)
    x, w, g = (padded(gpu, a) for a in (given.x, given.w, given.g))
    assert_bits("y", host(nl.forward(x, w)), equations.forward(given.x, given.w))
    if shape[1] < LEAF:
        assert_bits("input", host(nl.grad_input(g, w)), equations.grad_input(given.g, given.w))
        got = host(nl.grad_weight(g, x, "sum"))
        assert_bits("weight", got, equations.grad_weight(given.g, given.x, "sum"))
    assert all(taken)


def test_which_operands_are_loaded_16_bytes_at_once():
    of = {
        (64, 16, 4): OF_ROW,
        (64, 4, 16): OF_TERM,
        (64, -32, 4): OF_ROW,
        (68, 16, 4): None,  # begins elsewhere
        (64, 20, 4): None,  # as do its rows
        (64, 16, 8): None,
        (64, 16, -4): None,
        (0, 0, 0): None,  # all ones
    }
    assert {m: contract.unit_of(Matrix(*m)) for m in of} == of


@pytest.mark.parametrize("tile", [HALF["float32", 3], *NARROW.values()], ids=str)
def test_tiles_for_small_batches(gpu, tile, monkeypatch):
    """As wide as the tile, and not; terms not a multiple of its depth, and more than a leaf."""
    monkeypatch.setattr(contract, "cut", lambda *_: Cut(tile, LEAF << tile.levels))
    down, across = tile.shape
    for shape in [(across, 41, down), (across - 1, 263, down + 1)]:
        for name in ("forward", "grad_input"):
            check(gpu, name, operands(*shape, np.dtype(tile.dtype).type), str(shape))


@pytest.mark.parametrize("tile", [LARGE["float32", 3], SMALL["float64"], ROW["float32"]], ids=str)
def test_all_levels_of_the_tree(gpu, tile, monkeypatch):
    """As many leaves as a block takes, one fewer, and three; 8 instead of 64 for wider tiles."""
    monkeypatch.setattr(contract, "cut", lambda *_: Cut(tile, LEAF << tile.levels))
    most = 1 << (tile.levels if tile.down == 1 else min(tile.levels, 3))
    for leaves in (3, most - 1, most):
        shape = (1, LEAF * leaves - 5, 3) if tile.down == 1 else (3, LEAF * leaves - 5, 4)
        check(gpu, "forward", operands(*shape, np.dtype(tile.dtype).type), str(shape))


@pytest.mark.parametrize(
    ("parts", "dtype"),
    [(2, np.float32), (3, np.float64), (8, np.float64), (9, np.float64), (17, np.float32)],
)
def test_parts_of_a_sum(monkeypatch, parts, dtype):
    """Sums cut at every leaf, or at every second, and merged."""
    gpu = Gpu(monkeypatch, processors=1000)
    terms = parts * LEAF - 100
    check(gpu, "forward", operands(3, terms, 5, dtype), f"{terms} terms")
    check(gpu, "grad_bias mean", operands(terms, 1, 6, dtype), f"{terms} samples")
    assert gpu.launches["merge"] == 2
    cut = contract.cut
    monkeypatch.setattr(contract, "cut", lambda *_: Cut(cut(*_).tile, 2 * LEAF))
    check(gpu, "grad_weight mean", operands(terms, 3, 2, dtype), f"{terms} samples, by two")


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_parts_in_order(gpu, at_once, monkeypatch):
    """Parts launched one after another; pending sums wait as in the rule's binary counter."""
    cut, work = contract.cut, []

    def memory(place, bytes_):
        work.append(bytes_)
        return gpu.work(place, bytes_)

    monkeypatch.setattr(device, "Memory", memory)
    monkeypatch.setattr(contract, "cut", lambda *_: Cut(cut(*_).tile, LEAF, at_once))
    for leaves in (2, 3, 6, 7, 8, 9):
        terms = leaves * LEAF - 100
        check(gpu, "forward", operands(2, terms, 3, np.float32), f"{leaves} leaves")
        assert work.pop() <= (leaves.bit_length() + at_once) * 6 * 4
    check(gpu, "grad_bias mean", operands(5 * LEAF - 3, 1, 4, np.float64), "a mean of parts")
    check(gpu, "grad_weight sum", operands(5 * LEAF + 3, 1, 4, np.float64), "a sum of parts")


@pytest.mark.parametrize(
    "layout", [x for x in LAYOUTS if x not in ("unaligned", "packed records")]
)
def test_layouts(gpu, layout):
    for name in NAMES:
        for shape in [(19, 35, 22), (1, 70, 41)]:
            given = operands(*shape, np.float64)
            check(gpu, name, given, f"{layout}, {shape}", LAYOUTS[layout])


@pytest.mark.parametrize("layout", ["C", "Fortran", "strided", "backwards"])
@pytest.mark.parametrize("name", NAMES)
def test_out_is_filled_and_nothing_beside_it(gpu, name, layout):
    given = operands((2, 9), 20, 6, np.float32)
    want = expected(OPERATIONS[name], given)
    places = [
        gpu.to_device(np.full_like(a, np.nan), LAYOUTS[layout]) for a in parts(want).values()
    ]
    before = [a.view.base.copy() for a in places]
    out = Gradients(*places) if isinstance(want, Gradients) else places[0]
    assert cuda_operations.OPERATIONS[name](on(gpu, given), out=out) is out
    assert_result(name, host(out), want)
    for place, buffer in zip(places, before, strict=True):
        place.view[...] = np.nan
        assert_bits("beside out", np.frombuffer(place.view.base, np.uint8), buffer)


@pytest.mark.parametrize("name", OPERATIONS)
def test_uneven_batches(gpu, name):
    """A batch transposed in memory: its samples have no single stride."""

    def transposed(a):
        a = a if isinstance(a, np.ndarray) else a.copy_to_host()
        array = gpu.to_device(np.ascontiguousarray(np.moveaxis(a, 0, 1)))
        array.view = np.moveaxis(array.view, 1, 0)
        interface = array.__cuda_array_interface__
        interface |= {"shape": array.view.shape, "strides": array.view.strides}
        return array

    given = operands((3, 4), 5, 6, np.float32)
    device = on(gpu, given)
    device.x, device.g = transposed(given.x), transposed(given.g)
    want = expected(OPERATIONS[name], given)
    assert_result(name, host(cuda_operations.OPERATIONS[name](device)), want)
    empty = [np.full_like(a, np.nan) for a in parts(want).values()]
    places = [transposed(a) if a.ndim > 2 else gpu.to_device(a) for a in empty]
    out = Gradients(*places) if isinstance(want, Gradients) else places[0]
    cuda_operations.OPERATIONS[name](device, out=out)
    assert_result(f"{name}, out", host(out), want)


@pytest.mark.parametrize("shape", [(3, 20, 5), (1, 300, 4)], ids=str)
def test_rows_gigabytes_apart(gpu, shape):
    """No offset is computed in 32 bits: rows are 5 GiB apart."""
    apart = 5 << 30
    given = operands(*shape, np.float32)
    rows = {}

    def spread(name, a):
        base = (gpu.memory.end // apart + 2) * apart
        rows[name] = [row.copy().view(np.uint8) for row in a]
        for k, row in enumerate(rows[name]):
            gpu.memory.end = base + k * apart - ptx.GAP
            assert gpu.memory.place(row) == base + k * apart
        interface = {"version": 3, "typestr": "<f4", "data": (base, False)}
        return Array(a, interface | {"shape": a.shape, "strides": (apart, 4)})

    x, w, g = (spread(name, getattr(given, name)) for name in "xwg")
    want = Gradients(*expected(OPERATIONS["backward mean"], given))
    out = Gradients(
        spread("input", np.zeros_like(want.input)),
        spread("weight", np.zeros_like(want.weight)),
        gpu.to_device(np.zeros_like(want.bias)),
    )
    nl.backward(g, x, w, out=out)
    for name in ("input", "weight"):
        got = np.array([row.view(np.float32) for row in rows[name]])
        assert_bits(name, got, getattr(want, name))
    y = spread("y", np.zeros(given.g.shape, np.float32))
    nl.forward(x, w, out=y)
    got = np.array([row.view(np.float32) for row in rows["y"]])
    assert_bits("forward", got, equations.forward(given.x, given.w))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_special_values(gpu, name, dtype):
    """Infinities, NaN, zeros and subnormals among the numbers; sizes not a multiple of a tile."""
    check(gpu, name, operands(19, 27, 21, dtype, mixed))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 9, 3), (1, 257, 3)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_negative_zero_is_kept(gpu, name, shape, dtype):
    """Terms that underflow to -0 sum to -0, whatever pads a panel."""
    given = operands(*shape, dtype, negligible)
    check(gpu, name, given, str(shape))
    if name == "forward":
        assert np.signbit(expected(OPERATIONS[name], given)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_subnormal_results(gpu, dtype):
    """No operand or result is flushed to zero."""
    for name in NAMES:
        given = operands(20, 35, 19, dtype, subnormal)
        check(gpu, name, given)
        for part, a in parts(expected(OPERATIONS[name], given)).items():
            assert np.count_nonzero(a) > a.size / 2
            assert part == "bias" or (np.abs(a) < np.finfo(dtype).tiny).all()


# --------------------------------------------------------------------------------------
# Faults that these tests find
# --------------------------------------------------------------------------------------


def wrong(monkeypatch, change):
    """`forward` with changed PTX, and the right result; the terms show their order."""
    gpu = Gpu(monkeypatch, change=change)
    given = operands(3, 700, 2, np.float32)
    return host(nl.forward(*(gpu.to_device(a) for a in (given.x, given.w)))), equations.forward(
        given.x, given.w
    )


def test_finds_an_unfused_multiply_add(monkeypatch):
    got, want = wrong(monkeypatch, unfused)
    assert (got != want).any()
    np.testing.assert_allclose(got, want, rtol=1e-2)


def test_finds_a_wrong_leaf(monkeypatch):
    from numba_linear.cuda import machine, tile

    monkeypatch.setattr(tile, "LEAF", 128)
    monkeypatch.setattr(machine, "LEAF", 128)
    monkeypatch.setattr(contract, "contraction", tile.contraction.__wrapped__)
    monkeypatch.setattr(contract, "cut", machine.cut.__wrapped__)
    got, want = wrong(monkeypatch, lambda text: text)
    assert (got != want).any()
    np.testing.assert_allclose(got, want, rtol=1e-2)


def test_finds_a_missing_barrier(monkeypatch):
    with pytest.raises(ptx.Fault, match="another thread wrote"):
        wrong(monkeypatch, lambda text: re.sub(r"bar\.sync\s+0;", "", text))


def test_finds_a_read_beside_an_array(gpu):
    given = operands(3, 17, 2, np.float32)
    x, w = (gpu.to_device(a) for a in (given.x, given.w))
    address, read_only = x.__cuda_array_interface__["data"]
    x.__cuda_array_interface__["data"] = (address + (1 << 11), read_only)
    with pytest.raises(ptx.Fault, match=r"is in no array|is outside of"):
        nl.forward(x, w)


def test_finds_an_unaligned_access():
    kernel = ptx.parse(
        """.visible .entry k(.param .u64 p)
        { .reg .b64 %rd<3>; .reg .f32 %f<5>;
          ld.param.u64 %rd1, [p]; ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd1+4]; ret; }"""
    )
    memory = ptx.Memory()
    address = memory.place(np.zeros(64, np.uint8))
    with pytest.raises(ptx.Fault, match="not a multiple of 16"):
        ptx.run(kernel, 1, 1, [address], memory)


def test_knows_the_multiply_add_from_two_roundings():
    """(1 + ε)² - (1 + 2ε) = ε², which a rounded product would lose."""
    kernel = ptx.parse(
        """.visible .entry k(.param .u64 p)
        { .reg .b64 %rd<3>; .reg .f64 %fd<5>;
          ld.param.u64 %rd1, [p]; ld.global.f64 %fd1, [%rd1]; ld.global.f64 %fd2, [%rd1+8];
          fma.rn.f64 %fd3, %fd1, %fd1, %fd2; st.global.f64 [%rd1], %fd3; ret; }"""
    )
    e = np.finfo(np.float64).eps
    memory, numbers = ptx.Memory(), np.array([1 + e, -(1 + 2 * e)])
    ptx.run(kernel, 1, 1, [memory.place(numbers.view(np.uint8))], memory)
    assert numbers[0] == e * e


def test_sizes_of_a_batch_do_not_matter(gpu):
    """A row's bits do not depend on the tile that computes it."""
    given = operands(70, 300, 40, np.float32)
    w, b = gpu.to_device(given.w), gpu.to_device(given.b)
    whole = host(nl.forward(gpu.to_device(given.x), w, b))
    for k in (0, 33, 69):
        assert_bits(f"row {k}", host(nl.forward(gpu.to_device(given.x[k]), w, b)), whole[k])
    assert math.prod(whole.shape) == 2800

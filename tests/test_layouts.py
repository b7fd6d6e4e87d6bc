"""The layout of operands and of `out` changes neither a bit of the result nor a byte beside it."""

from types import SimpleNamespace

import numpy as np
import pytest
from bits import assert_bits
from layouts import LAYOUTS
from operations import DTYPES, OPERATIONS, assert_result, expected, operands, parts

from numba_linear import Gradients, forward, grad_bias, grad_input, grad_weight

SHAPES = [(19, 35, 22), (1, 70, 41), (261, 13, 40)]
EMPTY = [(3, 0, 4), (3, 4, 0), (0, 4, 3)]


def laid_out(given, layout, names="xwbg"):
    """The same operands, those named in the layout given."""
    return SimpleNamespace(
        **{name: layout.of(a) if name in names else a for name, a in vars(given).items()}
    )


def assert_filled(label, operation, given, layout):
    """`out` of this layout gets the whole result, and nothing beside it changes."""
    want = expected(operation, given)
    buffers, views = [], []
    for a in parts(want).values():
        buffer, view = layout.buffer(a.shape, a.dtype.type)
        view[...] = np.nan
        buffers.append((buffer, buffer.copy()))
        views.append(view)
    out = Gradients(*views) if isinstance(want, Gradients) else views[0]
    got = operation(given, out=out)
    for part, view in zip(parts(got).values(), views, strict=True):
        assert np.shares_memory(part, view) or not view.size, f"{label}: the result is not out"
    assert_result(label, out, want)
    for (buffer, before), view in zip(buffers, views, strict=True):
        view[...] = np.nan
        beside = np.flatnonzero(buffer != before)
        assert not beside.size, f"{label}: wrote beside out, first at byte {beside[:1]}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_operands(name, layout, dtype):
    operation = OPERATIONS[name]
    for shape in SHAPES:
        plain = operands(*shape, dtype)
        given = laid_out(plain, LAYOUTS[layout])
        label = f"{name} {shape}, {layout}"
        assert_result(label, operation(given), expected(operation, plain))


@pytest.mark.parametrize("name", OPERATIONS)
def test_operands_of_unlike_layouts(name):
    operation, plain = OPERATIONS[name], operands(19, 35, 22, np.float32)
    want = expected(operation, plain)
    for operand in operation.operands:
        for layout in ("Fortran", "backwards", "unaligned", "packed records"):
            given = laid_out(plain, LAYOUTS[layout], operand)
            assert_result(f"{name}, {operand} {layout}", operation(given), want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_out(name, layout, dtype):
    operation = OPERATIONS[name]
    for shape in SHAPES + EMPTY:
        if shape[0] or operation.reduction != "mean":
            given = operands(*shape, dtype)
            assert_filled(f"{name} {shape}, out {layout}", operation, given, LAYOUTS[layout])


@pytest.mark.parametrize("name", OPERATIONS)
def test_out_of_a_batch_with_several_dimensions(name):
    operation, given = OPERATIONS[name], operands((2, 3, 4), 17, 9, np.float64)
    for layout in ("C", "Fortran", "strided", "backwards"):
        assert_filled(f"{name}, out {layout}", operation, given, LAYOUTS[layout])


@pytest.mark.parametrize("name", OPERATIONS)
def test_read_only_operands(name):
    operation, given = OPERATIONS[name], operands(19, 35, 22, np.float64)
    want = expected(operation, given)
    for operand in operation.operands:
        getattr(given, operand).flags.writeable = False
    assert_result(name, operation(given), want)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operands_that_repeat_or_overlap_themselves(name):
    """Zero strides, as `np.broadcast_to` makes them, and windows that slide over one series."""
    operation, given = OPERATIONS[name], operands(19, 35, 22, np.float32)
    given.b = np.broadcast_to(given.b[:1], (22,))
    given.w = np.broadcast_to(given.w[:, :1], (22, 35))
    given.g = np.broadcast_to(given.g[:1], (19, 22))
    series = np.arange(53, dtype=np.float32)
    given.x = np.lib.stride_tricks.sliding_window_view(series, 35)
    assert_result(name, operation(given), expected(operation, given))


@pytest.mark.parametrize("name", OPERATIONS)
def test_one_operand_may_be_another(name):
    """Inputs may share memory with each other: only `out` may not."""
    square = operands(23, 23, 23, np.float64).w
    given = SimpleNamespace(x=square, w=square.T, b=square[3], g=square[::-1])
    operation = OPERATIONS[name]
    assert_result(name, operation(given), expected(operation, given))


@pytest.mark.parametrize("name", OPERATIONS)
def test_batches_that_do_not_collapse(name):
    """Leading dimensions whose strides no single row stride describes."""
    plain = operands((4, 3, 5), 17, 9, np.float32)
    operation = OPERATIONS[name]
    for axes in ((1, 0, 2, 3), (2, 0, 1, 3), (0, 2, 1, 3), (3, 1, 0, 2)):
        home = np.argsort(axes)
        given = SimpleNamespace(**vars(plain))
        given.x = np.ascontiguousarray(plain.x.transpose(axes)).transpose(home)
        assert_result(f"{name}, x from {axes}", operation(given), expected(operation, given))
        given.g = np.ascontiguousarray(plain.g.transpose(axes))[::-1].transpose(home)
        assert_result(f"{name}, x, g from {axes}", operation(given), expected(operation, given))
    given.x = np.broadcast_to(plain.x[:, :1], plain.x.shape)
    assert_result(f"{name}, x broadcast", operation(given), expected(operation, given))


def test_memory_mapped_operands_and_out(tmp_path):
    given = operands(5, 6, 3, np.float64)
    x = np.memmap(tmp_path / "x", np.float64, "w+", shape=(5, 6))
    x[...] = given.x
    y = np.memmap(tmp_path / "y", np.float64, "w+", shape=(5, 3))
    got = forward(x, given.w, given.b)
    assert type(got) is np.ndarray
    assert_bits("forward of a memmap", got, forward(given.x, given.w, given.b))
    assert forward(x, given.w, given.b, out=y) is y
    assert_bits("forward into a memmap", y, got)


@pytest.mark.parametrize(
    ("call", "given"),
    [
        (lambda o, out: forward(o.x, o.w, o.b, out), (7, 5)),
        (lambda o, out: grad_input(o.g, o.w, out), (7, 6)),
        (lambda o, out: grad_weight(o.g, o.x, "sum", out), (5, 6)),
        (lambda o, out: grad_bias(o.g, "sum", out), (5,)),
    ],
    ids=["forward", "grad_input", "grad_weight", "grad_bias"],
)
def test_out_is_returned(call, given):
    out = np.empty(given)
    assert call(operands(7, 6, 5, np.float64), out) is out

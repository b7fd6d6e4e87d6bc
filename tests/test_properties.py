"""Random calls: whatever the shapes, strides, dtype and options, the result is the equation."""

import math
from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import Layout
from operations import OPERATIONS, assert_result, expected, operands, parts

from numba_linear import Gradients, forward

# Larger than a tile in every direction, and sometimes longer than a leaf.
sizes = st.one_of(st.integers(0, 40), st.integers(41, 600))
LARGEST = 2**21
batches = st.one_of(st.tuples(sizes), st.lists(st.integers(0, 5), max_size=3).map(tuple))
layouts = st.builds(
    Layout,
    order=st.sampled_from("CF"),
    gap=st.sampled_from([0, 0, 0, 1, 8, 24]),
    pad=st.integers(0, 9),
    sign=st.sampled_from([1, 1, -1]),
    shift=st.sampled_from([0, 0, 0, 1, 4, 8, 16]),
)
dtypes = st.sampled_from([np.float32, np.float64])


@settings(max_examples=300)
@given(st.data())
def test_every_call_is_the_equation(data):
    name = data.draw(st.sampled_from(list(OPERATIONS)), "operation")
    operation = OPERATIONS[name]
    batch = data.draw(batches, "batch")
    if operation.reduction == "mean" and 0 in batch:
        batch = (1,)
    n, m = data.draw(sizes, "n"), data.draw(sizes, "m")
    if math.prod(batch) * n * m > LARGEST:
        n %= 41
    if math.prod(batch) * n * m > LARGEST:
        m %= 41
    dtype = data.draw(dtypes, "dtype")
    plain = operands(batch, n, m, dtype)
    arguments = SimpleNamespace(
        **{
            operand: data.draw(layouts, operand).of(a) if operand in operation.operands else a
            for operand, a in vars(plain).items()
        }
    )
    want = expected(operation, plain)
    options = {"parallel": data.draw(st.sampled_from([None, True, False]), "parallel")}
    views = []
    if data.draw(st.booleans(), "out"):
        layout = data.draw(layouts, "layout of out")
        views = [layout.buffer(a.shape, dtype) for a in parts(want).values()]
        outs = [view for _, view in views]
        options["out"] = Gradients(*outs) if isinstance(want, Gradients) else outs[0]
    got = operation(arguments, **options)
    assert_result(f"{name} {batch, n, m}", got, want)
    for buffer, view in views:
        view.view(f"u{view.itemsize}")[...] = ~view.view(f"u{view.itemsize}").dtype.type(0)
        assert (buffer == 0xFF).all(), "wrote beside out"


@settings(max_examples=60)
@given(K=sizes, n=sizes, m=sizes, cut=st.floats(0, 1), dtype=dtypes)
def test_a_batch_is_its_parts(K, n, m, cut, dtype):
    """The forward of two batches, one after the other, is the forward of both together."""
    x, w, b, _ = vars(operands(K, n, m, dtype)).values()
    at = int(cut * K)
    whole = forward(x, w, b)
    assert_result("first part", forward(x[:at], w, b), whole[:at])
    assert_result("second part", forward(x[at:], w, b), whole[at:])


@settings(max_examples=60)
@given(
    K=st.integers(1, 60), n=st.integers(1, 60), m=st.integers(1, 60), data=st.data(), dtype=dtypes
)
def test_powers_of_two_scale_exactly(K, n, m, data, dtype):
    """Multiplying one operand by 2ᵉ multiplies every product and sum, rounding included."""
    scale = dtype(2.0 ** data.draw(st.integers(-20, 20), "exponent"))
    plain = operands(K, n, m, dtype)
    for name, factor in (("grad_input", "w"), ("grad_weight sum", "x"), ("grad_bias sum", "g")):
        scaled = SimpleNamespace(**vars(plain))
        setattr(scaled, factor, getattr(plain, factor) * scale)
        operation = OPERATIONS[name]
        assert_result(name, operation(scaled), operation(plain) * scale)

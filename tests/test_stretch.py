"""Stretches of a batch, cut anywhere and joined in any order: the bits of the whole sum."""

import itertools

from bits import assert_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from operations import operands

from numba_linear import grad_bias, grad_weight
from numba_linear.stretch import Rows, join, stretch, unit_of, whole


def sums(g, x):
    return grad_weight(g, x, "sum"), grad_bias(g, "sum")


@settings(max_examples=60)
@given(
    K=st.integers(1, 6000),
    unit=st.sampled_from([256, 512, 1024]),
    cuts=st.lists(st.integers(1, 5999), max_size=12),
    data=st.data(),
)
def test_any_cuts_and_any_order_of_joining(K, unit, cuts, data):
    batch = operands(K, 3, 2, "f")
    ends = [0, *sorted({cut for cut in cuts if cut < K}), K]
    stretches = [
        stretch(sums, unit, start, (batch.g[start:stop], batch.x[start:stop]))
        for start, stop in itertools.pairwise(ends)
    ]
    while len(stretches) > 1:
        i = data.draw(st.integers(0, len(stretches) - 2), "first to be joined")
        count = data.draw(st.integers(2, 3), "so many")
        stretches[i : i + count] = [join(sums, unit, stretches[i : i + count])]
    for got, want in zip(whole(sums, unit, stretches), sums(batch.g, batch.x), strict=True):
        assert_bits(f"{ends} in units of {unit}", got, want)


def test_a_stretch_is_few_pieces_and_keeps_nothing_of_its_chunk():
    batch = operands(10_000, 3, 2, "d")
    pieces = stretch(sums, 256, 300, (batch.g, batch.x))
    assert len(pieces) <= 2 * 6 + 2
    rows = [piece for piece in pieces if isinstance(piece, Rows)]
    assert [len(piece.rows[0]) for piece in rows] == [212, (10_300) % 256]
    assert all(a.base is None for piece in rows for a in piece.rows)


def test_units():
    """A leaf, or so many samples that their sum is not much larger than their rows."""
    assert unit_of(10, 64) == unit_of(256, 256) == unit_of(1024, 1024) == 256
    assert unit_of(1100, 1100) == 512
    assert unit_of(4096, 4096) == 1024
    assert unit_of(0, 0) == unit_of(0, 5) == 256

"""Equality of arrays bit for bit, with a message that says where they differ."""

import numpy as np


def assert_bits(label, got, want):
    """Raise AssertionError unless two arrays have the same shape, dtype and bits.

    Any NaN equals any NaN, since a NaN's payload is not part of the contract; +0 differs from -0.
    The arrays' strides do not matter.

    Parameters
    ----------
    label : str
        The operation under test, with the operands' shapes where they are of interest.
    got, want : array_like
        The result and what it should be.
    """
    __tracebackhide__ = True
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        raise AssertionError(f"{label}: got shape {got.shape}, want {want.shape}")
    if got.dtype != want.dtype:
        raise AssertionError(f"{label}: got dtype {got.dtype}, want {want.dtype}")
    same = _words(got) == _words(want)
    if got.dtype.kind == "f":
        same |= np.isnan(got) & np.isnan(want)
    if same.all():
        return
    index = tuple(int(position) for position in np.argwhere(~same)[0])
    raise AssertionError(
        f"{label}: {np.count_nonzero(~same)} of {got.size} elements differ, "
        f"{got.dtype} of shape {got.shape}, first at {index}:\n"
        f"  got  {_both(got[index])}\n"
        f"  want {_both(want[index])}"
    )


def _words(a):
    """The elements of an array as unsigned integers of the same size."""
    return np.ascontiguousarray(a).reshape(a.shape).view(f"u{a.dtype.itemsize}")


def _both(value):
    """A number in decimal and, bit for bit, in hex."""
    return f"{value.item()!r:<24} 0x{int(_words(value[()])):0{2 * value.dtype.itemsize}x}"

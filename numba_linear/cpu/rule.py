"""The summation rule's one constant. Changing it changes bits; every tunable is in `machine.py`."""

from numba import njit

LEAF = 256  # terms of one fused multiply-add chain


@njit
def leaf_count(terms):
    """Leaves of a sum; an empty sum is one empty leaf, +0."""
    return max(1, (terms + LEAF - 1) // LEAF)

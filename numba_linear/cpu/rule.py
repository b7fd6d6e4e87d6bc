"""The summation rule's one constant. Changing it changes bits; what changes only speed is in
`tuning.py`."""

from numba_linear.jit.compiler import inlined

LEAF = 256  # terms of one fused multiply-add chain


@inlined
def leaf_count(terms):
    """Leaves of a sum; an empty sum is one empty leaf, +0."""
    return max(1, (terms + LEAF - 1) // LEAF)


@inlined
def level_count(leaves):
    """Levels of the tree above `leaves` leaves."""
    levels = 0
    while (leaves - 1) >> levels:
        levels += 1
    return levels


@inlined
def pending(q, final):
    """The levels of the tree whose partial sums are added after leaf q, as bits, the lowest first.

    A binary counter: the trailing ones of q, and after the last leaf all ones.
    """
    return q if q == final else q & ~(q + 1)

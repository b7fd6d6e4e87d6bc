"""The summation rule's one constant. Changing it changes bits; every tunable is in
`machine.py`."""

from numba_linear.cpu.compiler import inlined

LEAF = 256  # terms of one fused multiply-add chain


@inlined
def leaf_count(terms):
    """Leaves of a sum; an empty sum is one empty leaf, +0."""
    return max(1, (terms + LEAF - 1) // LEAF)


@inlined
def pending(q, final):
    """The levels of the tree whose partial sums are added after leaf q, as bits, the lowest first.

    A binary counter: the trailing ones of q, and after the last leaf every one.
    """
    return q if q == final else q & ~(q + 1)

"""The tree over the leaves of one fragment, whose partial sums wait in memory, a node apart."""

from numba_linear.cpu.fragment import add, load, store
from numba_linear.cpu.rule import pending
from numba_linear.jit.compiler import inlined


@inlined
def with_waiting(total, q, leaves, partials, node, row):
    """The sums of leaf q, to which those that wait for it are added. The result waits, too, unless
    the leaf is the last. The fragment's rows are `row` bytes apart."""
    levels = pending(q, leaves - 1)
    level = 0
    while levels >> level:
        if levels >> level & 1:
            total = add(load(total, partials + level * node, row), total)
        level += 1
    if q + 1 < leaves:
        store(total, partials + level * node, row)
    return total

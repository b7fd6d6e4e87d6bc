"""A stretch of a batch: its sums, as far as the summation rule allows without its neighbours.

Chunks of a batch end anywhere, but the rule's leaves and nodes end at multiples of 256·2ʲ. So a
stretch is a list of pieces: whole nodes, and at its ends the rows that lack their neighbours::

    chunk    300 ────────────────────────────────────────────── 1899
    pieces   rows    │ node     │ node        │ node        │ rows
             300…511 │ 512…1023 │ 1024…1535   │ 1536…1791   │ 1792…1899

Joining neighbours is associative: rows that complete a unit become a node, and two nodes that are
the halves of one become that one. So every order of joining leads to the same bits.

The unit, 256·2ʲ samples, is the smallest node that is summed; fewer samples stay rows. It changes
speed and no bits.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from numba_linear.equations import LEAF
from numba_linear.tree import Array, Node, Sums, parent, total

#: A function that sums rows of the operands, such as g and x.
SumOf = Callable[..., Sums]


class Rows(NamedTuple):
    """Rows of the operands from sample `start` on: part of one unit."""

    start: int
    rows: tuple[Array, ...]


Stretch = list[Node | Rows]


def unit_of(m: int, n: int) -> int:
    """Samples, at least a leaf, with about as many numbers, m + n each, as their sum has, m·n."""
    unit = LEAF
    while 2 * unit * (m + n) < m * n:
        unit *= 2
    return unit


def stretch(sum_of: SumOf, unit: int, start: int, rows: tuple[Array, ...]) -> Stretch:
    """The rows of samples from `start` on, in as few pieces as possible."""
    stop = start + len(rows[0])
    pieces: Stretch = []
    k = start
    while k < stop:
        end = min(stop, (k // unit + 1) * unit)
        if end - k < unit:
            # Copies, so that a piece does not keep its whole chunk in memory.
            pieces.append(Rows(k, tuple(a[k - start : end - start].copy() for a in rows)))
        else:
            while end + (end - k) <= stop and k % (2 * (end - k)) == 0:
                end += end - k
            sums = sum_of(*(a[k - start : end - start] for a in rows))
            pieces.append(Node(k, end - k, sums))
        k = end
    return pieces


def join(sum_of: SumOf, unit: int, stretches: Iterable[Stretch]) -> Stretch:
    """Neighbouring stretches as one."""
    pieces: Stretch = []
    for each in stretches:
        for piece in each:
            while pieces and (both := joined(sum_of, unit, pieces[-1], piece)):
                pieces.pop()
                piece = both
            pieces.append(piece)
    return pieces


def joined(sum_of: SumOf, unit: int, left: Node | Rows, right: Node | Rows) -> Node | Rows | None:
    """Two neighbouring pieces as one, if they are rows of one unit or halves of one node."""
    if isinstance(left, Node) and isinstance(right, Node):
        return parent(left, right)
    if isinstance(left, Node) or isinstance(right, Node):
        return None
    if left.start // unit != right.start // unit:
        return None
    rows = tuple(np.concatenate(pair) for pair in zip(left.rows, right.rows, strict=True))
    if len(rows[0]) == unit:
        return Node(left.start, unit, sum_of(*rows))
    return Rows(left.start, rows)


def whole(sum_of: SumOf, unit: int, stretches: Iterable[Stretch]) -> Sums:
    """The sum of stretches that make up the batch: the rows at its end are the last leaves."""
    return total(
        piece if isinstance(piece, Node) else Node(piece.start, 0, sum_of(*piece.rows))
        for piece in join(sum_of, unit, stretches)
    )

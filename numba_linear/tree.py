"""The tree of the summation rule above the leaves: sums of consecutive samples, added pairwise.

A node is the sum of 256·2ʲ samples that begin at a multiple of their number. A long batch may be
summed in such parts, on any machines: they are nodes of its tree and give the whole's bits.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from numba_linear import checks

Array = np.ndarray[Any, Any]
#: Sums over the same samples: of W's gradient, of b's, or of both.
Sums = tuple[Array, ...]

#: NumPy would warn of overflow and NaN; the layer's calls do not.
quiet = np.errstate(all="ignore")


class Node(NamedTuple):
    """Sums over `size` units from `start` on; `start` is a multiple of `size`."""

    start: int
    size: int
    sums: Sums


@quiet
def add(left: Sums, right: Sums) -> Sums:
    return tuple(a + b for a, b in zip(left, right, strict=True))


def parent(left: Node, right: Node) -> Node | None:
    """The node above two neighbours, if they are its two halves."""
    if left.size != right.size or left.start % (2 * left.size):
        return None
    return Node(left.start, 2 * left.size, add(left.sums, right.sums))


def total(nodes: Iterable[Node]) -> Sums:
    """The sum of neighbouring nodes of falling size: pending + new, from the smallest up."""
    *pending, last = nodes
    sums = last.sums
    for node in reversed(pending):
        sums = add(node.sums, sums)
    return sums


def tree_sum(parts: Iterable[Array]) -> Array:
    """The sum of partial sums over consecutive samples, with the bits of the whole sum.

    Each part is a sum over 256·2ʲ samples by `grad_weight` or `grad_bias` with
    ``reduction="sum"``, with the same j for all; only the last may have fewer samples. They are
    added pairwise, as the summation rule in `numba_linear.equations` adds leaves.

    Parameters
    ----------
    parts : iterable of ndarray
        The parts in the samples' order: a list, an array whose first dimension counts them, or a
        generator, of which at most ⌈log₂ parts⌉ parts are held at a time. All have the same shape
        and the same dtype, float32 or float64.

    Returns
    -------
    ndarray
        A new array of the parts' shape. A mean is this divided by K.

    Raises
    ------
    TypeError
        `parts` is not iterable, or a part is not an array or has another dtype.
    ValueError
        No parts, or parts of different shapes.

    Notes
    -----
    A part does not show how many samples it has. Other numbers of samples give a sum, too, but
    with other bits. It cannot be called inside `@njit`.

    Examples
    --------
    >>> import numpy as np
    >>> from numba_linear import grad_weight, tree_sum
    >>> rng = np.random.default_rng(0)
    >>> g, x = rng.standard_normal((5000, 10)), rng.standard_normal((5000, 64))
    >>> parts = [
    ...     grad_weight(g[k : k + 1024], x[k : k + 1024], "sum") for k in range(0, 5000, 1024)
    ... ]
    >>> bool((tree_sum(parts) == grad_weight(g, x, "sum")).all())
    True
    >>> bool((sum(parts) == grad_weight(g, x, "sum")).all())
    False
    """
    nodes: list[Node] = []
    for q, part in enumerate(checked(parts)):
        # Copy a part that waits: a generator may yield the same array again.
        node = Node(q, 1, (part if q % 2 else part.copy(),))
        while nodes and (above := parent(nodes[-1], node)):
            nodes.pop()
            node = above
        nodes.append(node)
    if not nodes:
        raise ValueError("tree_sum: there are no parts; wanted at least one")
    return np.asarray(total(nodes)[0])


def checked(parts: Any) -> Iterator[Array]:
    """The parts one by one, each checked to be an array like the first."""
    if isinstance(parts, np.ma.MaskedArray) or not isinstance(parts, Iterable):
        raise TypeError(
            f"tree_sum: parts is of type {type(parts).__name__}; wanted a list, an array or a"
            " generator of NumPy ndarrays"
        )
    if isinstance(parts, np.ndarray):
        if not parts.ndim:
            raise ValueError("tree_sum: parts has 0 dimensions; wanted its first to count parts")
        array = parts
        parts = (array[q, ...] for q in range(len(array)))
    first = None
    for q, part in enumerate(parts):
        name, given = f"parts[{q}]", checks.given_value(part)
        if given.dtype is None:
            raise TypeError(
                f"tree_sum: {name} is of type {given.kind}; wanted a NumPy ndarray, the sum over"
                " some of the samples"
            )
        checks.check_dtype("tree_sum", name, given, {name: given})
        first = part if first is None else first
        if part.dtype != first.dtype:
            raise TypeError(
                f"tree_sum: parts[0] has dtype {first.dtype} and {name} has dtype {part.dtype};"
                " wanted one dtype for all"
            )
        if part.shape != first.shape:
            raise ValueError(
                f"tree_sum: parts[0] has shape {first.shape} and {name} has shape {part.shape};"
                " wanted one shape for all"
            )
        yield part

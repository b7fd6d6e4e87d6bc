"""What the engine's functions pass to each other."""

from typing import NamedTuple

from numba_linear.cpu.matrix import Matrix, transposed
from numba_linear.jit.compiler import inlined


class Epilogue(NamedTuple):
    """What follows each sum: (sum + bias[c]) / divisor, as in `finish`.

    `bias` is an address, or 0 for none; its numbers are `step` bytes apart.
    """

    bias: int
    step: int
    divisor: float


class Problem(NamedTuple):
    """C[r, c] = Σ_p A[r, p] · B[c, p], and the epilogue."""

    a: Matrix  # rows × terms
    b: Matrix  # cols × terms
    c: Matrix  # rows × cols
    rows: int
    cols: int
    terms: int
    epilogue: Epilogue


@inlined
def of_transpose(problem):
    """The same sums as Cᵀ = B · Aᵀ. The bias, one number per column of C, is the caller's care."""
    a, b, c, rows, cols, terms, epilogue = problem
    return Problem(b, a, transposed(c), cols, rows, terms, epilogue)


class Leaves(NamedTuple):
    """The leaves begin … end-1 of sums of `terms` terms, and where partial sums wait for the rest.

    A partial sum of 2^level leaves waits in `partials` if its level is below `low`; none of these
    is left at `end`. The others wait in `kept`, in `kept_tile` bytes per tile.
    """

    terms: int
    begin: int
    end: int
    partials: int
    kept: int
    kept_tile: int
    low: int


class Sweep(NamedTuple):
    """Memory to prefetch in pieces, a few cache lines per tile."""

    at: int
    lines: int


class Prefetch(NamedTuple):
    """What a tile prefetches: two cache lines per term, a line of each of C's rows, and of A and B
    what the next block of terms takes.

    The first term's lines are at `at`, the next term's `step` bytes further, and the next tile's
    `tile` bytes. C's lines are `c` bytes after the tile's own; 0 for none.
    """

    at: int
    step: int
    tile: int
    c: int
    next_a: Sweep
    next_b: Sweep


class Onward(NamedTuple):
    """How a sum goes on from an earlier call, by terms of one leaf; all 0 for a whole sum.

    It starts from the leaf under way, which is at C, if that was `begun`, else from +0. If these
    terms fill the leaf, `merges` partial sums of the tree are added: the first is `first` bytes
    after C, each next one `level` bytes further. The result goes `to` bytes after C.
    """

    begun: int
    first: int
    level: int
    merges: int
    to: int


class Going(NamedTuple):
    """A contraction whose sums go on, or are whole."""

    problem: Problem
    onward: Onward

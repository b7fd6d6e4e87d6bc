"""What the engine's functions hand on to each other."""

from typing import NamedTuple

from numba_linear.cpu.matrix import Matrix


class Epilogue(NamedTuple):
    """What follows each sum: (sum + bias[c]) / divisor, as in `finish`.

    `bias` is an address, 0 for none; its numbers lie `step` bytes apart.
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


class Leaves(NamedTuple):
    """The leaves begin … end-1 of sums of `terms` terms, and where partial sums wait for the rest.

    One of 2^level leaves waits in `partials`, if its level is below `low`: none of these is left
    at `end`. Others wait in `kept`, of which each tile has `kept_tile` bytes.
    """

    terms: int
    begin: int
    end: int
    partials: int
    kept: int
    kept_tile: int
    low: int


class Prefetch(NamedTuple):
    """What a tile prefetches: two cache lines per term, and a line of each of C's rows.

    The lines of the first term lie at `at`, those of the next `step` bytes further, and those of
    the next tile `tile`. C's lines lie `c` bytes further; 0 for none.
    """

    at: int
    step: int
    tile: int
    c: int


class Window(NamedTuple):
    """The rows above … rows-1 and columns left … cols-1 of a tile: those that are its own, where
    it begins early, and that C has."""

    above: int
    rows: int
    left: int
    cols: int


class Onward(NamedTuple):
    """How a sum goes on that was begun before: its terms are of one leaf.

    At C lies the leaf under way, from which it starts if it was begun, else from +0. `merges`
    partial sums of the tree are added if these terms fill it: the first lies `first` bytes after
    C, the next `level` bytes further. The result goes `to` bytes after C.
    """

    begun: int
    first: int
    level: int
    merges: int
    to: int


class Going(NamedTuple):
    """A sum that goes on."""

    problem: Problem
    onward: Onward

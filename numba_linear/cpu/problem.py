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

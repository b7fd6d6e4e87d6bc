"""What the engine's functions hand on to each other."""

from typing import NamedTuple

from numba_linear.cpu.matrix import Matrix


class Problem(NamedTuple):
    """C[r, c] = (Σ_p A[r, p] · B[c, p] + bias[c]) / divisor, and sums[r] = (Σ_p A[r, p]) /
    divisor.

    `bias` and `sums` are addresses, 0 for none, of contiguous numbers; only `contract_into` and
    `contract_small` take a bias whose numbers lie apart. `divisor` is as in `finish`.
    """

    a: Matrix  # rows × terms
    b: Matrix  # cols × terms
    c: Matrix  # rows × cols
    rows: int
    cols: int
    terms: int
    bias: int
    divisor: float
    sums: int


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


class Ahead(NamedTuple):
    """What a tile asks for meanwhile: two cache lines for each term, the first at `at`, and then
    `step` bytes on for each term and `tile` for each tile; and the line of each of C's rows that
    lies `c` bytes further, or, for 0, none, which `tiles_of_panel` decides.

    Two lines: 2048³ runs at 207 GF with one and at 193 without, (8, 1024, 1024) grad_input takes
    208 us with one and 170 with two.
    """

    at: int
    step: int
    tile: int
    c: int

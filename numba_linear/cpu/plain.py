"""The contraction as its equation stands, for so few multiply-adds that preparing for anything
quicker would take longer than they do."""

from numba_linear.cpu.compiler import inlined
from numba_linear.cpu.fragment import finish, outer, store, zero
from numba_linear.cpu.machine import number
from numba_linear.cpu.matrix import from_number
from numba_linear.cpu.rule import LEAF

#: Multiply-adds up to which it pays, each sum counting as two more: 86 ns to 40 at (1, 4, 4)
#: forward in `@njit`, 142 to 128 at (8, 4, 4).
FEW_WORK = 200


@inlined
def is_plain(problem):
    """Whether it pays; a sum is then of one leaf."""
    _, _, _, rows, cols, terms, _, _, sums = problem
    return terms <= LEAF and rows * cols * (terms + 2) <= FEW_WORK and not sums


@inlined
def contract_plain(tiling, problem, bias_step):
    """The problem, with A, B, C and the bias, whose numbers lie `bias_step` bytes apart, of any
    strides."""
    a, b, c, rows, cols, terms, bias, divisor, _ = problem
    for r in range(rows):
        for j in range(cols):
            acc = zero(number(tiling))
            at, bt = from_number(a, r, 0).at, from_number(b, j, 0).at
            for p in range(terms):
                acc = outer(acc, at + p * a.col, 0, bt + p * b.col)
            bias_at = bias + j * bias_step if bias else 0
            store(finish(acc, bias_at, divisor), from_number(c, r, j).at, 0)

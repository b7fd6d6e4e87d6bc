"""The contraction on one thread, by the planned path. C's rows are contiguous.

All sums of the layer are this one; the operands' strides say which index is which::

    forward      Y[k, i]  = Σ_l x[k, l] · w[i, l] + b[i]       A = x        B = w
    grad_input   ∂X[k, l] = Σ_i g[k, i] · w[i, l]              A = g        B = wᵀ
    grad_weight  ∂W[i, l] = Σ_k g[k, i] · x[k, l]  (/ K)       A = gᵀ       B = xᵀ
    grad_bias    ∂b[i]    = Σ_k 1 · g[k, i]        (/ K)       A = a one    B = gᵀ
"""

from numba_linear.codes import FINE
from numba_linear.cpu.dotxf import contract_dotxf
from numba_linear.cpu.driver import contract_tiles
from numba_linear.cpu.gemv import contract_dots, contract_rows
from numba_linear.cpu.leaf_pairs import contract_leaf_pairs
from numba_linear.cpu.plan import (
    DOTS,
    DOTXF,
    LEAF_PAIRS,
    OUTER,
    ROWS,
    STRIPS,
    TRANSPOSED,
    path_of_rows,
)
from numba_linear.cpu.problem import Going, Onward, Problem
from numba_linear.cpu.small import contract_small
from numba_linear.cpu.strips import contract_strips
from numba_linear.cpu.transposed import contract_transposed
from numba_linear.jit.resident import resident


@resident
def contract_alone(tiling, problem: Problem) -> int:
    if problem.rows == 0 or problem.cols == 0:
        return FINE
    path = path_of_rows(tiling, problem)
    if path == OUTER:
        return contract_small(tiling, problem, path)
    if path == STRIPS:
        return contract_strips(tiling, Going(problem, Onward(0, 0, 0, 0, 0)))
    if path == TRANSPOSED:
        return contract_transposed(tiling, problem)
    if path == LEAF_PAIRS:
        return contract_leaf_pairs(tiling, problem)
    if path == DOTXF:
        return contract_dotxf(tiling, problem)
    if path == DOTS:
        return contract_dots(tiling, problem)
    if path == ROWS:
        return contract_rows(tiling, problem)
    return contract_tiles(tiling, problem)

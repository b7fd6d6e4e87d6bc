"""The contraction by its transpose, Cᵀ = B · Aᵀ.

Planned where `by_transpose`: A is cheaper to transpose than B. A tile needs a term's columns side
by side. If the terms of both operands are contiguous, as in forward, packing transposes one of
them: B, or here A, and then C is transposed too. The sums are the same, and so are the bits.
"""

from numba_linear.codes import FINE, MEMORY
from numba_linear.cpu.driver import contract_tiles
from numba_linear.cpu.fragment import (
    allocate,
    columns_of,
    finish,
    item_bytes,
    load_few_columns,
    load_part,
    put,
    release,
    scratch,
    store,
)
from numba_linear.cpu.machine import square, tiling_for, vector
from numba_linear.cpu.matrix import Matrix, from_number
from numba_linear.cpu.plan import columns_at_once
from numba_linear.cpu.problem import Epilogue, Problem
from numba_linear.jit.resident import resident


@resident(late=tiling_for)
def contract_transposed(tiling, problem: Problem) -> int:
    """C from Cᵀ, some of B's columns at a time."""
    a, b, c, rows, cols, terms, epilogue = problem
    size, lanes = item_bytes(tiling), columns_of(tiling) // 2
    most, row = columns_at_once(tiling, problem)
    block = allocate(most * row)
    failed = FINE if block else MEMORY
    bias_part = scratch(64)
    for column in range(0, cols, most):
        some = min(most, cols - column)
        if not failed:
            part, c_part = from_number(b, column, 0), Matrix(block, row, size)
            failed = contract_tiles(
                tiling, Problem(part, a, c_part, some, rows, terms, Epilogue(0, 0, 0.0))
            )
        if failed:
            break
        for j in range(0, some, lanes):
            bias_at = 0
            if epilogue.bias:
                bias_at = bias_part
                numbers = load_part(vector(tiling), epilogue.bias + (column + j) * size, some - j)
                store(numbers, bias_at, 0)
            for r in range(0, rows, lanes):
                at = block + j * row + r * size
                acc = load_few_columns(square(tiling), at, row, some - j, rows - r)
                acc = finish(acc, bias_at, epilogue.divisor)
                put(acc, from_number(c, r, column + j).at, c.row, rows - r, some - j)
    release(block)
    return failed

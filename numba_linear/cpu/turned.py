"""The contraction by its transpose, Cᵀ = B · Aᵀ, where A is less to transpose than B.

A tile wants the columns of a term side by side. Where the terms of both operands are contiguous,
as in forward, one of them is transposed while it is packed: B, or here A and afterwards C. The
same sums, so the same bits; with few rows a fifth less time: 32 us to 26 at (32, 256, 256).
"""

from numba_linear.cpu.compiler import inlined
from numba_linear.cpu.contract import contract
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
from numba_linear.cpu.machine import LINE, PAGE, square, vector
from numba_linear.cpu.matrix import Matrix, from_number
from numba_linear.cpu.problem import Problem
from numba_linear.cpu.resident import resident

#: Bytes of Cᵀ at a time, which wait in the second-level cache, and of its rows up to which enough
#: of them do, since A is packed for each time anew; bytes of a B from which on it pays.
TURNED, WIDEST, LEAST = 256 << 10, 1 << 10, 32 << 10


@inlined
def turns(tiling, problem):
    """Whether it pays: at least half of the transposing is saved, and an eighth of the lanes, or
    less, is idle. It does not give the sums of A's rows."""
    a, b, _, rows, cols, terms, _, _, sums = problem
    size, lanes = item_bytes(tiling), columns_of(tiling) // 2
    return (
        a.col == size
        and b.col == size
        and rows * size <= WIDEST
        and cols * terms * size >= LEAST
        and 2 * rows * (terms + cols) <= cols * terms
        and -rows % lanes * 8 <= rows
        and b.row % PAGE != 0
        and not sums
    )


@resident
def contract_turned(tiling, problem: Problem) -> int:
    """`contract` by way of Cᵀ."""
    a, b, c, rows, cols, terms, bias, divisor, _ = problem
    size, lanes = item_bytes(tiling), columns_of(tiling) // 2
    row = (rows * size + LINE - 1) // LINE * LINE
    most = min(cols, max(TURNED // row // lanes, 1) * lanes)
    turned = allocate(most * row)
    failed = 0 if turned else 1
    bias_part = scratch(64)
    for column in range(0, cols, most):
        some = min(most, cols - column)
        if not failed:
            part, c_part = from_number(b, column, 0), Matrix(turned, row, size)
            failed = contract(tiling, Problem(part, a, c_part, some, rows, terms, 0, 0.0, 0))
        if failed:
            break
        for j in range(0, some, lanes):
            bias_at = 0
            if bias:
                bias_at = bias_part
                numbers = load_part(vector(tiling), bias + (column + j) * size, some - j)
                store(numbers, bias_at, 0)
            for r in range(0, rows, lanes):
                at = turned + j * row + r * size
                acc = load_few_columns(square(tiling), at, row, some - j, rows - r)
                acc = finish(acc, bias_at, divisor)
                put(acc, from_number(c, r, column + j).at, c.row, rows - r, some - j)
    release(turned)
    return failed

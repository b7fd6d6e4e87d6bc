"""The contraction block by block, each copied to C from a buffer whose rows are contiguous.

Planned where `is_strided`: the rows of C or the bias are not contiguous.
"""

from numba_linear.codes import MEMORY
from numba_linear.cpu.contract import contract_alone
from numba_linear.cpu.fragment import allocate, copy, item_bytes, release, scratch
from numba_linear.cpu.machine import tiling_for
from numba_linear.cpu.matrix import Matrix, from_number
from numba_linear.cpu.problem import Epilogue, Problem
from numba_linear.cpu.tuning import STRIDED_BLOCK
from numba_linear.jit.resident import resident

BIAS_BYTES = 8 * STRIDED_BLOCK


@resident(late=tiling_for)
def contract_strided(tiling, problem: Problem) -> int:
    a, b, c, rows, cols, terms, epilogue = problem
    size, most = item_bytes(tiling), STRIDED_BLOCK
    bias = scratch(BIAS_BYTES)
    block = allocate(min(rows, most) * min(cols, most) * size)
    failed = 0 if block else MEMORY
    for j in range(0, cols, most):
        some_cols = min(most, cols - j)
        bias_at = 0
        if epilogue.bias:
            bias_at = bias
            for s in range(some_cols):
                copy(tiling, bias + s * size, epilogue.bias + (j + s) * epilogue.step)
        for i in range(0, rows, most):
            if failed:
                break
            some_rows = min(most, rows - i)
            part = Problem(
                from_number(a, i, 0),
                from_number(b, j, 0),
                Matrix(block, some_cols * size, size),
                some_rows,
                some_cols,
                terms,
                Epilogue(bias_at, size, epilogue.divisor),
            )
            failed = contract_alone(tiling, part)
            for r in range(some_rows):
                for s in range(some_cols):
                    number = block + (r * some_cols + s) * size
                    copy(tiling, from_number(c, i + r, j + s).at, number)
    release(block)
    return failed

"""The contraction by parts of its terms, on several threads: split-K.

Planned where `splits_k`: C is small and its sums are long. Each part is a node of the rule's tree,
so that the bits stay the same.
"""

from numba_linear.codes import FINE, MEMORY
from numba_linear.cpu.fragment import (
    add,
    allocate,
    columns_of,
    finish,
    item_bytes,
    load,
    load_part,
    put,
    release,
    scratch,
    store,
)
from numba_linear.cpu.machine import vectors
from numba_linear.cpu.matrix import Matrix, from_number
from numba_linear.cpu.parts import contract_parts
from numba_linear.cpu.plan import Parts, terms_of_part
from numba_linear.cpu.problem import Epilogue, Problem
from numba_linear.jit.compiler import inlined


@inlined
def contract_split_k(tiling, problem, threads):
    a, b, c, rows, cols, terms, epilogue = problem
    size, width, part_terms = item_bytes(tiling), columns_of(tiling), terms_of_part(terms, threads)
    row = (cols + width - 1) // width * width * size
    whole, parts = rows * row, (terms + part_terms - 1) // part_terms
    work = allocate(parts * whole)
    part = Problem(a, b, Matrix(work, row, size), rows, cols, terms, Epilogue(0, 0, 0.0))
    if not work:
        return MEMORY
    failed = contract_parts(tiling, part, Parts(1, 1, part_terms, whole))
    if failed:
        release(work)
        return failed
    # Of two neighbours the left is a whole subtree, so adding level by level is the rule's tree.
    reach = 1
    while reach < parts:
        for i in range(0, parts - reach, 2 * reach):
            left, right = work + i * whole, work + (i + reach) * whole
            for at in range(0, whole, width * size):
                left_sum = load(vectors(tiling), left + at, 0)
                store(add(left_sum, load(vectors(tiling), right + at, 0)), left + at, 0)
        reach *= 2
    bias_row = scratch(1024)
    for j in range(0, cols, width):
        bias = 0
        if epilogue.bias:
            bias = bias_row
            store(load_part(vectors(tiling), epilogue.bias + j * size, cols - j), bias_row, 0)
        for r in range(rows):
            acc = load(vectors(tiling), work + r * row + j * size, 0)
            put(finish(acc, bias, epilogue.divisor), from_number(c, r, j).at, 0, 1, cols - j)
    release(work)
    return FINE

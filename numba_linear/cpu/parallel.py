"""The contraction on the caller's thread or on several: where to cut it, the bits being the same.

C's longer side is cut; where C is small and its sums are long, the terms are cut instead, at
aligned groups of leaves, which are nodes of the rule's tree.
"""

from numba import prange, types
from numba.extending import overload

from numba_linear.cpu.compiler import INLINED, inlined
from numba_linear.cpu.contract import contract
from numba_linear.cpu.environment import restore, set_default
from numba_linear.cpu.fragment import (
    add,
    allocate,
    columns_of,
    copy,
    finish,
    item_bytes,
    load,
    load_part,
    put,
    release,
    rows_of,
    scratch,
    store,
)
from numba_linear.cpu.launch import for_one, give, started, take
from numba_linear.cpu.machine import a_bytes, alone, vectors
from numba_linear.cpu.matrix import Matrix, from_number
from numba_linear.cpu.problem import Problem
from numba_linear.cpu.resident import resident
from numba_linear.cpu.rule import LEAF, leaf_count
from numba_linear.cpu.small import contract_small, is_small
from numba_linear.cpu.turned import contract_turned, turns

#: How a call may use threads: as many as pay, the caller's alone, or all. It is the caller's alone
#: without `Tiling.threads`, and where a plain loop does.
AUTO, SERIAL, PARALLEL = 0, 1, 2

#: Nanoseconds that threads must save, by the estimate of `saves`, before a call starts them by
#: itself: where a core is busy elsewhere, a launch waits for milliseconds.
SAVED = 30_000

#: Nanoseconds of a launch, and of one of the layer "workqueue".
LAUNCH, WORKQUEUE_LAUNCH = 4_000, 130_000

#: Bytes of factors that one thread multiplies in a nanosecond, and bytes that it reads from beyond
#: its own caches: those of a Zen 4, whose threads save what is estimated or a little less.
MULTIPLIED, READ = 200, 70

#: Bytes of C up to which its terms may be cut, each part with a C of its own, and by how much they
#: must outnumber its rows and columns: 3.9 ms to 2.2 at (1, 4096, 4096) forward.
SMALL_C, LONG = 128 << 10, 16

# `numba.get_num_threads` as the symbol that Numba's own parallel code calls: unlike the function,
# it lets the caller be cached. The parallel functions below, compiled or loaded first, make it
# resolve.
num_threads = types.ExternalFunction("get_num_threads", types.intc())


@inlined
def cut(extent, grain, parts, i):
    """Where the i-th of nearly equal parts begins, at a multiple of `grain`."""
    grains = (extent + grain - 1) // grain
    return min(extent, grains * i // parts * grain)


@inlined
def saves(tiling, rows, cols, terms, threads, launch):
    """Whether so many threads save enough."""
    size = item_bytes(tiling)
    read = (rows * terms + cols * terms + rows * cols) * size - 2 * a_bytes(tiling)
    alone = max(rows * cols * terms * size // MULTIPLIED, read // READ)
    return alone - alone // threads - launch >= SAVED


@inlined
def contract_alone(tiling, problem):
    """The contraction on the caller's thread."""
    if turns(tiling, problem):
        return contract_turned(tiling, problem)
    return contract(tiling, problem)


@resident(parallel=True, ready=started)
def contract_parts(tiling, problem: Problem, row_parts, col_parts, part_terms, part_bytes) -> int:
    """`contract` on row_parts × col_parts parts of C at once, or on parts of the terms.

    Each part of the terms has a C and sums of its own, `part_bytes` from the ones before.
    """
    # Numba wants to see a prange's named tuples made.
    a, b, c = Matrix(*problem.a), Matrix(*problem.b), Matrix(*problem.c)
    _, _, _, rows, cols, terms, bias, divisor, sums = problem
    size = item_bytes(tiling)
    term_parts = (terms + part_terms - 1) // part_terms if terms > part_terms else 1
    failed = 0
    for i in prange(row_parts * col_parts * term_parts):
        p = i % term_parts * part_terms
        i_row, i_col = i // term_parts // col_parts, i // term_parts % col_parts
        row = cut(rows, rows_of(tiling), row_parts, i_row)
        end_row = cut(rows, rows_of(tiling), row_parts, i_row + 1)
        col = cut(cols, columns_of(tiling), col_parts, i_col)
        end_col = cut(cols, columns_of(tiling), col_parts, i_col + 1)
        c_part, part = from_number(c, row, col), i % term_parts * part_bytes
        former = set_default()
        failed += contract_alone(
            alone(tiling),
            Problem(
                from_number(a, row, p),
                from_number(b, col, p),
                Matrix(c_part.at + part, c.row, c.col),
                end_row - row,
                end_col - col,
                min(part_terms, terms - p),
                bias + col * size if bias else 0,
                divisor,
                sums + part + row * size if sums and i_col == col_parts - 1 else 0,
            ),
        )
        restore(former)
    return failed


@resident
def contract_terms(tiling, problem: Problem, part_terms) -> int:
    """The contraction by parts of the terms, each a node of the tree, and the tree above them."""
    a, b, c, rows, cols, terms, bias, divisor, sums = problem
    size, width = item_bytes(tiling), columns_of(tiling)
    row = (cols + width - 1) // width * width * size
    sums_at = rows * row
    whole = sums_at + ((rows + width - 1) // width * width * size if sums else 0)
    parts = (terms + part_terms - 1) // part_terms
    work = allocate(parts * whole)
    part = Matrix(work, row, size)
    part_sums = work + sums_at if sums else 0
    parted = Problem(a, b, part, rows, cols, terms, 0, 0.0, part_sums)
    if not work or contract_parts(tiling, parted, 1, 1, part_terms, whole):
        release(work)
        return 1
    # Of neighbours, the left is always a whole subtree: level by level left + right is the rule's
    # tree.
    reach = 1
    while reach < parts:
        for i in range(0, parts - reach, 2 * reach):
            left, right = work + i * whole, work + (i + reach) * whole
            for at in range(0, whole, width * size):
                left_sum = load(vectors(tiling), left + at, 0)
                store(add(left_sum, load(vectors(tiling), right + at, 0)), left + at, 0)
        reach *= 2
    bias_row = scratch(1024)
    for r in range(rows):
        for j in range(0, cols, width):
            bias_at = 0
            if bias:
                bias_at = bias_row
                store(load_part(vectors(tiling), bias + j * size, cols - j), bias_row, 0)
            acc = finish(load(vectors(tiling), work + r * row + j * size, 0), bias_at, divisor)
            put(acc, from_number(c, r, j).at, 0, 1, cols - j)
    if sums:
        for r in range(0, rows, width):
            acc = finish(load(vectors(tiling), part_sums + r * size, 0), 0, divisor)
            put(acc, sums + r * size, 0, 1, rows - r)
    release(work)
    return 0


def contract_with(tiling, mode, problem):
    """`contract`, on several threads where there is code for them and the mode says so."""


@overload(contract_with, jit_options=INLINED)
def _contract_with(tiling, mode, problem):
    def on_one(tiling, mode, problem):
        return contract_alone(tiling, problem)

    def on_several(tiling, mode, problem):
        _, _, _, rows, cols, terms, _, _, sums = problem
        threads = 1 if mode == SERIAL else num_threads()
        if mode == AUTO:
            launch = WORKQUEUE_LAUNCH if for_one() else LAUNCH
            if not saves(tiling, rows, cols, terms, threads, launch):
                threads = 1
        if threads == 1 or not take():
            return contract_alone(alone(tiling), problem)
        small = rows * cols * item_bytes(tiling) <= SMALL_C and terms >= LONG * max(rows, cols)
        if small and leaf_count(terms) >= 4 * threads:
            leaves = 1
            while leaves * LEAF * 8 * threads < terms:
                leaves *= 2
            failed = contract_terms(tiling, problem, leaves * LEAF)
        else:
            # Each thread packs all of the side that is not cut, so the longer is: two threads take
            # 46 us or 33 at (32, 256, 256) forward, 12.8 ms or 11.8 at (512, 768, 3072)
            # grad_input. Of parts of columns the last gives all sums of A's rows.
            row_parts, col_parts = threads, 1
            if cols > rows:
                row_parts, col_parts = 1, threads
            elif sums:  # each part has rows enough for them
                row_parts = max(1, min(threads, rows // columns_of(tiling)))
            failed = contract_parts(tiling, problem, row_parts, col_parts, max(1, terms), 0)
        give()
        return failed

    return on_several if tiling.threads else on_one


@resident
def contract_into(tiling, mode, problem: Problem, bias_step) -> int:
    """The contraction into a C, and with a bias, of any strides; not 0 if memory was wanting.

    With sums as in `contract`, and only for a C with contiguous rows.
    """
    a, b, c, rows, cols, terms, bias, divisor, sums = problem
    if rows == 0 or cols == 0:
        return 0
    if is_small(tiling, problem, bias_step):
        contract_small(tiling, problem, bias_step)
        return 0
    size = item_bytes(tiling)
    row_of_bias = 0
    if bias and bias_step != size:
        row_of_bias = allocate(cols * size)
        if not row_of_bias:
            return 1
        for j in range(cols):
            copy(tiling, row_of_bias + j * size, bias + j * bias_step)
        problem = Problem(a, b, c, rows, cols, terms, row_of_bias, divisor, sums)
    if c.col != size:
        failed = contract_scattered(tiling, problem)
    else:
        failed = contract_with(tiling, mode, problem)
    release(row_of_bias)
    return failed


@resident
def contract_scattered(tiling, problem: Problem) -> int:
    """Where the rows of C are not contiguous: block by block by way of one whose rows are."""
    a, b, c, rows, cols, terms, bias, divisor, _ = problem
    size, most = item_bytes(tiling), 256
    block = allocate(min(rows, most) * min(cols, most) * size)
    failed = 0 if block else 1
    for i in range(0, rows, most):
        for j in range(0, cols, most):
            if failed:
                break
            some_rows, some_cols = min(most, rows - i), min(most, cols - j)
            failed = contract(
                alone(tiling),
                Problem(
                    from_number(a, i, 0),
                    from_number(b, j, 0),
                    Matrix(block, some_cols * size, size),
                    some_rows,
                    some_cols,
                    terms,
                    bias + j * size if bias else 0,
                    divisor,
                    0,
                ),
            )
            for r in range(some_rows):
                for s in range(some_cols):
                    number = block + (r * some_cols + s) * size
                    copy(tiling, from_number(c, i + r, j + s).at, number)
    release(block)
    return failed

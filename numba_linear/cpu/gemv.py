"""One row of C, or a few: matrix times vector. B is read once, so nothing is packed.

`gemv_dot` is planned where `by_dots`, for a B whose terms are contiguous (forward): blocks of it
are transposed in registers. `gemv_rows` is planned where `by_rows`, for a B whose columns are
contiguous (grad_input, grad_bias): B is read row by row, in place, while a stretch of C stays in
L1.
"""

from numba_linear.codes import FINE, MEMORY
from numba_linear.cpu.fragment import (
    add,
    allocate,
    chain,
    columns_of,
    copy,
    finish,
    item_bytes,
    load,
    load_columns,
    load_few_columns,
    load_part,
    outer,
    prefetch_rows,
    put,
    release,
    row_bytes,
    scratch,
    store,
    zero,
)
from numba_linear.cpu.machine import LINE, dot_block, dots, square, stripe, tiling_for
from numba_linear.cpu.matrix import Matrix, from_number
from numba_linear.cpu.partials import with_waiting
from numba_linear.cpu.plan import dots_for, stretches_for
from numba_linear.cpu.problem import Problem
from numba_linear.cpu.rule import LEAF, leaf_count, level_count, pending
from numba_linear.cpu.tuning import DOT_LEAVES, DOT_ROWS, STACK
from numba_linear.jit.compiler import inlined
from numba_linear.jit.resident import resident

#: Bytes of the sums of `DOT_LEAVES` leaves, in vectors of at most 64 bytes.
SUMS = 64 * DOT_LEAVES * DOT_ROWS


@inlined
def gemv_dot(tiling, problem, partials):
    """C[r, c] = Σ_p A[r, p] · B[c, p] for up to `DOT_ROWS` rows; A's terms are contiguous too.

    A block is as many terms as a vector has lanes, of as many columns or at least `DOT_COLUMNS`.
    All rows of A take a block once it is transposed. A single row may have two blocks under way,
    one per side.
    """
    a, b, c, rows, cols, terms, epilogue = problem
    size, step, lanes = item_bytes(tiling), columns_of(tiling) // 2, columns_of(dots(tiling))
    taken, width = step * size, row_bytes(dots(tiling))
    # for each leaf the sums of a block, for all rows or both sides; and room for a partial block
    sums, edge = scratch(SUMS), scratch(1024)
    node = DOT_ROWS * width
    leaves = leaf_count(terms)
    inside = min(lanes, cols)
    most, most_lag, far = dots_for(tiling, problem)
    for column in range(0, cols, most * lanes):
        sides = min(most, (cols - column + lanes - 1) // lanes)
        # the last block begins early and computes some columns again, to the same bits
        first = max(0, min(column, cols - lanes))
        second = max(0, min(column + lanes, cols - lanes))
        for begin in range(0, leaves, DOT_LEAVES):
            p, end = begin * LEAF, min(terms, (begin + DOT_LEAVES) * LEAF)
            for q in range(min(leaves - begin, DOT_LEAVES)):
                for i in range(0, sides * rows * width, width):
                    store(zero(dots(tiling)), sums + q * node + i, 0)
            blocks = (end - p) // step if inside == lanes else 0
            lag = min(blocks, most_lag) if sides == 2 else 0
            ap, at = a.at + p * size, b.at + first * b.row + p * size
            ap_2, at_2 = ap - lag * taken, b.at + second * b.row + p * size - lag * taken
            acc, acc_2 = zero(dots(tiling)), zero(dots(tiling))
            into, into_2 = sums, sums + width
            for i in range(blocks + lag):
                if i < blocks:
                    if far:  # runs of as many lines as a vector has lanes
                        run = (lanes - i % lanes) * taken + i % lanes * b.row
                        prefetch_rows(dot_block(tiling), at + run, LINE)
                        if sides == 2:
                            prefetch_rows(dot_block(tiling), at_2 + lag * taken + run, LINE)
                    t = load_columns(dot_block(tiling), at, b.row)
                    acc = chain(acc, ap, t)
                    for r in range(1, rows):
                        more = load(dots(tiling), into + r * width, 0)
                        store(chain(more, ap + r * a.row, t), into + r * width, 0)
                    if (i + 1) * step % LEAF == 0:
                        store(acc, into, 0)
                        acc = zero(dots(tiling))
                        into += node
                if sides == 2 and i >= lag:
                    t = load_columns(dot_block(tiling), at_2, b.row)
                    acc_2 = chain(acc_2, ap_2, t)
                    if (i - lag + 1) * step % LEAF == 0:
                        store(acc_2, into_2, 0)
                        acc_2 = zero(dots(tiling))
                        into_2 += node
                ap, at = ap + taken, at + taken
                ap_2, at_2 = ap_2 + taken, at_2 + taken
            if blocks * step % LEAF:
                store(acc, into, 0)
                if sides == 2:
                    store(acc_2, into_2, 0)

            for s in range(sides):
                j = second if s else first
                # the terms that fill no block
                for p in range(begin * LEAF + blocks * step, end, step):
                    steps, at = min(step, end - p), b.at + j * b.row + p * size
                    t = load_few_columns(dot_block(tiling), at, b.row, inside, steps)
                    store(t, edge, width)
                    for r in range(rows):
                        into = sums + (p // LEAF - begin) * node + (s * rows + r) * width
                        acc = load(dots(tiling), into, 0)
                        for i in range(steps):
                            ap = a.at + r * a.row + (p + i) * size
                            acc = outer(acc, ap, 0, edge + i * width)
                        store(acc, into, 0)

                for q in range(begin, min(leaves, begin + DOT_LEAVES)):
                    for r in range(rows):
                        slot = (s * rows + r) * width
                        acc = load(dots(tiling), sums + (q - begin) * node + slot, 0)
                        acc = with_waiting(acc, q, leaves, partials + slot, node, 0)
                        if q + 1 == leaves:
                            bias_at = 0
                            if epilogue.bias:
                                bias_at = edge
                                store(
                                    load_part(dots(tiling), epilogue.bias + j * size, inside),
                                    edge,
                                    0,
                                )
                            acc = finish(acc, bias_at, epilogue.divisor)
                            put(acc, c.at + r * c.row + j * size, 0, 1, inside)


@inlined
def gemv_rows(tiling, problem, stretches, partials):
    """C[r, c] = Σ_p A[r, p] · B[c, p], in stretches of columns; each pass over C takes eight rows
    of B.

    With AVX2 a stripe is four vectors, not two: (1, 1000, 1000) grad_input takes 54 us there
    instead of 61.
    """
    a, b, c, rows, cols, terms, epilogue = problem
    size, width = item_bytes(tiling), columns_of(stripe(tiling))
    stretch, far = stretches
    leaves, waiting = leaf_count(terms), stretch * size
    end_column = 0
    while end_column < cols:
        # left-over columns are a stretch of their own, which begins early and computes some
        # columns again, to the same bits
        column = min(end_column, cols - width)
        end_column = column + min(stretch, (cols - column) // width * width)
        for q in range(leaves):
            last = q + 1 == leaves
            levels = pending(q, leaves - 1)
            level = 0
            while levels >> level:
                level += 1
            end = min(terms, q * LEAF + LEAF)
            into, into_row = partials + level * rows * waiting, waiting
            if last:
                into, into_row = c.at + column * size, c.row
            p = q * LEAF
            first = True
            while p < end or first:
                whole = p + 8 <= end
                for j in range(column, end_column, width):
                    bp = b.at + p * b.col + j * size
                    if far:
                        prefetch_rows(square(tiling), bp + 1024, b.col)
                        prefetch_rows(square(tiling), bp + 1024 + LINE, b.col)
                    for r in range(rows):
                        ap = a.at + r * a.row + p * a.col
                        at = into + r * into_row + (j - column) * size
                        acc = zero(stripe(tiling))
                        if not first:
                            acc = load(stripe(tiling), at, 0)
                        if whole:
                            for i in range(8):
                                acc = outer(acc, ap + i * a.col, 0, bp + i * b.col)
                        else:
                            for i in range(end - p):
                                acc = outer(acc, ap + i * a.col, 0, bp + i * b.col)
                        store(acc, at, 0)
                p += 8
                first = False
            if levels or (last and (epilogue.bias or epilogue.divisor != 0.0)):
                for r in range(rows):
                    for j in range(column, end_column, width):
                        at = into + r * into_row + (j - column) * size
                        acc = load(stripe(tiling), at, 0)
                        level = 0
                        while levels >> level:
                            if levels >> level & 1:
                                partial = (
                                    partials + (level * rows + r) * waiting + (j - column) * size
                                )
                                acc = add(load(stripe(tiling), partial, 0), acc)
                            level += 1
                        if last:
                            bias = epilogue.bias + j * size if epilogue.bias else 0
                            acc = finish(acc, bias, epilogue.divisor)
                        store(acc, at, 0)


@resident(late=tiling_for)
def contract_dots(tiling, problem: Problem) -> int:
    """By `gemv_dot`; terms of A that are not contiguous are copied first."""
    a, b, c, rows, cols, terms, epilogue = problem
    size, stack = item_bytes(tiling), scratch(STACK)
    levels = level_count(leaf_count(terms))
    partial_bytes = levels * DOT_ROWS * row_bytes(dots(tiling))
    need = partial_bytes + (rows * terms * size if a.col != size else 0)
    work = allocate(need) if need > STACK else stack
    if not work:
        return MEMORY
    if a.col != size:
        gathered = Matrix(work + partial_bytes, terms * size, size)
        for r in range(rows):
            for p in range(terms):
                copy(tiling, from_number(gathered, r, p).at, from_number(a, r, p).at)
        a = gathered
    gemv_dot(tiling, Problem(a, b, c, rows, cols, terms, epilogue), work)
    if need > STACK:
        release(work)
    return FINE


@resident(late=tiling_for)
def contract_rows(tiling, problem: Problem) -> int:
    """By `gemv_rows`."""
    stack, stretches = scratch(STACK), stretches_for(tiling, problem)
    levels = level_count(leaf_count(problem.terms))
    need = levels * stretches.cols * problem.rows * item_bytes(tiling)
    work = allocate(need) if need > STACK else stack
    if not work:
        return MEMORY
    gemv_rows(tiling, problem, stretches, work)
    if need > STACK:
        release(work)
    return FINE

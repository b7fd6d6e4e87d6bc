"""A single row of C, or few, matrix times vector: B is read once, from memory, so nothing is
packed.

`gemv_dot` is for a B whose terms are contiguous (forward): squares of it are transposed in
registers. `gemv_rows` is for a B whose columns are contiguous (grad_input, grad_bias): it is read
row by row, as it lies, while a stretch of C waits in the first-level cache.
"""

from numba_linear.cpu.fragment import (
    add,
    chain,
    columns_of,
    finish,
    item_bytes,
    load,
    load_columns,
    load_few_columns,
    load_part,
    outer,
    prefetch_rows,
    put,
    row_bytes,
    scratch,
    store,
    zero,
)
from numba_linear.cpu.machine import LINE, b_bytes, square, vector, vectors
from numba_linear.cpu.problem import Problem
from numba_linear.cpu.resident import resident
from numba_linear.cpu.rule import LEAF, leaf_count, pending

#: Leaves in `gemv_dot` until their sums go into the tree.
STRETCH = 8

#: Bytes by which the second side is behind where rows may be a power of two apart, which evict
#: each other from the first-level cache: 82 us to 62 at (1, 1024, 1024) with 256, and with 512
#: for 256 1030 us to 640 at (1, 3000, 3000) on two threads.
LAG = 512

#: Bytes of a row beyond which it is asked for ahead.
FAR = 8 << 10

#: Rows of A up to which their sums wait in the first-level cache for B's squares: 351 us to 236 at
#: (8, 1024, 1024), 940 to 572 at (13, 1023, 1023), float64; more are slower so.
FEW_DOTS = 16

#: Bytes of all these sums, in vectors of at most 64.
SUMS = 64 * STRETCH * FEW_DOTS


@resident
def gemv_dot(tiling, problem: Problem, partials):
    """C[r, c] = Σ_p A[r, p] · B[c, p], A's terms contiguous too, for up to `FEW_DOTS` rows.

    A square is as many terms of as many columns as a vector has lanes. All rows take a square
    once it is transposed; one row alone has two squares under way, one to each side, so that there
    are chains enough to hide their latency.
    """
    a, b, c, rows, cols, terms, bias, divisor, _ = problem
    size, lanes, width = item_bytes(tiling), columns_of(tiling) // 2, row_bytes(vector(tiling))
    # for each leaf, the sums of a square's columns for all rows, or to both sides; a square
    sums, edge = scratch(SUMS), scratch(1024)
    node = FEW_DOTS * width
    leaves = leaf_count(terms)
    inside = min(lanes, cols)
    # Rows so long mostly come from memory, quicker one by one than all a line at a time: they are
    # asked for in runs of as many lines as a vector has lanes, 3.8 ms to 2.5 at (1, 4096, 4096).
    # Where they lie multiples of that apart there is only one side, 3.2 ms to 2.8.
    far = b.row > FAR
    most = 1 if rows > 1 or (far and b.row % FAR == 0) else 2
    for column in range(0, cols, most * lanes):
        sides = min(most, (cols - column + lanes - 1) // lanes)
        # the last square begins early and computes some columns again, the same bits
        first = max(0, min(column, cols - lanes))
        second = max(0, min(column + lanes, cols - lanes))
        for begin in range(0, leaves, STRETCH):
            p, end = begin * LEAF, min(terms, (begin + STRETCH) * LEAF)
            for q in range(min(leaves - begin, STRETCH)):
                for i in range(0, sides * rows * width, width):
                    store(zero(vector(tiling)), sums + q * node + i, 0)
            squares = (end - p) // lanes if inside == lanes else 0
            lag = min(squares, LAG // width) if b.row >= 2048 and sides == 2 else 0
            ap, at = a.at + p * size, b.at + first * b.row + p * size
            ap_2, at_2 = ap - lag * width, b.at + second * b.row + p * size - lag * width
            acc, acc_2 = zero(vector(tiling)), zero(vector(tiling))
            into, into_2 = sums, sums + width
            for i in range(squares + lag):
                if i < squares:
                    if far:
                        run = (lanes - i % lanes) * width + i % lanes * b.row
                        prefetch_rows(square(tiling), at + run, LINE)
                        if sides == 2:
                            prefetch_rows(square(tiling), at_2 + lag * width + run, LINE)
                    t = load_columns(square(tiling), at, b.row)
                    acc = chain(acc, ap, t)
                    for r in range(1, rows):
                        more = load(vector(tiling), into + r * width, 0)
                        store(chain(more, ap + r * a.row, t), into + r * width, 0)
                    if (i + 1) * lanes % LEAF == 0:
                        store(acc, into, 0)
                        acc = zero(vector(tiling))
                        into += node
                if sides == 2 and i >= lag:
                    t = load_columns(square(tiling), at_2, b.row)
                    acc_2 = chain(acc_2, ap_2, t)
                    if (i - lag + 1) * lanes % LEAF == 0:
                        store(acc_2, into_2, 0)
                        acc_2 = zero(vector(tiling))
                        into_2 += node
                ap, at = ap + width, at + width
                ap_2, at_2 = ap_2 + width, at_2 + width
            if squares * lanes % LEAF:
                store(acc, into, 0)
                if sides == 2:
                    store(acc_2, into_2, 0)

            for s in range(sides):
                j = second if s else first
                # the terms that fill no square
                for p in range(begin * LEAF + squares * lanes, end, lanes):
                    steps, at = min(lanes, end - p), b.at + j * b.row + p * size
                    t = load_few_columns(square(tiling), at, b.row, inside, steps)
                    store(t, edge, width)
                    for r in range(rows):
                        into = sums + (p // LEAF - begin) * node + (s * rows + r) * width
                        acc = load(vector(tiling), into, 0)
                        for i in range(steps):
                            ap = a.at + r * a.row + (p + i) * size
                            acc = outer(acc, ap, 0, edge + i * width)
                        store(acc, into, 0)

                for q in range(begin, min(leaves, begin + STRETCH)):
                    levels = pending(q, leaves - 1)
                    for r in range(rows):
                        slot = (s * rows + r) * width
                        acc = load(vector(tiling), sums + (q - begin) * node + slot, 0)
                        level = 0
                        while levels >> level:
                            if levels >> level & 1:
                                partial = partials + level * node + slot
                                acc = add(load(vector(tiling), partial, 0), acc)
                            level += 1
                        if q + 1 < leaves:
                            store(acc, partials + level * node + slot, 0)
                        else:
                            bias_at = 0
                            if bias:
                                bias_at = edge
                                store(load_part(vector(tiling), bias + j * size, inside), edge, 0)
                            acc = finish(acc, bias_at, divisor)
                            put(acc, c.at + r * c.row + j * size, 0, 1, inside)


@resident
def gemv_rows(tiling, problem: Problem, stretch, partials):
    """C[r, c] = Σ_p A[r, p] · B[c, p], in stretches of columns, eight rows of B to each pass over
    C's.

    `stretch` is a multiple of the tiling's columns, and there are no fewer of them than that.
    """
    a, b, c, rows, cols, terms, bias, divisor, _ = problem
    size, width = item_bytes(tiling), columns_of(tiling)
    leaves, waiting = leaf_count(terms), stretch * size
    # A B that comes from memory is asked for ahead: 2.8 ms to 2.4 at (1, 4096, 4096).
    far = terms * b.col >= 2 * b_bytes(tiling)
    end_column = 0
    while end_column < cols:
        # fewer columns than are taken at once begin early, as a stretch of their own, and compute
        # some again, the same bits: 1.5 us to 1.3 at (2, 65, 65)
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
                        acc = zero(vectors(tiling))
                        if not first:
                            acc = load(vectors(tiling), at, 0)
                        if whole:
                            for i in range(8):
                                acc = outer(acc, ap + i * a.col, 0, bp + i * b.col)
                        else:
                            for i in range(end - p):
                                acc = outer(acc, ap + i * a.col, 0, bp + i * b.col)
                        store(acc, at, 0)
                p += 8
                first = False
            if levels or (last and (bias or divisor != 0.0)):
                for r in range(rows):
                    for j in range(column, end_column, width):
                        at = into + r * into_row + (j - column) * size
                        acc = load(vectors(tiling), at, 0)
                        level = 0
                        while levels >> level:
                            if levels >> level & 1:
                                partial = (
                                    partials + (level * rows + r) * waiting + (j - column) * size
                                )
                                acc = add(load(vectors(tiling), partial, 0), acc)
                            level += 1
                        if last:
                            acc = finish(acc, bias + j * size if bias else 0, divisor)
                        store(acc, at, 0)

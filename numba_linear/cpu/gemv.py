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
    constant_word,
    finish,
    fragment_bytes,
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
from numba_linear.cpu.machine import retype, row_of, square_of, vectors
from numba_linear.cpu.matrix import Matrix
from numba_linear.cpu.resident import resident
from numba_linear.cpu.rule import LEAF, leaf_count, pending

#: Leaves in `gemv_dot` until their sums go into the tree.
STRETCH = 16

#: Bytes by which the second side is behind where rows may be a power of two apart, which evict
#: each other from the first-level cache: 82 us to 62 at (1, 1024, 1024).
LAG = 256

#: Rows of A in `gemv_dot`, if more than one: as many as share a square without making it slower.
FEW_DOTS = 4
few_dots = retype(lambda tiling: tiling.of(FEW_DOTS, tiling.columns // 2))

#: Squares of columns side by side, so that there are chains enough to hide their latency.
sides_of = constant_word(lambda dots: 2 if dots.rows == 1 else 1)


@resident
def gemv_dot(
    dots,
    a: Matrix,
    b: Matrix,
    c: Matrix,
    rows,
    cols,
    terms,
    partials,
    bias,
    divisor: float,
):
    """C[r, c] = Σ_p A[r, p] · B[c, p], A's terms contiguous too, for no more rows than `dots`."""
    size, lanes, width = item_bytes(dots), columns_of(dots), row_bytes(dots)
    group = fragment_bytes(dots)  # of the sums of one square
    sums, edge = scratch(4096), scratch(1024)  # STRETCH groups for each side; a square
    leaves = leaf_count(terms)
    inside = min(lanes, cols)
    # Small squares of rows that lie in memory: fewer rows at once, a line of each asked for ahead,
    # 7.0 ms to 5.2 at (1, 4096, 4096), float64. Large ones are slower so, 1.6 ms to 2.8 on two
    # threads.
    far = b.row >= 1 << 14 and lanes * width < 1024
    most = 1 if far else sides_of(dots)
    for column in range(0, cols, most * lanes):
        sides = min(most, (cols - column + lanes - 1) // lanes)
        # the last square begins early and computes some columns again, the same bits
        first = max(0, min(column, cols - lanes))
        second = max(0, min(column + lanes, cols - lanes))
        for begin in range(0, leaves, STRETCH):
            p, end = begin * LEAF, min(terms, (begin + STRETCH) * LEAF)
            squares = (end - p) // lanes if inside == lanes else 0
            lag = min(squares, LAG // width) if b.row >= 2048 and sides == 2 else 0
            ap, at = a.at + p * size, b.at + first * b.row + p * size
            ap_2, at_2 = ap - lag * width, b.at + second * b.row + p * size - lag * width
            acc, acc_2 = zero(dots), zero(dots)
            into, into_2 = sums, sums + group
            for i in range(squares + lag):
                if i < squares:
                    if far:
                        prefetch_rows(square_of(dots), at + 512, b.row)
                    t = load_columns(square_of(dots), at, b.row)
                    acc = chain(acc, ap, a.row, rows, t)
                    if (i + 1) * lanes % LEAF == 0:
                        store(acc, into, width)
                        acc = zero(dots)
                        into += sides_of(dots) * group
                if sides == 2 and i >= lag:
                    t = load_columns(square_of(dots), at_2, b.row)
                    acc_2 = chain(acc_2, ap_2, a.row, rows, t)
                    if (i - lag + 1) * lanes % LEAF == 0:
                        store(acc_2, into_2, width)
                        acc_2 = zero(dots)
                        into_2 += sides_of(dots) * group
                ap, at = ap + width, at + width
                ap_2, at_2 = ap_2 + width, at_2 + width

            # the terms that fill no square
            for s in range(sides):
                source = b.at + first * b.row
                if s == 1:
                    source, acc, into = b.at + second * b.row, acc_2, into_2
                for p in range(begin * LEAF + squares * lanes, end, lanes):
                    steps = min(lanes, end - p)
                    t = load_few_columns(square_of(dots), source + p * size, b.row, inside, steps)
                    store(t, edge, width)
                    for i in range(steps):
                        line = load(row_of(dots), edge + i * width, 0)
                        acc = chain(acc, a.at + (p + i) * size, a.row, rows, line)
                    if (p + steps) % LEAF == 0:
                        store(acc, into, width)
                        acc = zero(dots)
                        into += sides_of(dots) * group
                if end % LEAF or terms == 0:
                    store(acc, into, width)

            for q in range(begin, min(leaves, begin + STRETCH)):
                last = q + 1 == leaves
                levels = pending(q, leaves - 1)
                for s in range(sides):
                    acc = load(dots, sums + ((q - begin) * sides_of(dots) + s) * group, width)
                    level = 0
                    while levels >> level:
                        if levels >> level & 1:
                            partial = partials + (level * sides_of(dots) + s) * group
                            acc = add(load(dots, partial, width), acc)
                        level += 1
                    if not last:
                        store(acc, partials + (level * sides_of(dots) + s) * group, width)
                    else:
                        j = second if s else first
                        bias_at = 0
                        if bias:
                            bias_at = edge
                            store(load_part(row_of(dots), bias + j * size, inside), edge, 0)
                        put(finish(acc, bias_at, divisor), c.at + j * size, c.row, rows, inside)


@resident
def gemv_rows(
    tiling,
    a: Matrix,
    b: Matrix,
    c: Matrix,
    rows,
    cols,
    terms,
    stretch,
    partials,
    bias,
    divisor: float,
):
    """C[r, c] = Σ_p A[r, p] · B[c, p], in stretches of columns, eight rows of B to each pass over
    C's.

    `cols` is a multiple of the tiling's columns.
    """
    size, width = item_bytes(tiling), columns_of(tiling)
    leaves, waiting = leaf_count(terms), stretch * size
    for column in range(0, cols, stretch):
        end_column = min(cols, column + stretch)
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

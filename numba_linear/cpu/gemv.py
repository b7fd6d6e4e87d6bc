"""A single row of C, matrix times vector: B is read once, from memory, so nothing is packed.

`gemv_dot` is for a B whose terms are contiguous (forward): squares of it are transposed in
registers. `gemv_rows` is for a B whose columns are contiguous (grad_input, grad_bias): it is read
row by row, as it lies, while a stretch of C waits in the first-level cache.
"""

from numba_linear.cpu.fragment import (
    add,
    chain,
    columns_of,
    copy,
    finish,
    item_bytes,
    load,
    load_columns,
    load_part,
    outer,
    prefetch_rows,
    put,
    row_bytes,
    scratch,
    store,
    zero,
)
from numba_linear.cpu.machine import square, vector, vectors
from numba_linear.cpu.matrix import Matrix
from numba_linear.cpu.resident import resident
from numba_linear.cpu.rule import LEAF, leaf_count, pending

#: Squares of columns side by side in `gemv_dot`.
SIDES = 2


@resident
def gemv_dot(tiling, a, b: Matrix, c, cols, terms, partials, bias, divisor: float):
    """C[c] = Σ_p A[p] · B[c, p], A contiguous too; two squares of columns side by side.

    A chain is bound by the latency of its multiply-adds; those of the other square fill it.
    """
    size, lanes = item_bytes(tiling), columns_of(tiling) // 2
    width = row_bytes(vector(tiling))
    sums, edge = scratch(256), scratch(1024)
    leaves = leaf_count(terms)
    inside = min(lanes, cols)
    # Squares begin where cache lines do, if all rows agree on that: rows a power of two apart
    # evict each other from the first-level cache before a second visit.
    aligned = width == 64 and b.row % 64 == 0 and b.at % size == 0 and inside == lanes
    shift = b.at % 64 // size if aligned else 0
    # From memory fewer rows at once, asked for ahead: 1.5 times as fast at (1, 4096, 4096).
    far = b.row >= 1 << 14
    most = 1 if far else SIDES
    for column in range(0, cols, most * lanes):
        sides = min(most, (cols - column + lanes - 1) // lanes)
        for q in range(leaves):
            for s in range(sides):
                store(zero(vector(tiling)), sums + s * width, 0)
            end = min(terms, q * LEAF + LEAF)
            p = q * LEAF
            while p < end:
                before = (p + shift) % lanes
                steps = min(lanes - before, end - p)
                for s in range(sides):
                    # the last square begins early and computes some columns again, the same bits
                    j = max(0, min(column + s * lanes, cols - lanes))
                    source = b.at + j * b.row + p * size
                    acc = load(vector(tiling), sums + s * width, 0)
                    if steps == lanes and inside == lanes:
                        if far:
                            prefetch_rows(square(tiling), source + 1024, b.row)
                        acc = chain(acc, a + p * size, load_columns(square(tiling), source, b.row))
                    else:
                        if aligned:  # what is read beyond the terms lies in their cache lines
                            whole = load_columns(square(tiling), source - before * size, b.row)
                            store(whole, edge, width)
                        else:
                            for i in range(steps):
                                for r in range(inside):
                                    number = source + r * b.row + i * size
                                    copy(tiling, edge + i * width + r * size, number)
                        for i in range(steps):
                            acc = outer(acc, a + (p + i) * size, 0, edge + (before + i) * width)
                    store(acc, sums + s * width, 0)
                p += steps
            last = q + 1 == leaves
            levels = pending(q, leaves - 1)
            for s in range(sides):
                acc = load(vector(tiling), sums + s * width, 0)
                level = 0
                while levels >> level:
                    if levels >> level & 1:
                        partial = partials + (level * SIDES + s) * width
                        acc = add(load(vector(tiling), partial, 0), acc)
                    level += 1
                if not last:
                    store(acc, partials + (level * SIDES + s) * width, 0)
                else:
                    j = max(0, min(column + s * lanes, cols - lanes))
                    bias_at = 0
                    if bias:
                        bias_at = edge
                        store(load_part(vector(tiling), bias + j * size, inside), edge, 0)
                    put(finish(acc, bias_at, divisor), c + j * size, 0, inside)


@resident
def gemv_rows(
    tiling, a, a_term, b: Matrix, c, cols, terms, stretch, partials, bias, divisor: float
):
    """C[c] = Σ_p A[p] · B[c, p], in stretches of columns, eight rows of B to each pass over C.

    `cols` is a multiple of the tiling's columns.
    """
    size, width = item_bytes(tiling), columns_of(tiling)
    leaves = leaf_count(terms)
    for column in range(0, cols, stretch):
        end_column = min(cols, column + stretch)
        for q in range(leaves):
            last = q + 1 == leaves
            levels = pending(q, leaves - 1)
            level = 0
            while levels >> level:
                level += 1
            into = c + column * size if last else partials + level * stretch * size
            end = min(terms, q * LEAF + LEAF)
            p = q * LEAF
            first = True
            while p < end or first:
                ap, bp = a + p * a_term, b.at + p * b.col
                whole = p + 8 <= end
                for j in range(column, end_column, width):
                    acc = zero(vectors(tiling))
                    at = into + (j - column) * size
                    if not first:
                        acc = load(vectors(tiling), at, 0)
                    row = bp + j * size
                    if whole:
                        for r in range(8):
                            acc = outer(acc, ap + r * a_term, 0, row + r * b.col)
                    else:
                        for r in range(end - p):
                            acc = outer(acc, ap + r * a_term, 0, row + r * b.col)
                    store(acc, at, 0)
                p += 8
                first = False
            if levels or (last and (bias or divisor != 0.0)):
                for j in range(column, end_column, width):
                    at = into + (j - column) * size
                    acc = load(vectors(tiling), at, 0)
                    level = 0
                    while levels >> level:
                        if levels >> level & 1:
                            partial = partials + (level * stretch + j - column) * size
                            acc = add(load(vectors(tiling), partial, 0), acc)
                        level += 1
                    if last:
                        acc = finish(acc, bias + j * size if bias else 0, divisor)
                    store(acc, at, 0)

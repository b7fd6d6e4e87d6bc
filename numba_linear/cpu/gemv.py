"""A single row of C, matrix times vector: B is read once, from memory, so nothing is packed.

`gemv_dot` is for a B whose terms are contiguous (forward): squares of it are transposed in registers.
`gemv_rows` is for a B whose columns are contiguous (grad_input, grad_bias): it is read row by row, as
it lies, while a stretch of C waits in the first-level cache.
"""

from numba_linear.cpu.fragment import (
    add,
    add_row,
    chain,
    columns_of,
    divide,
    fragment_bytes,
    item_bytes,
    load,
    load_part,
    multiply,
    outer,
    scratch,
    store,
    store_part,
    transpose,
    zero,
)
from numba_linear.cpu.machine import square, vector, vectors
from numba_linear.cpu.resident import resident
from numba_linear.cpu.rule import LEAF, leaf_count


@resident
def gemv_dot(tiling, a, a_term, b, b_col, c, bias, divisor: float, cols, terms, partials, ahead):
    """C[c] = Σ_p A[p] · B[c, p], two squares of columns at a time.

    A chain is bound by the latency of its multiply-adds, hence two. `ahead` asks for the next leaf's
    rows while this one's are used, each row in one burst: 1.3 times as fast from memory.
    """
    size, lanes = item_bytes(tiling), columns_of(tiling) // 2
    width = fragment_bytes(vector(tiling))
    edge = scratch(4096)
    leaves = leaf_count(terms)
    inside = min(lanes, cols)
    column = 0
    while column < cols:
        # where columns are left over, a square begins early and computes some again, the same bits
        left = b + max(0, min(column, cols - lanes)) * b_col
        right = b + max(0, min(column + lanes, cols - lanes)) * b_col
        for q in range(leaves):
            acc_left, acc_right = zero(vector(tiling)), zero(vector(tiling))
            end = min(terms, q * LEAF + LEAF)
            p = q * LEAF
            while p + lanes <= end and inside == lanes:
                square_left = transpose(load(square(tiling), left + p * size, b_col))
                acc_left = chain(acc_left, a + p * a_term, 0, a_term, square_left)
                square_right = transpose(load(square(tiling), right + p * size, b_col))
                acc_right = chain(acc_right, a + p * a_term, 0, a_term, square_right)
                p += lanes
            while p < end:
                steps = min(lanes, end - p)
                numbers = load_part(square(tiling), left + p * size, b_col, inside, steps)
                store(transpose(numbers), edge, 2 * width)
                numbers = load_part(square(tiling), right + p * size, b_col, inside, steps)
                store(transpose(numbers), edge + width, 2 * width)
                for s in range(steps):
                    acc_left = outer(acc_left, a + (p + s) * a_term, 0, edge + 2 * s * width)
                    acc_right = outer(acc_right, a + (p + s) * a_term, 0, edge + (2 * s + 1) * width)
                p += steps
            last = q + 1 == leaves
            pending = q if last else q & ~(q + 1)
            level = 0
            while pending >> level:
                if pending >> level & 1:
                    partial = partials + 2 * level * width
                    acc_left = add(load(vector(tiling), partial, 0), acc_left)
                    acc_right = add(load(vector(tiling), partial + width, 0), acc_right)
                level += 1
            if not last:
                store(acc_left, partials + 2 * level * width, 0)
                store(acc_right, partials + (2 * level + 1) * width, 0)
            else:
                for side in range(2):
                    acc = acc_right if side else acc_left
                    j = max(0, min(column + side * lanes, cols - lanes))
                    if bias:
                        acc = add(acc, load_part(vector(tiling), bias + j * size, 0, 1, inside))
                    if divisor > 0.0:
                        acc = divide(acc, divisor)
                    elif divisor < 0.0:
                        acc = multiply(acc, -divisor)
                    store_part(acc, c + j * size, 0, inside)
        column += 2 * lanes


@resident
def gemv_rows(tiling, a, a_term, b, b_term, c, bias, divisor: float, cols, terms, stretch, partials):
    """C[c] = Σ_p A[p] · B[c, p], in stretches of columns, eight rows of B to each pass over C.

    `cols` is a multiple of the tiling's columns.
    """
    size, width = item_bytes(tiling), columns_of(tiling)
    leaves = leaf_count(terms)
    for column in range(0, cols, stretch):
        end_column = min(cols, column + stretch)
        for q in range(leaves):
            last = q + 1 == leaves
            pending = q if last else q & ~(q + 1)
            level = 0
            while pending >> level:
                level += 1
            into = c + column * size if last else partials + level * stretch * size
            end = min(terms, q * LEAF + LEAF)
            p = q * LEAF
            first = True
            while p < end or first:
                ap, bp = a + p * a_term, b + p * b_term
                whole = p + 8 <= end
                for j in range(column, end_column, width):
                    acc = zero(vectors(tiling))
                    at = into + (j - column) * size
                    if not first:
                        acc = load(vectors(tiling), at, 0)
                    row = bp + j * size
                    if whole:
                        for r in range(8):
                            acc = outer(acc, ap + r * a_term, 0, row + r * b_term)
                    else:
                        for r in range(end - p):
                            acc = outer(acc, ap + r * a_term, 0, row + r * b_term)
                    store(acc, at, 0)
                p += 8
                first = False
            if pending or (last and (bias or divisor != 0.0)):
                for j in range(column, end_column, width):
                    at = into + (j - column) * size
                    acc = load(vectors(tiling), at, 0)
                    level = 0
                    while pending >> level:
                        if pending >> level & 1:
                            partial = partials + (level * stretch + j - column) * size
                            acc = add(load(vectors(tiling), partial, 0), acc)
                        level += 1
                    if last:
                        if bias:
                            acc = add_row(acc, bias + j * size)
                        if divisor > 0.0:
                            acc = divide(acc, divisor)
                        elif divisor < 0.0:
                            acc = multiply(acc, -divisor)
                    store(acc, at, 0)

"""The kernel of the contraction: the summation rule on a tile of sums at once.

A block of threads has a tile of C, and each thread a fragment of it in registers. Panels of A and
B go through shared memory, a few terms at a time; one of each is read while another is filled:

    A: rows × terms  ──fetch──▶  registers  ──stash──▶  a panel of A, terms × rows     ─┐
                                                                                       outer ▶ acc
    B: cols × terms  ──fetch──▶  registers  ──stash──▶  a panel of B, terms × columns  ─┘

The tree's pending partial sums wait in the thread's local memory.
"""

import functools

from numba import cuda

from numba_linear.cpu import matrix, rule
from numba_linear.cpu.matrix import Matrix
from numba_linear.cpu.rule import LEAF
from numba_linear.cuda.machine import WARP, Panel, Tile
from numba_linear.cuda.words import (
    FLOAT,
    INT,
    MATRIX,
    add,
    device,
    fetch,
    fetch_part,
    finish,
    int32,
    int64,
    keep,
    kept,
    kernel,
    one,
    outer,
    partials,
    put,
    shared,
    stash,
    thread_again,
    zero,
)

from_number = device(matrix.from_number)
pending = device(rule.pending)


def walk_of(panel: Panel):
    """Where a thread's share of a panel begins; the rest is whole passes of rows further."""
    (rows, terms), across = panel.unit, panel.threads_across
    down = panel.threads // across

    @device
    def walk(m, thread):
        """Row and term of the thread's first number.

        Neighbouring threads take neighbours in memory, along a row or along a term.
        """
        if rows == 1 and (terms > 1 or abs(m.col) < abs(m.row)):
            return int32(thread // across), int32(thread % across * terms)
        return int32(thread % down * rows), int32(thread // down)

    return walk


def take_of(panel: Panel):
    """The thread's share of a panel, from global memory."""

    depth = panel.depth

    @device
    def take(whole, at, row_stride, rows, terms, step):
        if whole:
            return fetch(panel, at, row_stride)
        return fetch_part(panel, at, row_stride, rows, int32(terms - step * depth))

    return take


def take_again_of(panel: Panel):
    """The same if no register is left to hold the thread's place in the panel."""

    walk, depth = walk_of(panel), panel.depth

    @device
    def take(whole, m, at, rows, terms, step):
        """`rows` and `terms` are the block's, not the thread's."""
        if whole:
            return fetch(panel, at, m.row)
        i, p = walk(m, thread_again())
        return fetch_part(panel, at, m.row, int32(rows - i), int32(terms - step * depth - p))

    return take


def place_of(tile: Tile):
    """Which fragment of a tile a thread has.

    A warp has 4 × 8 fragments, and each quarter of it 2 × 4. So the quarter's 16-byte loads are 32
    bytes of A and 64 of B, all in different banks.
    """
    warps_across = tile.across // 8
    row_vector, column_vector = tile.row_vector, tile.column_vector

    if tile.down == 1:
        return device(lambda thread: (int32(0), int32(thread)))

    @device
    def place(thread):
        lane, warp = thread % WARP, thread // WARP
        down = warp // warps_across * 4 + lane // 16 * 2 + lane % 2
        across = warp % warps_across * 8 + lane // 2 % 8
        return int32(down * row_vector), int32(across * column_vector)

    return place


@functools.cache
def contraction(tile: Tile):
    """The kernel for a tile."""
    A, B = tile.a, tile.b
    A_PITCH, B_PITCH = A.pitch, B.pitch
    DOWN, ACROSS = tile.shape
    DEPTH, STEPS = tile.depth, LEAF // tile.depth
    # Shared memory holds a panel of A and one of B, twice.
    B_START, OTHER = A.numbers, A.numbers + B.numbers
    walk_a, walk_b = walk_of(A), walk_of(B)
    take_a, take_b = take_of(A), take_of(B)
    again_a, again_b = take_again_of(A), take_again_of(B)
    A_HALF, B_HALF, SPARE = A.numbers // 2, B.numbers // 2, tile.spare
    place = place_of(tile)

    types = (MATRIX,) * 4 + (INT,) * 5 + (FLOAT,)

    @kernel(f"contract {tile}", tile.threads, tile.blocks, types, tile.dynamic_bytes)
    def contract(a, b, c, bias, rows, cols, terms, part_terms, part_bytes, divisor):
        """One tile of C[r, c] = Σ_p A[r, p] · B[c, p], or of one part of its terms.

        Parameters
        ----------
        a, b : Matrix
            Rows × terms and columns × terms. An A at address 0 is all ones.
        c : Matrix
            Rows × columns. Each part of the terms has a C of its own, `part_bytes` after the one
            before.
        bias : Matrix
            Rows × columns, at address 0 for none.
        rows, cols, terms : int
        part_terms : int
            A power of two of leaves.
        part_bytes : int
        divisor : float
            0 for none.
        """
        thread = int32(cuda.threadIdx.x)
        tiles_across = (cols + (ACROSS - 1)) // ACROSS
        tiles = (rows + (DOWN - 1)) // DOWN * tiles_across
        block = int64(cuda.blockIdx.x)
        part = int32(block // tiles)
        block -= part * tiles
        i_tile, j_tile = int32(block // tiles_across), int32(block % tiles_across)
        row, col, term = int64(i_tile) * DOWN, int64(j_tile) * ACROSS, int64(part) * part_terms
        rows, cols = int32(min(DOWN, rows - row)), int32(min(ACROSS, cols - col))
        terms = int32(min(part_terms, terms - term))

        a_at, a_row, a_col = a
        if a_at == 0:
            a_at, a_row, a_col = one(A), int64(0), int64(0)
        a = Matrix(a_at, a_row, a_col)

        # The thread's share of A's panels and of B's: where from, how much, and where to.
        i, p = walk_a(a, thread)
        a_at, a_next = from_number(a, row + i, term + p).at, DEPTH * a.col
        a_rows, a_terms, a_into = int32(rows - i), int32(terms - p), int32(p * A_PITCH + i)
        i, p = walk_b(b, thread)
        b_at, b_next = from_number(b, col + i, term + p).at, DEPTH * b.col
        b_rows, b_terms, b_into = int32(cols - i), int32(terms - p), int32(p * B_PITCH + i)
        b_into = int32(b_into + B_START)
        # The fragment's rows in A's panels, and its columns in B's.
        down, across = place(thread)
        a_from, b_from = down, int32(across + B_START)

        panels, waiting = shared(tile), partials(tile)
        whole_steps = int32(terms // DEPTH)
        if rows < DOWN or cols < ACROSS:
            whole_steps = int32(0)
        steps, step = int32((terms + (DEPTH - 1)) // DEPTH), int32(0)
        whole = step < whole_steps
        stash(A, panels, a_into, take_a(whole, a_at, a.row, a_rows, a_terms, step))
        stash(B, panels, b_into, take_b(whole, b_at, b.row, b_rows, b_terms, step))
        cuda.syncthreads()

        final = (max(terms, 1) - 1) // LEAF
        acc = zero(tile)
        panel = int32(0)  # 0 or OTHER: where the panels being read begin
        for q in range(final + 1):
            acc = zero(tile)
            end = int32(min(steps, int32((q + 1) * STEPS)))
            while step < end:
                step = int32(step + 1)
                a_at += a_next
                b_at += b_next
                whole = step < whole_steps
                if SPARE:
                    a_now, b_now = int32(panel + a_from), int32(panel + b_from)
                    panel = int32(OTHER - panel)
                    b_share = again_b(whole, b, b_at, cols, terms, step)
                    acc = outer(acc, panels, a_now, b_now)
                    stash(B, panels, int32(panel + b_into), b_share)
                    a_share = again_a(whole, a, a_at, rows, terms, step)
                    acc = outer(acc, panels, int32(a_now + A_HALF), int32(b_now + B_HALF))
                    stash(A, panels, int32(panel + a_into), a_share)
                else:
                    a_share = take_a(whole, a_at, a.row, a_rows, a_terms, step)
                    b_share = take_b(whole, b_at, b.row, b_rows, b_terms, step)
                    acc = outer(acc, panels, int32(panel + a_from), int32(panel + b_from))
                    panel = int32(OTHER - panel)
                    stash(A, panels, int32(panel + a_into), a_share)
                    stash(B, panels, int32(panel + b_into), b_share)
                cuda.syncthreads()

            levels = pending(q, final)
            level = 0
            while levels >> level:
                if levels >> level & 1:
                    acc = add(kept(tile, waiting, level), acc)
                level += 1
            if q < final:
                keep(acc, waiting, level)

        row, col = int64(i_tile) * DOWN + down, int64(j_tile) * ACROSS + across
        rows, cols = int32(rows - down), int32(cols - across)
        bias_at = int64(0)
        if bias.at != 0 and rows > 0 and cols > 0:
            bias_at = from_number(bias, row, col).at
        acc = finish(acc, bias_at, bias.row, bias.col, rows, cols, divisor)
        c_at = from_number(c, row, col).at + int64(part) * part_bytes
        put(acc, c_at, c.row, c.col, rows, cols)

    return contract

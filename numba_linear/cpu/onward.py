"""Sums that go on from call to call: more terms of one leaf, on one thread or on several.

They go along C's rows, in strips of as many columns as B's terms fit L2. No tile begins early,
since it would add terms twice: left-over rows are strips of one row, and left-over columns are
masked.
"""

from typing import NamedTuple

from numba_linear.codes import FINE, MEMORY
from numba_linear.cpu.environment import restore, set_default
from numba_linear.cpu.fragment import (
    add,
    allocate,
    columns_of,
    copy,
    finish,
    item_bytes,
    load_part,
    put,
    release,
    rows_of,
    scratch,
    zero,
)
from numba_linear.cpu.launch import unlock_threads
from numba_linear.cpu.machine import LINE, high_edge, high_tile, tile, tiling_for, vector
from numba_linear.cpu.matrix import Matrix, from_number
from numba_linear.cpu.microkernel import along, at_edge, strip, strip_edge
from numba_linear.cpu.pack import pack_b
from numba_linear.cpu.parts import any_tiling, count_of, job_word, kept, launch, part_of
from numba_linear.cpu.plan import Parts, parts_for, strips_for
from numba_linear.cpu.problem import Going, Onward
from numba_linear.cpu.rule import LEAF
from numba_linear.cpu.threads import contract_on_threads, threads_for, tries_threads
from numba_linear.cpu.tuning import STACK
from numba_linear.jit.compiler import inlined
from numba_linear.jit.resident import address_of, resident, wants

# --------------------------------------------------------------------------------------
# One leaf
# --------------------------------------------------------------------------------------


@resident
def go_on_alone(tiling, going: Going) -> int:
    """On the caller's thread: FINE, or MEMORY with nothing written."""
    problem, onward = going
    a, b, c, rows, cols, terms, _ = problem
    if rows == 0 or cols == 0:
        return FINE
    within = onward.begun and onward.merges == 0 and onward.to == 0
    if within and terms == 1 and b.row == item_bytes(tiling):
        # row by row, as C lies in memory: 1024 × 1024 takes 54 us instead of 64, and in float64
        # from beyond L3 370 instead of 450
        row_by_row, edge = tile(tiling, 1, 4), tile(tiling, 1, 1)
        few_rows(row_by_row, edge, 0, rows, a, b, c, cols, 1, Onward(1, 0, 0, 0, 0))
        return FINE
    size, width, strips = item_bytes(tiling), columns_of(tiling), strips_for(tiling, problem)
    panel_bytes, stack, tall = terms * width * size, scratch(STACK), high_tile(tiling)
    need = 0 if strips.b_direct else (min(strips.cols, cols) + width) // width * panel_bytes + LINE
    work = allocate(need) if need > STACK else stack
    if not work:
        return MEMORY
    packed = (work + LINE - 1) & -LINE
    for column in range(0, cols, strips.cols):
        inside = min(strips.cols, cols - column)
        in_place, b_part, b_step = from_number(b, column, 0), from_number(b, column, 0), size
        if not strips.b_direct:
            for j in range(0, inside, width):
                source, to = from_number(b, column + j, 0), packed + j // width * panel_bytes
                pack_b(tiling, source, min(width, inside - j), terms, width, to)
            b_part, b_step = Matrix(packed, size, width * size), terms * size
        row = 0
        while row < rows:
            left, a_part, c_part = rows - row, from_number(a, row, 0), from_number(c, row, column)
            part = Strip(inside, a_part, b_part, b_step, c_part, terms)
            last = Strip(inside, a_part, in_place, size, c_part, terms)
            if strips.ahead and left >= rows_of(tall):
                some_rows(tall, high_edge(tiling), part, onward, True)
                row += rows_of(tall)
            elif left >= 4:
                some_rows(tile(tiling, 4, 2), tile(tiling, 4, 1), part, onward, strips.ahead)
                row += 4
            elif b.row == size and left >= 2:
                some_rows(tile(tiling, 2, 4), tile(tiling, 2, 2), last, onward, False)
                row += 2
            elif b.row == size:
                some_rows(tile(tiling, 1, 4), tile(tiling, 1, 2), last, onward, False)
                row += 1
            else:
                some_rows(tile(tiling, 1, 2), tile(tiling, 1, 2), part, onward, False)
                row += 1
    if need > STACK:
        release(work)
    return FINE


class Strip(NamedTuple):
    """Rows of C from `c` on, and the columns of B along which they go: a tile's begin `b_step`
    bytes further for each column before it."""

    cols: int
    a: Matrix
    b: Matrix
    b_step: int
    c: Matrix
    terms: int


@inlined
def some_rows(shape, edge, part, onward, ahead):
    """As many rows as the shapes have: whole tiles, then masked ones."""
    cols, a, b, b_step, c, terms = part
    width, size = columns_of(shape), item_bytes(shape)
    whole = cols // width
    if whole:
        below = rows_of(shape) * c.row if ahead else 0
        strip(shape, whole, a, b, width * b_step, c.at, c.row, terms, onward, below)
    for j in range(whole * width, cols, columns_of(edge)):
        at = b.at + whole * width * b_step + (j - whole * width) * size
        b_part, c_at = Matrix(at, size, b.col), c.at + j * size
        strip_edge(edge, cols - j, a, b_part, c_at, c.row, terms, onward)


@inlined
def go_on_few(tiling, problem, begun):
    """Few terms of a leaf that is not full after them. B's columns are contiguous."""
    a, b, c, rows, cols, terms, _ = problem
    whole, onward = rows // 4 * 4, Onward(begun, 0, 0, 0, 0)
    few_rows(tile(tiling, 4, 2), tile(tiling, 4, 1), 0, whole, a, b, c, cols, terms, onward)
    few_rows(tile(tiling, 1, 2), tile(tiling, 1, 1), whole, rows, a, b, c, cols, terms, onward)


@inlined
def go_on_by_one(tiling, problem):
    """One more term of such a leaf. Low tiles leave few rows over."""
    a, b, c, rows, cols, _, _ = problem
    whole, onward = rows // 2 * 2, Onward(1, 0, 0, 0, 0)
    two, one = tile(tiling, 2, 1), tile(tiling, 1, 1)
    few_rows(two, two, 0, whole, a, b, c, cols, 1, onward)
    few_rows(one, one, whole, rows, a, b, c, cols, 1, onward)


@inlined
def few_rows(shape, edge, begin, end, a, b, c, cols, terms, onward):
    """Rows begin … end-1 of C: whole tiles, then masked ones at the edge."""
    width, size = columns_of(shape), item_bytes(shape)
    whole = cols // width
    for row in range(begin, end, rows_of(shape)):
        part, at = from_number(a, row, 0), c.at + row * c.row
        along(shape, whole, part, b, width * size, at, c.row, terms, onward, 0)
        for j in range(whole * width, cols, columns_of(edge)):
            b_part = from_number(b, j, 0)
            at_edge(edge, cols - j, part, b_part, at + j * size, c.row, terms, onward)


# --------------------------------------------------------------------------------------
# On threads
# --------------------------------------------------------------------------------------


class Job(NamedTuple):
    """What all parts share."""

    going: Going
    parts: Parts


job_at = job_word(Job)


@resident
def run_part(tiling, job, i) -> int:
    """The i-th part of the job at an address."""
    going, parts = job_at(job)
    part = Going(part_of(tiling, going.problem, parts, i), Onward(*going.onward))
    former = set_default()
    failed = go_on_alone(tiling, part)
    restore(former)
    return failed


part_address = address_of(run_part)


@resident(late=tiling_for, threads=True)
def go_on_threads(tiling, going: Going, mode) -> int:
    """On as many threads as pay, or on all; each has a part of C."""
    threads = threads_for(tiling, going.problem, mode)
    if threads == 1:
        return go_on_alone(tiling, going)
    parts = parts_for(tiling, going.problem, threads)
    count = parts.rows * parts.cols * count_of(going.problem.terms, parts.terms)
    failed = launch(any_tiling(), part_address(tiling), kept(Job(going, parts)), count)
    unlock_threads()
    return failed


@resident
def go_on(tiling, going: Going, mode) -> int:
    """On the caller's thread or on several: FINE or MEMORY. `wants_threads` comes first."""
    if tries_threads(tiling, going.problem, mode):
        return go_on_threads(tiling, going, mode)
    return go_on_alone(tiling, going)


wants_going, wants_whole = wants(go_on_threads), wants(contract_on_threads)


@inlined
def wants_threads(tiling):
    """FINE, or the code of what is not there for these sums or whole leaves on threads."""
    return max(wants_going(tiling), wants_whole(tiling))


# --------------------------------------------------------------------------------------
# The tree
# --------------------------------------------------------------------------------------


@resident
def merge(tiling, at, numbers, onward: Onward):
    """Add the tree's partial sums, in place, to what a contraction wrote at `to`."""
    _, first, level, merges, to = onward
    size, lanes = item_bytes(tiling), columns_of(tiling) // 2
    for j in range(0, numbers, lanes):
        c, inside = at + j * size, numbers - j
        acc = load_part(vector(tiling), c + to, inside)
        for i in range(merges):
            acc = add(load_part(vector(tiling), c + first + i * level, inside), acc)
        put(acc, c + to, 0, 1, inside)


@resident
def total(tiling, at, numbers, level, levels, samples, divisor: float, to, step):
    """The sums of all samples, divided as in `finish`. The partial sums are contiguous; the
    results are `step` bytes apart."""
    size, lanes, row = item_bytes(tiling), columns_of(tiling) // 2, scratch(64)
    shape = vector(tiling)
    start, slot, leaves = 0, 1, samples // LEAF
    if samples % LEAF == 0 and leaves:  # no leaf is under way: start from the tree's smallest
        while leaves & 1 == 0:
            leaves >>= 1
            slot += 1
        start = slot % levels
        leaves >>= 1
        slot += 1
    for j in range(0, numbers, lanes):
        c, inside = at + j * size, numbers - j
        acc = zero(shape)
        if samples:
            acc = load_part(shape, c + start * level, inside)
        for i in range(slot, levels):
            if leaves >> (i - slot) & 1:
                acc = add(load_part(shape, c + i * level, inside), acc)
        acc = finish(acc, 0, divisor)
        if step == size:
            put(acc, to + j * size, 0, 1, inside)
        else:
            put(acc, row, 0, 1, lanes)
            for i in range(min(lanes, inside)):
                copy(tiling, to + (j + i) * step, row + i * size)

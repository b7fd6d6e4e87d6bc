"""Sums that go on from call to call: more terms of one leaf, on one thread or on several.

They go along C's rows, by `strips.py`.
"""

from typing import NamedTuple

from numba_linear.codes import FINE
from numba_linear.cpu.environment import restore, set_default
from numba_linear.cpu.fragment import (
    add,
    columns_of,
    copy,
    finish,
    item_bytes,
    load_part,
    put,
    scratch,
    zero,
)
from numba_linear.cpu.launch import unlock_threads
from numba_linear.cpu.machine import tile, tiling_for, vector
from numba_linear.cpu.parts import any_tiling, count_of, job_word, kept, launch, part_of
from numba_linear.cpu.plan import Parts, parts_for
from numba_linear.cpu.problem import Going, Onward
from numba_linear.cpu.rule import LEAF
from numba_linear.cpu.strips import contract_strips, few_rows
from numba_linear.cpu.threads import contract_on_threads, threads_for, tries_threads
from numba_linear.jit.compiler import inlined
from numba_linear.jit.resident import address_of, resident, wants

# --------------------------------------------------------------------------------------
# One leaf
# --------------------------------------------------------------------------------------


@inlined
def go_on_alone(tiling, going):
    """On the caller's thread: FINE, or MEMORY with nothing written."""
    if going.problem.rows == 0 or going.problem.cols == 0:
        return FINE
    return contract_strips(tiling, going)


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

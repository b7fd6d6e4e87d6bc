"""Few terms: along C's rows, in strips of as many columns as B's terms fit L2.

Planned where `by_strips`, and for all sums that go on from call to call (`onward.py`): much of the
time goes into writing C, which the processor prefetches along rows. No tile begins early, since a
sum that goes on would take terms twice: left-over rows take lower tiles, and left-over columns are
masked.
"""

from typing import NamedTuple

from numba_linear.codes import FINE, MEMORY
from numba_linear.cpu.fragment import (
    allocate,
    columns_of,
    item_bytes,
    load_part,
    release,
    rows_of,
    scratch,
    store,
)
from numba_linear.cpu.machine import LINE, high_edge, high_tile, tile, tiling_for, vector
from numba_linear.cpu.matrix import Matrix, from_number
from numba_linear.cpu.microkernel import along, at_edge, strip, strip_edge
from numba_linear.cpu.pack import pack_b
from numba_linear.cpu.plan import (
    FOUR_ROWS,
    ONE_ROW,
    TALL_ROWS,
    TWO_ROWS,
    one_by_one,
    strip_rows,
    strips_for,
)
from numba_linear.cpu.problem import Epilogue, Going, Onward
from numba_linear.cpu.tuning import STACK
from numba_linear.jit.compiler import inlined
from numba_linear.jit.resident import resident


@resident(late=tiling_for)
def contract_strips(tiling, going: Going) -> int:
    """Terms of one leaf, at least one, for a C that is not empty: FINE, or MEMORY with nothing
    written."""
    problem, onward = going
    a, b, c, rows, cols, terms, epilogue = problem
    if one_by_one(tiling, going):
        shape, edge = tile(tiling, 1, 4), tile(tiling, 1, 1)
        few_rows(shape, edge, 0, rows, a, b, c, cols, 1, Onward(1, 0, 0, 0, 0))
        return FINE
    size, width, strips = item_bytes(tiling), columns_of(tiling), strips_for(tiling, problem)
    panel_bytes, stack, tall = terms * width * size, scratch(STACK), high_tile(tiling)
    need = 0 if strips.b_direct else (min(strips.cols, cols) + width) // width * panel_bytes + LINE
    work = allocate(need) if need > STACK else stack
    if not work:
        return MEMORY
    packed = (work + LINE - 1) & -LINE
    after, last_bias, tail = Epilogue(0, 0, epilogue.divisor), scratch(1024), 0
    for column in range(0, cols, strips.cols):
        inside = min(strips.cols, cols - column)
        if epilogue.bias:  # copied for the last columns: a masked tile reads a whole row of it
            after = Epilogue(epilogue.bias + column * size, size, epilogue.divisor)
            begin = inside // (2 * width) * 2 * width
            tail = last_bias - begin * size
            for j in range(begin, inside, width // 2):
                some = load_part(vector(tiling), after.bias + j * size, inside - j)
                store(some, tail + j * size, 0)
        in_place, b_part, b_step = from_number(b, column, 0), from_number(b, column, 0), size
        if not strips.b_direct:
            for j in range(0, inside, width):
                source, to = from_number(b, column + j, 0), packed + j // width * panel_bytes
                pack_b(tiling, source, min(width, inside - j), terms, width, to, 1, 0)
            b_part, b_step = Matrix(packed, size, width * size), terms * size
        row = 0
        while row < rows:
            left, a_part, c_part = rows - row, from_number(a, row, 0), from_number(c, row, column)
            part = Strip(inside, a_part, b_part, b_step, c_part, terms, after, tail)
            last = Strip(inside, a_part, in_place, size, c_part, terms, after, tail)
            next_rows = strip_rows(tiling, problem, strips, left)
            if next_rows == TALL_ROWS:
                some_rows(tall, high_edge(tiling), part, onward, True)
                row += rows_of(tall)
            elif next_rows == FOUR_ROWS:
                some_rows(tile(tiling, 4, 2), tile(tiling, 4, 1), part, onward, strips.ahead)
                row += 4
            elif next_rows == TWO_ROWS:
                some_rows(tile(tiling, 2, 4), tile(tiling, 2, 2), last, onward, False)
                row += 2
            elif next_rows == ONE_ROW:
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
    bytes further for each column before it. A masked tile's bias is at `tail`, as
    many numbers on as columns are before it."""

    cols: int
    a: Matrix
    b: Matrix
    b_step: int
    c: Matrix
    terms: int
    after: Epilogue
    tail: int


@inlined
def some_rows(shape, edge, part, onward, ahead):
    """As many rows as the shapes have: whole tiles, then masked ones."""
    cols, a, b, b_step, c, terms, after, tail = part
    width, size = columns_of(shape), item_bytes(shape)
    whole = cols // width
    if whole:
        below = rows_of(shape) * c.row if ahead else 0
        strip(shape, whole, a, b, width * b_step, c.at, c.row, terms, onward, below, after)
    for j in range(whole * width, cols, columns_of(edge)):
        at = b.at + whole * width * b_step + (j - whole * width) * size
        b_part, c_at = Matrix(at, size, b.col), c.at + j * size
        if after.bias:
            after = Epilogue(tail + j * size, size, after.divisor)
        strip_edge(edge, cols - j, a, b_part, c_at, c.row, terms, onward, after)


@inlined
def few_rows(shape, edge, begin, end, a, b, c, cols, terms, onward):
    """Rows begin … end-1 of C: whole tiles, then masked ones at the edge."""
    width, size, none = columns_of(shape), item_bytes(shape), Epilogue(0, 0, 0.0)
    whole = cols // width
    for row in range(begin, end, rows_of(shape)):
        part, at = from_number(a, row, 0), c.at + row * c.row
        along(shape, whole, part, b, width * size, at, c.row, terms, onward, 0, none)
        for j in range(whole * width, cols, columns_of(edge)):
            b_part = from_number(b, j, 0)
            at_edge(edge, cols - j, part, b_part, at + j * size, c.row, terms, onward, none)

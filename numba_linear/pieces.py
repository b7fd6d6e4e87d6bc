"""Sums that go on, compiled: a batch is cut where leaves end, and each piece goes to the engine.

As in `entry.py` each call returns a code of `codes.py`: FINE; or what is wrong, with nothing
written; or MEMORY, with the accumulator's contents undefined.

Level 0 of an accumulator is the leaf under way. Level 1 + j is a partial sum of 2^j leaves that
waits for its neighbour, if bit j of the number of full leaves is 1. The sum of all samples that
there is room for, 256 · 2^(levels - 1), has no leaf beside it and is in level 0.
"""

from typing import NamedTuple

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numba_linear.codes import (
    EMPTY_MEAN,
    FINE,
    FULL,
    MEAN,
    SCATTERED,
    SERIAL,
    SHAPES,
    UNCOUNTED,
    WANTS,
)
from numba_linear.cpu.engine import contract
from numba_linear.cpu.environment import is_default, restore, set_default
from numba_linear.cpu.fragment import item_bytes, one
from numba_linear.cpu.machine import tiling_of
from numba_linear.cpu.matrix import Matrix, transposed
from numba_linear.cpu.onward import go_on, go_on_by_one, go_on_few, merge, total, wants_threads
from numba_linear.cpu.plan import leaves_apart
from numba_linear.cpu.problem import Epilogue, Going, Onward, Problem
from numba_linear.cpu.rule import LEAF
from numba_linear.cpu.threads import tries_threads
from numba_linear.cpu.tuning import STRIP_FEW, STRIP_WORK
from numba_linear.entry import (
    UNSURE,
    Others,
    are_samples,
    count,
    divisor_of,
    even_runs,
    last,
    layout_of,
    of_run,
    refusal,
)
from numba_linear.jit.compiler import inlined
from numba_linear.jit.resident import load_late, resident
from numba_linear.operand import (
    COUNT,
    INTP,
    Operand,
    Samples,
    address,
    as_like,
    as_operand,
    as_samples,
    conforming_to,
    count_at,
    dim,
    ndim,
    set_count,
    stride,
    writable,
)


@inlined
def capacity(levels):
    """The samples that an accumulator of `levels` levels has room for."""
    return LEAF << min(levels - 1, 53)


class Sums(NamedTuple):
    """Sums of rows × cols numbers, level by level; -1 levels if the array is unsuitable."""

    at: int
    levels: int
    rows: int
    cols: int


SUMS = types.BaseTuple.from_types([types.intp] * 4, Sums)


# Operations on an accumulator's arrays, by index, that count no references: counting takes 45 ns,
# as long as one sample of 10 × 64.


def sums_word(index):
    """An operation: an array as `Sums`. The levels of `samples` are its length."""

    @intrinsic
    def sums(typingctx, acc):
        array = acc.types[index]
        known = array.layout == "C" and array.mutable and array.ndim == 3 - index

        def codegen(context, builder, sig, args):
            value = builder.extract_value(args[0], index)
            opened = context.make_array(array)(context, builder, value)
            sizes = cgutils.unpack_tuple(builder, opened.shape)
            rows, cols = [INTP(1), INTP(1), *sizes[1:]][-2:]
            levels = sizes[0] if known else INTP(-1)
            at = builder.ptrtoint(opened.data, INTP)
            return context.make_tuple(builder, SUMS, [at, levels, rows, cols])

        return SUMS(acc), codegen

    return sums


def operand_word(index):
    """An operation: an array as an operand."""

    @intrinsic
    def operand(typingctx, acc):
        result = Operand(acc.types[index].dtype)

        def codegen(context, builder, sig, args):
            value = builder.extract_value(args[0], index)
            return as_operand(context, builder, result, acc.types[index], value)

        return result(acc), codegen

    return operand


def shape_word(index):
    """An operation: an array's shape."""

    @intrinsic
    def shape(typingctx, acc):
        array = acc.types[index]

        def codegen(context, builder, sig, args):
            value = builder.extract_value(args[0], index)
            return context.make_array(array)(context, builder, value).shape

        return types.UniTuple(types.intp, array.ndim)(acc), codegen

    return shape


weight_of, bias_of, samples_of = map(sums_word, range(3))
weight_operand, bias_operand, samples_operand = map(operand_word, range(3))
weight_shape, bias_shape, samples_shape = map(shape_word, range(3))


@inlined
def is_contiguous(a):
    """Whether an array is C-contiguous."""
    step = item_bytes(tiling_of(a))
    for d in range(ndim(a) - 1, -1, -1):
        if dim(a, d) > 1 and stride(a, d) != step:
            return count(a, 0) == 0
        step *= dim(a, d)
    return True


@inlined
def sums_of(a):
    """An operand of two or three dimensions as `Sums`."""
    levels = dim(a, 0) if is_contiguous(a) else -1
    return Sums(address(a), levels, dim(a, 1) if ndim(a) == 3 else 1, last(a))


@inlined
def fault(weight, bias, samples):
    """What is wrong with an accumulator whose shapes conform, or FINE."""
    if not is_contiguous(weight):
        return SCATTERED
    if not is_contiguous(bias):
        return SCATTERED + 1
    so_far = count_at(address(samples))
    if so_far < 0 or so_far > capacity(dim(weight, 0)):
        return UNCOUNTED
    return FINE


@inlined
def onward_of(terms, level, levels, samples):
    """How `terms` terms go on after `samples` samples: they are part of a leaf, or whole leaves
    that make a node of the tree."""
    leaf, height, merges, to = samples // LEAF, 0, 0, 0
    if (samples + terms) % LEAF == 0:
        while terms > LEAF << height:
            height += 1
        while leaf >> (height + merges) & 1:
            merges += 1
        to = (1 + height + merges) % levels
    begun = 1 if samples % LEAF else 0
    return Onward(begun, (1 + height) * level, level, merges, to * level)


@resident
def granted(tiling, mode, g: Matrix, x: Matrix, m, n, K) -> int:
    """The mode for a batch, SERIAL if threads do not pay; or a code from WANTS on. It is decided
    before anything is added, since the call is repeated once the code is there."""
    c, after = Matrix(0, n * item_bytes(tiling), item_bytes(tiling)), Epilogue(0, 0, 0.0)
    if not tries_threads(tiling, Problem(g, x, c, m, n, K, after), mode):
        return SERIAL
    wanted = wants_threads(tiling)
    return mode if wanted == FINE else wanted


@resident
def add_batch(tiling, mode, g: Matrix, x: Matrix, weight: Sums, bias: Sums, K, count) -> int:
    """Add a batch of K samples and count them; g and x are features × samples. The mode is a
    `granted` one."""
    size, levels, m, n = item_bytes(tiling), weight.levels, weight.rows, weight.cols
    row, w_level, b_level = n * size, m * n * size, m * size
    ones, after, samples = Matrix(one(tiling), 0, 0), Epilogue(0, 0, 0.0), count_at(count)
    whole = Problem(g, x, Matrix(weight.at, row, size), m, n, K, after)
    apart, done, code = leaves_apart(tiling, whole, mode), 0, 0
    while done < K and code == FINE:
        a = Matrix(g.at + done * g.col, g.row, g.col)
        b = Matrix(x.at + done * x.col, x.row, x.col)
        left = K - done
        terms = min(left, LEAF - samples % LEAF)
        while apart and terms >= LEAF and 2 * terms <= left and samples % (2 * terms) == 0:
            terms *= 2
        w_on = onward_of(terms, w_level, levels, samples)
        b_on = onward_of(terms, b_level, levels, samples)
        if terms < LEAF or not apart:
            of_weight = Problem(a, b, Matrix(weight.at, row, size), m, n, terms, after)
            of_bias = Problem(ones, a, Matrix(bias.at, 0, size), 1, m, terms, after)
            code = go_on(tiling, Going(of_weight, w_on), mode)
            if code == FINE:
                code = go_on(tiling, Going(of_bias, b_on), mode)
        else:
            c = Matrix(weight.at + w_on.to, row, size)
            code = contract(tiling, Problem(a, b, c, m, n, terms, after), mode)
            if code == FINE:
                c = Matrix(bias.at + b_on.to, 0, size)
                code = contract(tiling, Problem(ones, a, c, 1, m, terms, after), mode)
            if w_on.merges:
                merge(tiling, weight.at, m * n, w_on)
                merge(tiling, bias.at, m, b_on)
        samples += terms
        done += terms
    if code == FINE:
        set_count(count, samples)
    return code


#: g, x, and the accumulator's arrays as one row each.
rows_conform = conforming_to({"g": "Km", "x": "Kn", "weight": "w", "bias": "b", "samples": "s"}, 2)


@resident(linked=True)
def accumulate_of_samples(
    tiling, g: Samples, x: Samples, weight: Sums, bias: Sums, samples: Sums, mode
) -> int:
    """Add a batch of one dimension. Few samples with few features, and a leaf that is not full
    after them, need least. Returns UNSURE if a quick check is not enough: `run_accumulate` then
    decides."""
    K, levels, m, n, size = g.rows, weight.levels, weight.rows, weight.cols, item_bytes(tiling)
    if levels < 1 or samples.levels != 1 or bias.levels != levels or bias.cols != m:
        return UNSURE
    if g.cols != m or x.cols != n:
        return UNSURE
    at_weight = Samples(Matrix(weight.at, 0, size), 1, levels * m * n)
    at_bias = Samples(Matrix(bias.at, 0, size), 1, levels * m)
    at_samples = Samples(Matrix(samples.at, 0, size), 1, 8 // size)
    if not (rows_conform(tiling, (g, x, at_weight, at_bias, at_samples)) and is_default()):
        return UNSURE
    so_far = count_at(samples.at)
    if so_far < 0 or so_far > capacity(levels) - K:
        return UNSURE
    a, b, term = transposed(g.at), transposed(x.at), so_far % LEAF
    few = 0 < K <= STRIP_FEW and term + K < LEAF and m * n * K <= STRIP_WORK
    if not few or a.row != size or b.row != size:
        own = granted(tiling, mode, a, b, m, n, K)
        return own if own >= WANTS else add_batch(tiling, own, a, b, weight, bias, K, samples.at)
    if K == 1 and term:
        add_one(tiling, a.at, b.at, weight.at, bias.at, m, n)
    else:
        add_few(tiling, a, b, weight, bias, K, 1 if term else 0)
    set_count(samples.at, so_far + K)
    return FINE


@resident
def add_few(tiling, g: Matrix, x: Matrix, weight: Sums, bias: Sums, K, begun):
    """The same for contiguous features."""
    size, m, n, after = item_bytes(tiling), weight.rows, weight.cols, Epilogue(0, 0, 0.0)
    ones, c, sums = (
        Matrix(one(tiling), 0, 0),
        Matrix(weight.at, n * size, size),
        Matrix(bias.at, 0, size),
    )
    go_on_few(tiling, Problem(g, x, c, m, n, K, after), begun)
    go_on_few(tiling, Problem(ones, g, sums, 1, m, K, after), begun)


@resident
def add_one(tiling, g, x, weight, bias, m, n):
    """The same for one sample, whose leaf has begun. All that it needs fits in registers."""
    size, after = item_bytes(tiling), Epilogue(0, 0, 0.0)
    a, b, c = Matrix(g, size, 0), Matrix(x, size, 0), Matrix(weight, n * size, size)
    go_on_by_one(tiling, Problem(a, b, c, m, n, 1, after))
    ones, c = Matrix(one(tiling), 0, 0), Matrix(bias, 0, size)
    go_on_by_one(tiling, Problem(ones, a, c, 1, m, 1, after))


ACCUMULATE = layout_of("accumulate", "sum")


@resident(no_cpython_wrapper=False, ready=lambda first: load_late(first.dtype))
def run_accumulate(
    g: Operand,
    x: Operand,
    weight: Operand,
    bias: Operand,
    samples: COUNT,  # type: ignore[valid-type]
    mode,
) -> int:
    if are_samples(g, weight, 3) and ndim(x) == ndim(g):
        if are_samples(x, bias, 2) and ndim(samples) == 1 and writable(samples):
            in_weight, in_bias = sums_of(weight), sums_of(bias)
            count_of = Sums(address(samples), dim(samples, 0), 1, 1)
            gs, xs = as_samples(g), as_samples(x)
            code = accumulate_of_samples(tiling_of(g), gs, xs, in_weight, in_bias, count_of, mode)
            if code != UNSURE:
                return code
    code = refusal(g, Others(x, weight, bias, as_like(g, samples), g), ACCUMULATE, 2, 0)
    if code != SHAPES:
        code = fault(weight, bias, samples) or code
    if code != FINE:
        return code
    K, at = count(g, 1), address(samples)
    if K > capacity(dim(weight, 0)) - count_at(at):
        return FULL
    rows, runs, g_row, x_row = even_runs(g, x)
    a, b = transposed(of_run(g, g_row, 0, rows)), transposed(of_run(x, x_row, 0, rows))
    own = granted(tiling_of(g), mode, a, b, last(g), last(x), K)
    if own >= WANTS:
        return own
    former = set_default()
    for run in range(runs if K else 0):
        a, b = transposed(of_run(g, g_row, run, rows)), transposed(of_run(x, x_row, run, rows))
        if code == FINE:
            code = add_batch(tiling_of(g), own, a, b, sums_of(weight), sums_of(bias), rows, at)
    restore(former)
    return code


ACCUMULATED = layout_of("accumulated", "sum")


@resident(no_cpython_wrapper=False, ready=refusal.resident.load)
def run_accumulated(
    weight: Operand,
    bias: Operand,
    samples: COUNT,  # type: ignore[valid-type]
    out_weight: Operand,
    out_bias: Operand,
    reduction,
) -> int:
    others = Others(bias, as_like(weight, samples), out_weight, out_bias, weight)
    code = refusal(weight, others, ACCUMULATED, 3, 0)
    if code != SHAPES:
        code = fault(weight, bias, samples) or code
    if code != FINE:
        return code
    so_far = count_at(address(samples))
    if reduction == MEAN and so_far == 0:
        return EMPTY_MEAN
    tiling, divisor = tiling_of(weight), divisor_of(reduction, so_far)
    size, m, n, levels = item_bytes(tiling), dim(weight, 1), dim(weight, 2), dim(weight, 0)
    out_row, out_col = stride(out_weight, 0), stride(out_weight, 1)
    rows, row = m, n
    if out_col == size and out_row == n * size:
        rows, row = 1, m * n
    former = set_default()
    for i in range(rows):
        at, to = address(weight) + i * n * size, address(out_weight) + i * out_row
        total(tiling, at, row, m * n * size, levels, so_far, divisor, to, out_col)
    at, to = address(bias), address(out_bias)
    total(tiling, at, m, m * size, levels, so_far, divisor, to, stride(out_bias, 0))
    restore(former)
    return FINE

"""The compiled layer: each call checks its operands' shapes and hands its sums to the engine.

It returns a code: FINE; or what is wrong, with nothing written; or MEMORY or a code from WANTS on,
with `out` undefined.
"""

from typing import NamedTuple

from numba_linear import checks
from numba_linear.codes import (
    EMPTY_MEAN,
    FINE,
    MEAN,
    MEMORY,
    NONE,
    OVERLAP,
    SERIAL,
    SHAPES,
    SUM,
)
from numba_linear.cpu.engine import contract, contract_at_once
from numba_linear.cpu.environment import is_default, restore, set_default
from numba_linear.cpu.fragment import allocate, copy, item_bytes, one, release
from numba_linear.cpu.machine import tiling_of
from numba_linear.cpu.matrix import Matrix, transposed
from numba_linear.cpu.plan import COLUMNS, LARGE, small_path
from numba_linear.cpu.problem import Epilogue, Problem
from numba_linear.cpu.small import contract_small
from numba_linear.jit.compiler import inlined
from numba_linear.jit.resident import resident
from numba_linear.operand import (
    Operand,
    Samples,
    address,
    as_samples,
    conforming,
    dim,
    ndim,
    stride,
    writable,
)

#: What a quick check returns instead of a code if the full check must decide.
UNSURE = -1


# --------------------------------------------------------------------------------------
# Shapes
# --------------------------------------------------------------------------------------


@inlined
def last(x):
    return dim(x, ndim(x) - 1)


@inlined
def count(x, own):
    """The product of all dimensions but the last `own`."""
    K = 1
    for d in range(ndim(x) - own):
        K *= dim(x, d)
    return K


NO_STRIDE = -(1 << 62)


@inlined
def rows_stride(x, own):
    """The one stride that steps through all dimensions but the last `own`, or NO_STRIDE."""
    rows, step = 1, 0
    for d in range(ndim(x) - own - 1, -1, -1):
        if dim(x, d) == 0:
            return 0
        if dim(x, d) > 1:
            if rows == 1:
                step = stride(x, d)
            elif stride(x, d) != rows * step:
                return NO_STRIDE
            rows *= dim(x, d)
    return step


@inlined
def offset(x, own, k):
    """Bytes from the start of x to sample k, counted through all dimensions but the last `own`."""
    total = 0
    for d in range(ndim(x) - own - 1, -1, -1):
        total += k % dim(x, d) * stride(x, d)
        k //= dim(x, d)
    return total


@inlined
def reach(x):
    """The addresses of the first and the last number of an array that has any."""
    low = high = address(x)
    for d in range(ndim(x)):
        extent = (dim(x, d) - 1) * stride(x, d)
        low, high = low + min(0, extent), high + max(0, extent)
    return low, high


@inlined
def overlap(x, low, end, y, y_size, size):
    """Whether two arrays may share memory. x extends from `low` to `end`; y's numbers have
    `y_size` bytes, and both arrays' at most `size`. For most arrays their ends decide."""
    y_low, y_high = reach(y)
    return low < y_high + y_size and y_low < end and interleaved(x, y, size) == 0


#: What `row_reach` returns instead of a distance.
UNEVEN, EMPTY = -1, -2


@inlined
def row_reach(x, step):
    """Bytes from the first to the last number of each row of x, if all rows begin a multiple of
    `step` apart."""
    row, uneven = 0, step <= 0
    for d in range(ndim(x)):
        extent = abs((dim(x, d) - 1) * stride(x, d))
        if dim(x, d) == 0:
            return EMPTY
        if d == ndim(x) - 1:
            row = extent
        elif extent != 0 and stride(x, d) % step != 0:
            uneven = True
    return UNEVEN if uneven else row


@resident
def interleaved(x: Operand, y: Operand, size) -> int:
    """1 for arrays that are interleaved but share no memory: an empty one, or arrays whose rows
    are a common step apart, such as columns of one buffer."""
    step = 0
    for d in range(ndim(x) - 1):
        if dim(x, d) > 1:
            step = stride(x, d)
    x_row, y_row = row_reach(x, step), row_reach(y, step)
    if x_row == EMPTY or y_row == EMPTY:
        return 1
    if x_row == UNEVEN or y_row == UNEVEN:
        return 0
    # modulo the step each array is one row
    x_low, _ = reach(x)
    y_low, _ = reach(y)
    apart = (y_low - x_low) % step
    return 1 if apart >= x_row + size and step - apart >= y_row + size else 0


class Others(NamedTuple):
    """A call's arrays except the first: inputs, then outs. Any array fills the unused places."""

    second: Operand
    third: Operand
    fourth: Operand
    fifth: Operand
    sixth: Operand


#: A layout has BITS bits for each array, from the lowest: its letters (levels before m before n,
#: or a count of samples), whether a batch precedes them, and whether it may be None.
BITS = 6
LETTER_N, LETTER_M, LEVELS, COUNT, BATCH, OPTIONAL = (1 << bit for bit in range(BITS))
LETTER_BITS = {"n": LETTER_N, "m": LETTER_M, "q": LEVELS, "1": COUNT, "…": BATCH}


def layout_of(operation, reduction):
    """The letters of a call's arrays, as `refusal` takes them."""
    layout, arrays = 0, checks.LETTERS[operation] | checks.out_letters(operation, reduction)
    for i, (name, letters) in enumerate(arrays.items()):
        bits = sum(LETTER_BITS[letter] for letter in letters)
        bits += OPTIONAL * (name in checks.OPTIONAL.get(operation, ()))
        layout |= bits << BITS * i
    return layout


@inlined
def bytes_of(size, letters):
    """Bytes of one number of an array."""
    return 8 if letters & COUNT else size


@resident(late=Operand)
def refusal(first: Operand, others: Others, layout, inputs, mean) -> int:
    """The code for a call's arrays, the first `inputs` of which are inputs."""
    second, third, fourth, fifth, sixth = others
    arrays = (first, second, third, fourth, fifth, sixth)
    m, n, levels, arguments = -1, -1, -1, 0
    while layout >> BITS * arguments:
        a, letters = arrays[arguments], layout >> BITS * arguments
        arguments += 1
        if letters & OPTIONAL and ndim(a) == -1:
            continue
        own = letters // LEVELS % 2 + letters // LETTER_M % 2 + letters // LETTER_N % 2
        batch = ndim(a) - own - letters // COUNT % 2
        if batch < 0 or (batch > 0 and not letters & BATCH):
            return SHAPES
        if letters & BATCH:  # the same as of the first array
            if batch != ndim(first) - 1:
                return SHAPES
            for d in range(batch):
                if dim(a, d) != dim(first, d):
                    return SHAPES
        if letters & LEVELS:
            if dim(a, 0) == 0 or (levels >= 0 and dim(a, 0) != levels):
                return SHAPES
            levels = dim(a, 0)
        if letters & LETTER_M:
            of_m = dim(a, ndim(a) - 1 - letters // LETTER_N % 2)
            if m >= 0 and of_m != m:
                return SHAPES
            m = of_m
        if letters & LETTER_N:
            if n >= 0 and last(a) != n:
                return SHAPES
            n = last(a)
        if letters & COUNT and last(a) != 1:
            return SHAPES
        if arguments > inputs and not writable(a):
            return SHAPES
    if mean and count(first, 1) == 0:
        return EMPTY_MEAN
    size = item_bytes(tiling_of(first))
    for i in range(inputs, arguments):
        if ndim(arrays[i]) != -1:
            own = bytes_of(size, layout >> BITS * i)
            low, high = reach(arrays[i])
            for j in range(i):
                other = bytes_of(size, layout >> BITS * j)
                if ndim(arrays[j]) != -1 and overlap(
                    arrays[i], low, high + own, arrays[j], other, max(own, other)
                ):
                    return OVERLAP + 8 * (i - inputs) + j
    return FINE


# --------------------------------------------------------------------------------------
# Sums
# --------------------------------------------------------------------------------------


@inlined
def divisor_of(reduction, K):
    """What a mean divides by, as `finish` takes it: for a power of two its negated inverse."""
    if reduction != MEAN or K == 1:
        return 0.0
    if K & (K - 1) == 0:
        return -1.0 / K
    return float(K)


@inlined
def even_runs(x, y):
    """The samples per run, the number of runs, and the strides of x's and y's samples. A run is
    the whole batch if both are evenly strided, else the innermost batch dimension."""
    x_row, y_row = rows_stride(x, 1), rows_stride(y, 1)
    if x_row != NO_STRIDE and y_row != NO_STRIDE:
        return count(x, 1), 1, x_row, y_row
    d = ndim(x) - 2
    return dim(x, d), count(x, 2), stride(x, d), stride(y, d)


@inlined
def of_run(x, row, run, rows):
    """Run number `run`, of `rows` samples, as a matrix of samples × features."""
    skipped = offset(x, 1, run * rows) if run else 0
    return Matrix(address(x) + skipped, row, stride(x, ndim(x) - 1))


@resident(late=Operand)
def per_sample(a: Operand, out: Operand, mode, b: Matrix, after: Epilogue, cols, terms) -> int:
    """C[k, c] = Σ_p A[k, p] · B[c, p] (+ bias[c]) for each sample k, of any batch strides."""
    rows, runs, a_row, out_row = even_runs(a, out)
    code = 0
    for run in range(runs):
        from_a, c = of_run(a, a_row, run, rows), of_run(out, out_row, run, rows)
        problem = Problem(from_a, b, c, rows, cols, terms, after)
        code = max(code, contract(tiling_of(a), problem, mode))
    return code


@inlined
def by_sample(x, k):
    """Sample k as a matrix of features × 1."""
    return Matrix(address(x) + offset(x, 1, k), stride(x, ndim(x) - 1), 0)


#: What `gather` returns instead of an address.
NO_MEMORY = -1


@resident
def gather(x: Operand) -> int:
    """The address of a copy of x with evenly strided rows; 0 if x's own are, or NO_MEMORY."""
    if rows_stride(x, 1) != NO_STRIDE:
        return 0
    tiling = tiling_of(x)
    size, n, K = item_bytes(tiling), last(x), count(x, 1)
    copied = allocate(max(1, K * n * size))
    if not copied:
        return NO_MEMORY
    for k in range(K):
        row = by_sample(x, k)
        for j in range(n):
            copy(tiling, copied + (k * n + j) * size, row.at + j * row.row)
    return copied


@inlined
def by_feature(x, copied):
    """x, or its copy, as a matrix of features × samples."""
    if copied:
        size = item_bytes(tiling_of(x))
        return Matrix(copied, size, last(x) * size)
    return Matrix(address(x), stride(x, ndim(x) - 1), rows_stride(x, 1))


@resident(late=Operand)
def weight_sum(g: Operand, x: Operand, out: Operand, reduction, mode) -> int:
    """③–⑦ for each sample, or their mean or sum over the batch."""
    tiling = tiling_of(g)
    K, m, n = count(g, 1), last(g), last(x)
    out_row, out_col = stride(out, ndim(out) - 2), stride(out, ndim(out) - 1)
    code, after = 0, Epilogue(0, 0, 0.0)
    if reduction == NONE:
        for k in range(K):
            c = Matrix(address(out) + offset(out, 2, k), out_row, out_col)
            a, b = by_sample(g, k), by_sample(x, k)
            code = max(code, contract(tiling, Problem(a, b, c, m, n, 1, after), SERIAL))
        return code
    g_copy, x_copy = gather(g), gather(x)
    if g_copy == NO_MEMORY or x_copy == NO_MEMORY:
        code = max(code, MEMORY)
    else:
        a, b = by_feature(g, g_copy), by_feature(x, x_copy)
        c = Matrix(address(out), out_row, out_col)
        mean = Epilogue(0, 0, divisor_of(reduction, K))
        code = max(code, contract(tiling, Problem(a, b, c, m, n, K, mean), mode))
    release(max(g_copy, 0))
    release(max(x_copy, 0))
    return code


@resident(late=Operand)
def bias_sum(g: Operand, out: Operand, reduction, mode) -> int:
    """⑧–⑪ for each sample, or their mean or sum over the batch: the terms are 1 · g."""
    tiling = tiling_of(g)
    K, m, out_col = count(g, 1), last(g), stride(out, ndim(out) - 1)
    ones, code, after = Matrix(one(tiling), 0, 0), 0, Epilogue(0, 0, 0.0)
    if reduction == NONE:
        for k in range(K):
            c = Matrix(address(out) + offset(out, 1, k), 0, out_col)
            b = by_sample(g, k)
            code = max(code, contract(tiling, Problem(ones, b, c, 1, m, 1, after), SERIAL))
        return code
    g_copy = gather(g)
    if g_copy == NO_MEMORY:
        return MEMORY
    c = Matrix(address(out), 0, out_col)
    mean = Epilogue(0, 0, divisor_of(reduction, K))
    code = contract(tiling, Problem(ones, by_feature(g, g_copy), c, 1, m, K, mean), mode)
    release(g_copy)
    return code


# --------------------------------------------------------------------------------------
# Calls
# --------------------------------------------------------------------------------------
#
# Most calls take one sample or a batch of one dimension. The functions `…_of_samples`, linked into
# the user's code, do these. They return UNSURE if a quick check is not enough: then `run_…`, which
# takes any arrays, decides.


@inlined
def are_samples(x, out, own):
    """Whether x is one sample or a batch of one dimension, and `out` has `own` dimensions."""
    return 0 < ndim(x) <= 2 and ndim(out) == own and writable(out)


@inlined
def is_one_sum(g, reduction):
    """Whether the reduction is one sum over the samples."""
    return reduction == SUM or (reduction == MEAN and g.rows > 0)


@inlined
def reduction_over(g, reduction):
    """The reduction; for a sample without a batch, SUM."""
    return SUM if ndim(g) == 1 else reduction


forward_conforms = conforming("forward")
FORWARD = layout_of("forward", "mean")


@resident(linked=True)
def forward_of_samples(tiling, x: Samples, w: Samples, b: Samples, y: Samples, mode) -> int:
    if not (forward_conforms(tiling, (x, w, b, y)) and is_default()):
        return UNSURE
    after = Epilogue(b.at.at, b.at.col, 0.0)
    problem = Problem(x.at, w.at, y.at, x.rows, w.rows, x.cols, after)
    return contract_at_once(tiling, problem, mode)


@resident(no_cpython_wrapper=False)
def run_forward(x: Operand, w: Operand, b: Operand, out: Operand, mode) -> int:
    if are_samples(x, out, ndim(x)) and ndim(w) == 2 and abs(ndim(b)) == 1:
        xs, ws, bs, ys = as_samples(x), as_samples(w), as_samples(b), as_samples(out)
        code = forward_of_samples(tiling_of(x), xs, ws, bs, ys, mode)
        if code != UNSURE:
            return code
    code = refusal(x, Others(w, b, out, x, x), FORWARD, 3, 0)
    if code == FINE:
        after = Epilogue(0, 0, 0.0)
        if ndim(b) != -1:
            after = Epilogue(address(b), stride(b, 0), 0.0)
        by_output = Matrix(address(w), stride(w, 0), stride(w, 1))
        former = set_default()
        code = per_sample(x, out, mode, by_output, after, dim(w, 0), dim(w, 1))
        restore(former)
    return code


grad_input_conforms = conforming("grad_input")
GRAD_INPUT = layout_of("grad_input", "mean")


@resident(linked=True)
def grad_input_of_samples(tiling, g: Samples, w: Samples, dx: Samples, mode) -> int:
    if not (grad_input_conforms(tiling, (g, w, dx)) and is_default()):
        return UNSURE
    b, after = transposed(w.at), Epilogue(0, 0, 0.0)
    problem = Problem(g.at, b, dx.at, g.rows, w.cols, w.rows, after)
    return contract_at_once(tiling, problem, mode)


@resident(no_cpython_wrapper=False)
def run_grad_input(g: Operand, w: Operand, out: Operand, mode) -> int:
    if are_samples(g, out, ndim(g)) and ndim(w) == 2:
        gs, ws, dx = as_samples(g), as_samples(w), as_samples(out)
        code = grad_input_of_samples(tiling_of(g), gs, ws, dx, mode)
        if code != UNSURE:
            return code
    code = refusal(g, Others(w, out, g, g, g), GRAD_INPUT, 2, 0)
    if code == FINE:
        by_input = Matrix(address(w), stride(w, 1), stride(w, 0))
        former = set_default()
        code = per_sample(g, out, mode, by_input, Epilogue(0, 0, 0.0), dim(w, 1), dim(w, 0))
        restore(former)
    return code


grad_weight_conforms = conforming("grad_weight")
GRAD_WEIGHT, GRAD_WEIGHTS = layout_of("grad_weight", "mean"), layout_of("grad_weight", "none")


@resident(linked=True)
def grad_weight_of_samples(tiling, g: Samples, x: Samples, dw: Samples, reduction, mode) -> int:
    if not (grad_weight_conforms(tiling, (g, x, dw)) and is_default()):
        return UNSURE
    if not is_one_sum(g, reduction):
        return UNSURE
    a, b = transposed(g.at), transposed(x.at)
    after = Epilogue(0, 0, divisor_of(reduction, g.rows))
    return contract_at_once(tiling, Problem(a, b, dw.at, g.cols, x.cols, g.rows, after), mode)


@resident(no_cpython_wrapper=False)
def run_grad_weight(g: Operand, x: Operand, out: Operand, reduction, mode) -> int:
    if are_samples(g, out, 2) and ndim(x) == ndim(g):
        gs, xs, dw = as_samples(g), as_samples(x), as_samples(out)
        reduce = reduction_over(g, reduction)
        code = grad_weight_of_samples(tiling_of(g), gs, xs, dw, reduce, mode)
        if code != UNSURE:
            return code
    layout = GRAD_WEIGHTS if reduction == NONE else GRAD_WEIGHT
    code = refusal(g, Others(x, out, g, g, g), layout, 2, reduction == MEAN)
    if code == FINE:
        former = set_default()
        code = weight_sum(g, x, out, reduction, mode)
        restore(former)
    return code


grad_bias_conforms = conforming("grad_bias")
GRAD_BIAS, GRAD_BIASES = layout_of("grad_bias", "mean"), layout_of("grad_bias", "none")


@resident(linked=True)
def grad_bias_of_samples(tiling, g: Samples, db: Samples, reduction, mode) -> int:
    if not (grad_bias_conforms(tiling, (g, db)) and is_default()):
        return UNSURE
    if not is_one_sum(g, reduction):
        return UNSURE
    ones, after = Matrix(one(tiling), 0, 0), Epilogue(0, 0, divisor_of(reduction, g.rows))
    problem = Problem(ones, transposed(g.at), db.at, 1, g.cols, g.rows, after)
    return contract_at_once(tiling, problem, mode)


@resident(no_cpython_wrapper=False)
def run_grad_bias(g: Operand, out: Operand, reduction, mode) -> int:
    if are_samples(g, out, 1):
        gs, db, reduce = as_samples(g), as_samples(out), reduction_over(g, reduction)
        code = grad_bias_of_samples(tiling_of(g), gs, db, reduce, mode)
        if code != UNSURE:
            return code
    layout = GRAD_BIASES if reduction == NONE else GRAD_BIAS
    code = refusal(g, Others(out, g, g, g, g), layout, 1, reduction == MEAN)
    if code == FINE:
        former = set_default()
        code = bias_sum(g, out, reduction, mode)
        restore(former)
    return code


backward_conforms = conforming("backward")
BACKWARD, BACKWARDS = layout_of("backward", "mean"), layout_of("backward", "none")


@resident
def large_backward(
    tiling, of_bias: Problem, of_weight: Problem, of_input: Problem, first, mode
) -> int:
    """The sums one after the other, the quickest first: a call that wants code is repeated."""
    code = contract(tiling, of_bias, mode)
    if code == FINE:
        code = contract(tiling, of_weight, mode)
    if code == FINE and not first:
        code = contract(tiling, of_input, mode)
    return code


@resident(linked=True)
def backward_of_samples(
    tiling,
    g: Samples,
    x: Samples,
    w: Samples,
    dx: Samples,
    dw: Samples,
    db: Samples,
    reduction,
    mode,
) -> int:
    if not (backward_conforms(tiling, (g, x, w, dx, dw, db)) and is_default()):
        return UNSURE
    if w.rows != dx.rows and (w.rows == -1 or dx.rows == -1):
        return UNSURE
    if not is_one_sum(g, reduction):
        return UNSURE
    K, m, n = g.rows, g.cols, x.cols
    a, ones, none = transposed(g.at), Matrix(one(tiling), 0, 0), Epilogue(0, 0, 0.0)
    mean = Epilogue(0, 0, divisor_of(reduction, K))
    of_bias = Problem(ones, a, db.at, 1, m, K, mean)
    of_weight = Problem(a, transposed(x.at), dw.at, m, n, K, mean)
    of_input = Problem(g.at, transposed(w.at), dx.at, K, n, m, none)
    first = 1 if w.rows == -1 else 0
    weight_path = small_path(tiling, of_weight)
    input_path = COLUMNS if first else small_path(tiling, of_input)
    if weight_path == LARGE or input_path == LARGE:
        return large_backward(tiling, of_bias, of_weight, of_input, first, mode)
    if not first:
        code = contract_small(tiling, of_input, input_path)
        if code != FINE:
            return code
    code = contract_small(tiling, of_weight, weight_path)
    if code != FINE:
        return code
    return contract_small(tiling, of_bias, small_path(tiling, of_bias))


@resident(no_cpython_wrapper=False)
def run_backward(
    g: Operand,
    x: Operand,
    w: Operand,
    out_input: Operand,
    out_weight: Operand,
    out_bias: Operand,
    reduction,
    mode,
) -> int:
    """Without w, for a network's first layer, there is no ∂L/∂x."""
    first = ndim(w) == -1
    if first != (ndim(out_input) == -1):
        return SHAPES
    if are_samples(g, out_weight, 2) and are_samples(x, out_bias, 1) and ndim(x) == ndim(g):
        if first or (ndim(w) == 2 and ndim(out_input) == ndim(g) and writable(out_input)):
            gs, xs, ws = as_samples(g), as_samples(x), as_samples(w)
            dx, dw, db = as_samples(out_input), as_samples(out_weight), as_samples(out_bias)
            reduce = reduction_over(g, reduction)
            code = backward_of_samples(tiling_of(g), gs, xs, ws, dx, dw, db, reduce, mode)
            if code != UNSURE:
                return code
    layout = BACKWARDS if reduction == NONE else BACKWARD
    others = Others(x, w, out_input, out_weight, out_bias)
    code = refusal(g, others, layout, 3, reduction == MEAN)
    if code == FINE:
        former = set_default()
        # the quickest first: a call that wants code is repeated
        code = bias_sum(g, out_bias, reduction, mode)
        if code == FINE:
            code = weight_sum(g, x, out_weight, reduction, mode)
        if code == FINE and not first:
            by_input = Matrix(address(w), stride(w, 1), stride(w, 0))
            after = Epilogue(0, 0, 0.0)
            code = per_sample(g, out_input, mode, by_input, after, last(x), last(g))
        restore(former)
    return code

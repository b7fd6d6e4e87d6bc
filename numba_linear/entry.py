"""The layer compiled: each call checks its operands' shapes and gives its sum to the engine.

Every function returns a code of `checks`: FINE, or what is wrong, and then nothing has been
written; or MEMORY, and then what `out` holds is not defined.
"""

from numba import types
from numba.extending import intrinsic

from numba_linear.checks import EMPTY_MEAN, FINE, LARGE, MEMORY, OVERLAP, SHAPES
from numba_linear.cpu.compiler import inlined
from numba_linear.cpu.contract import gives_sums
from numba_linear.cpu.environment import is_default, restore, set_default
from numba_linear.cpu.fragment import allocate, copy, item_bytes, one, release
from numba_linear.cpu.machine import tiling_of
from numba_linear.cpu.matrix import Matrix
from numba_linear.cpu.parallel import LAUNCH, PARALLEL, SERIAL, contract_into, saves
from numba_linear.cpu.problem import Problem
from numba_linear.cpu.resident import resident
from numba_linear.cpu.small import contract_small, is_small
from numba_linear.operand import Operand, Samples, address, apart, dim, ndim, stride, writable

#: Reductions over the batch.
MEAN, SUM, NONE = 0, 1, 2

#: Threads whose number is not known yet: as many as save most.
MANY = 1 << 20

#: What a quick check returns instead of a code: the whole check decides.
UNSURE = -1


# --------------------------------------------------------------------------------------
# Shapes
# --------------------------------------------------------------------------------------


@inlined
def same_batch(x, y, own):
    """Whether y's dimensions but its last `own` are x's but its last."""
    if ndim(x) < 1 or ndim(y) - own != ndim(x) - 1:
        return False
    for d in range(ndim(x) - 1):
        if dim(x, d) != dim(y, d):
            return False
    return True


@inlined
def last(x, back=1):
    return dim(x, ndim(x) - back)


@inlined
def is_matrix(w, m, n):
    return ndim(w) == 2 and dim(w, 0) == m and dim(w, 1) == n


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
    """The stride that steps through all dimensions but the last `own` as one, or NO_STRIDE."""
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
def overlap(x, low, high, y, size):
    """Whether two arrays may share memory, x with its first number at `low` and its last at
    `high`; most are told apart by where they begin and end."""
    y_low, y_high = reach(y)
    return low < y_high + size and y_low < high + size and interleaved(x, y, size) == 0


#: What `row_reach` returns instead of a distance.
UNEVEN, EMPTY = -1, -2


@inlined
def row_reach(x, step):
    """Bytes from the first to the last number of each row of x, if the rows begin multiples of
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
    """1 for arrays of which one begins before the other ends and that yet share no memory: empty
    ones, and those whose rows lie a common step apart, such as columns of one buffer."""
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


# --------------------------------------------------------------------------------------
# Sums
# --------------------------------------------------------------------------------------


@inlined
def divisor_of(reduction, K):
    """What a mean divides by; a power of two as the negative of its exact inverse, to multiply
    by."""
    if reduction != MEAN or K == 1:
        return 0.0
    if K & (K - 1) == 0:
        return -1.0 / K
    return float(K)


@resident
def per_sample(a: Operand, out: Operand, mode, b: Matrix, bias, bias_step, cols, terms) -> int:
    """C[k, c] = Σ_p A[k, p] · B[c, p] (+ bias[c]) for every sample k, however their rows lie."""
    a_row, out_row = rows_stride(a, 1), rows_stride(out, 1)
    rows, runs = count(a, 1), 1
    if a_row == NO_STRIDE or out_row == NO_STRIDE:
        # those of the innermost batch dimension still lie evenly
        rows, runs = last(a, 2), count(a, 2)
        a_row, out_row = stride(a, ndim(a) - 2), stride(out, ndim(out) - 2)
    a_col, out_col = stride(a, ndim(a) - 1), stride(out, ndim(out) - 1)
    failed = 0
    for run in range(runs):
        a_at, out_at = address(a), address(out)
        if runs > 1:
            a_at += offset(a, 1, run * rows)
            out_at += offset(out, 1, run * rows)
        from_a, c = Matrix(a_at, a_row, a_col), Matrix(out_at, out_row, out_col)
        problem = Problem(from_a, b, c, rows, cols, terms, bias, 0.0, 0)
        failed += contract_into(tiling_of(a), mode, problem, bias_step)
    return MEMORY if failed else FINE


@inlined
def by_sample(x, k):
    """Features × 1 sample, the k-th, as a matrix."""
    return Matrix(address(x) + offset(x, 1, k), stride(x, ndim(x) - 1), 0)


#: What `gather` returns instead of an address.
NO_MEMORY = -1


@resident
def gather(x: Operand) -> int:
    """The address of a copy of x with its rows evenly apart, 0 where they are so already, and
    NO_MEMORY where there is none for it."""
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
    """Features × samples as a matrix, of x or of its copy."""
    if copied:
        size = item_bytes(tiling_of(x))
        return Matrix(copied, size, last(x) * size)
    return Matrix(address(x), stride(x, ndim(x) - 1), rows_stride(x, 1))


@resident
def weight_sum(g: Operand, x: Operand, out: Operand, reduction, mode, sums) -> int:
    """③–⑦ for each sample, or their mean or sum over the batch, and with the latter, in `sums`, if
    it is not 0, ⑧–⑪."""
    tiling = tiling_of(g)
    K, m, n = count(g, 1), last(g), last(x)
    out_row, out_col = stride(out, ndim(out) - 2), stride(out, ndim(out) - 1)
    failed = 0
    if reduction == NONE:
        for k in range(K):
            c = Matrix(address(out) + offset(out, 2, k), out_row, out_col)
            a, b = by_sample(g, k), by_sample(x, k)
            failed += contract_into(tiling, SERIAL, Problem(a, b, c, m, n, 1, 0, 0.0, 0), 0)
        return MEMORY if failed else FINE
    g_copy, x_copy = gather(g), gather(x)
    if g_copy == NO_MEMORY or x_copy == NO_MEMORY:
        failed = 1
    else:
        a, b = by_feature(g, g_copy), by_feature(x, x_copy)
        c = Matrix(address(out), out_row, out_col)
        divisor = divisor_of(reduction, K)
        failed = contract_into(tiling, mode, Problem(a, b, c, m, n, K, 0, divisor, sums), 0)
    release(max(g_copy, 0))
    release(max(x_copy, 0))
    return MEMORY if failed else FINE


@inlined
def sums_with_weight(g, out_weight, out_bias, reduction):
    """Whether `weight_sum` can give grad_bias besides, so that g is read once for both."""
    size = item_bytes(tiling_of(g))
    if reduction == NONE or stride(out_weight, 1) != size or stride(out_bias, 0) != size:
        return False
    a = Matrix(0, stride(g, ndim(g) - 1), 0)
    return gives_sums(tiling_of(g), a, last(g), last(out_weight))


@resident
def bias_sum(g: Operand, out: Operand, reduction, mode) -> int:
    """⑧–⑪ for each sample, or their mean or sum over the batch: the terms are 1 · g."""
    tiling = tiling_of(g)
    K, m, out_col = count(g, 1), last(g), stride(out, ndim(out) - 1)
    ones = Matrix(one(tiling), 0, 0)
    failed = 0
    if reduction == NONE:
        for k in range(K):
            c = Matrix(address(out) + offset(out, 1, k), 0, out_col)
            b = by_sample(g, k)
            failed += contract_into(tiling, SERIAL, Problem(ones, b, c, 1, m, 1, 0, 0.0, 0), 0)
        return MEMORY if failed else FINE
    g_copy = gather(g)
    if g_copy == NO_MEMORY:
        return MEMORY
    c = Matrix(address(out), 0, out_col)
    b, divisor = by_feature(g, g_copy), divisor_of(reduction, K)
    failed = contract_into(tiling, mode, Problem(ones, b, c, 1, m, K, 0, divisor, 0), 0)
    release(g_copy)
    return MEMORY if failed else FINE


# --------------------------------------------------------------------------------------
# Calls
# --------------------------------------------------------------------------------------


@intrinsic
def threads_of(typingctx, x):
    """Whether the call's code may use threads."""
    return types.boolean(x), lambda context, *_: context.get_constant(types.boolean, x.threads)


@inlined
def large(tiling, mode, rows, cols, terms):
    """Whether threads are wanted that the call's code does not have."""
    if threads_of(tiling) or mode == SERIAL:
        return False
    return mode == PARALLEL or saves(tiling, rows, cols, terms, MANY, LAUNCH)


@inlined
def as_samples(x):
    """An operand of up to two dimensions, or None."""
    if ndim(x) == 2:
        return Samples(Matrix(address(x), stride(x, 0), stride(x, 1)), dim(x, 0), dim(x, 1))
    if ndim(x) == 1:
        return Samples(Matrix(address(x), 0, stride(x, 0)), 1, dim(x, 0))
    return Samples(Matrix(0, 0, 0), -1, 0)


@inlined
def are_samples(x, out, own):
    """Whether x is one sample or a batch of one dimension, and `out` has `own` dimensions."""
    return 0 < ndim(x) <= 2 and ndim(out) == own and writable(out)


@inlined
def transposed(m):
    return Matrix(m.at, m.col, m.row)


@inlined
def at_once(tiling, problem, bias_step, mode):
    """The sums of a call that has passed every check."""
    if is_small(tiling, problem, bias_step):
        contract_small(tiling, problem, bias_step)
        return FINE
    return contract_large(tiling, problem, bias_step, mode)


@resident
def contract_large(tiling, problem: Problem, bias_step, mode) -> int:
    if large(tiling, mode, problem.rows, problem.cols, problem.terms):
        return LARGE
    return MEMORY if contract_into(tiling, mode, problem, bias_step) else FINE


# What most calls are, of one sample or a batch of one dimension, is done at once by the functions
# that follow. They return UNSURE for what is not quickly seen to be right: `run_…` decides.


@inlined
def forward_of_samples(tiling, x: Samples, w: Samples, b: Samples, y: Samples, mode) -> int:
    if x.rows < 0 or not is_default():
        return UNSURE
    if x.cols != w.cols or y.rows != x.rows or y.cols != w.rows:
        return UNSURE
    size = item_bytes(tiling)
    if not (apart(y, x, size) and apart(y, w, size)):
        return UNSURE
    bias, bias_step = 0, 0
    if b.rows != -1:
        if b.cols != w.rows or not apart(y, b, size):
            return UNSURE
        bias, bias_step = b.at.at, b.at.col
    problem = Problem(x.at, w.at, y.at, x.rows, w.rows, x.cols, bias, 0.0, 0)
    return at_once(tiling, problem, bias_step, mode)


@resident(no_cpython_wrapper=False)
def run_forward(x: Operand, w: Operand, b: Operand, out: Operand, mode) -> int:
    if are_samples(x, out, ndim(x)) and ndim(w) == 2 and abs(ndim(b)) == 1:
        xs, ws, bs, ys = as_samples(x), as_samples(w), as_samples(b), as_samples(out)
        code = forward_of_samples(tiling_of(x), xs, ws, bs, ys, mode)
        if code != UNSURE:
            return code
    if ndim(x) < 1 or ndim(w) != 2 or ndim(out) < 1:
        return SHAPES
    n, m = last(x), dim(w, 0)
    biased = ndim(b) != -1
    if dim(w, 1) != n or not same_batch(x, out, 1) or last(out) != m or not writable(out):
        return SHAPES
    if biased and (ndim(b) != 1 or dim(b, 0) != m):
        return SHAPES
    size = item_bytes(tiling_of(x))
    low, high = reach(out)
    if overlap(out, low, high, x, size):
        return OVERLAP
    if overlap(out, low, high, w, size):
        return OVERLAP + 1
    if biased and overlap(out, low, high, b, size):
        return OVERLAP + 2
    if large(tiling_of(x), mode, count(x, 1), m, n):
        return LARGE
    bias, bias_step = (address(b), stride(b, 0)) if biased else (0, 0)
    by_output = Matrix(address(w), stride(w, 0), stride(w, 1))
    former = set_default()
    code = per_sample(x, out, mode, by_output, bias, bias_step, m, n)
    restore(former)
    return code


@inlined
def grad_input_of_samples(tiling, g: Samples, w: Samples, dx: Samples, mode) -> int:
    if g.rows < 0 or not is_default():
        return UNSURE
    if g.cols != w.rows or dx.rows != g.rows or dx.cols != w.cols:
        return UNSURE
    size = item_bytes(tiling)
    if not (apart(dx, g, size) and apart(dx, w, size)):
        return UNSURE
    problem = Problem(g.at, transposed(w.at), dx.at, g.rows, w.cols, w.rows, 0, 0.0, 0)
    return at_once(tiling, problem, 0, mode)


@resident(no_cpython_wrapper=False)
def run_grad_input(g: Operand, w: Operand, out: Operand, mode) -> int:
    if are_samples(g, out, ndim(g)) and ndim(w) == 2:
        gs, ws, dx = as_samples(g), as_samples(w), as_samples(out)
        code = grad_input_of_samples(tiling_of(g), gs, ws, dx, mode)
        if code != UNSURE:
            return code
    if ndim(g) < 1 or ndim(w) != 2 or ndim(out) < 1:
        return SHAPES
    m, n = last(g), dim(w, 1)
    if dim(w, 0) != m or not same_batch(g, out, 1) or last(out) != n or not writable(out):
        return SHAPES
    size = item_bytes(tiling_of(g))
    low, high = reach(out)
    if overlap(out, low, high, g, size):
        return OVERLAP
    if overlap(out, low, high, w, size):
        return OVERLAP + 1
    if large(tiling_of(g), mode, count(g, 1), n, m):
        return LARGE
    former = set_default()
    code = per_sample(g, out, mode, Matrix(address(w), stride(w, 1), stride(w, 0)), 0, 0, n, m)
    restore(former)
    return code


@inlined
def fits(g, out, own, reduction):
    """Whether out has the batch of g before its last `own` dimensions, as the reduction asks."""
    if reduction == NONE:
        return same_batch(g, out, own)
    return ndim(out) == own


@inlined
def is_one_sum(g, reduction):
    """Whether the reduction is one sum over the samples; of a single one it may be called so."""
    return reduction == SUM or (reduction == MEAN and g.rows > 0)


@inlined
def reduction_over(g, reduction):
    """The reduction; of a single sample, its sum."""
    return SUM if ndim(g) == 1 else reduction


@inlined
def grad_weight_of_samples(tiling, g: Samples, x: Samples, dw: Samples, reduction, mode) -> int:
    if g.rows < 0 or not is_default():
        return UNSURE
    if x.rows != g.rows or dw.rows != g.cols or dw.cols != x.cols:
        return UNSURE
    size = item_bytes(tiling)
    if not (apart(dw, g, size) and apart(dw, x, size)):
        return UNSURE
    if not is_one_sum(g, reduction):
        return UNSURE
    a, b, divisor = transposed(g.at), transposed(x.at), divisor_of(reduction, g.rows)
    problem = Problem(a, b, dw.at, g.cols, x.cols, g.rows, 0, divisor, 0)
    return at_once(tiling, problem, 0, mode)


@resident(no_cpython_wrapper=False)
def run_grad_weight(g: Operand, x: Operand, out: Operand, reduction, mode) -> int:
    if are_samples(g, out, 2) and ndim(x) == ndim(g):
        gs, xs, dw = as_samples(g), as_samples(x), as_samples(out)
        reduce = reduction_over(g, reduction)
        code = grad_weight_of_samples(tiling_of(g), gs, xs, dw, reduce, mode)
        if code != UNSURE:
            return code
    if ndim(out) < 2 or not same_batch(g, x, 1) or not fits(g, out, 2, reduction):
        return SHAPES
    if last(out, 2) != last(g) or last(out) != last(x) or not writable(out):
        return SHAPES
    if reduction == MEAN and count(g, 1) == 0:
        return EMPTY_MEAN
    size = item_bytes(tiling_of(g))
    low, high = reach(out)
    if overlap(out, low, high, g, size):
        return OVERLAP
    if overlap(out, low, high, x, size):
        return OVERLAP + 1
    if reduction != NONE and large(tiling_of(g), mode, last(g), last(x), count(g, 1)):
        return LARGE
    former = set_default()
    code = weight_sum(g, x, out, reduction, mode, 0)
    restore(former)
    return code


@inlined
def grad_bias_of_samples(tiling, g: Samples, db: Samples, reduction, mode) -> int:
    if g.rows < 0 or db.rows != 1 or not is_default():
        return UNSURE
    if db.cols != g.cols or not is_one_sum(g, reduction):
        return UNSURE
    if not apart(db, g, item_bytes(tiling)):
        return UNSURE
    ones, divisor = Matrix(one(tiling), 0, 0), divisor_of(reduction, g.rows)
    problem = Problem(ones, transposed(g.at), db.at, 1, g.cols, g.rows, 0, divisor, 0)
    return at_once(tiling, problem, 0, mode)


@resident(no_cpython_wrapper=False)
def run_grad_bias(g: Operand, out: Operand, reduction, mode) -> int:
    if are_samples(g, out, 1):
        gs, db, reduce = as_samples(g), as_samples(out), reduction_over(g, reduction)
        code = grad_bias_of_samples(tiling_of(g), gs, db, reduce, mode)
        if code != UNSURE:
            return code
    if ndim(g) < 1 or ndim(out) < 1 or not fits(g, out, 1, reduction):
        return SHAPES
    if last(out) != last(g) or not writable(out):
        return SHAPES
    if reduction == MEAN and count(g, 1) == 0:
        return EMPTY_MEAN
    low, high = reach(out)
    if overlap(out, low, high, g, item_bytes(tiling_of(g))):
        return OVERLAP
    if reduction != NONE and large(tiling_of(g), mode, 1, last(g), count(g, 1)):
        return LARGE
    former = set_default()
    code = bias_sum(g, out, reduction, mode)
    restore(former)
    return code


@inlined
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
    K, m, n, size = g.rows, g.cols, x.cols, item_bytes(tiling)
    if K < 0 or db.rows != 1 or not is_default():
        return UNSURE
    if x.rows != K or dw.rows != m or dw.cols != n or db.cols != m:
        return UNSURE
    if not is_one_sum(g, reduction):
        return UNSURE
    if not (apart(dw, g, size) and apart(dw, x, size) and apart(dw, db, size)):
        return UNSURE
    if not (apart(db, g, size) and apart(db, x, size)):
        return UNSURE
    if w.rows != -1:
        if w.rows != m or w.cols != n or dx.rows != K or dx.cols != n:
            return UNSURE
        if not (apart(dx, g, size) and apart(dx, x, size) and apart(dx, w, size)):
            return UNSURE
        if not (apart(dx, dw, size) and apart(dx, db, size)):
            return UNSURE
        if not (apart(dw, w, size) and apart(db, w, size)):
            return UNSURE
    a, ones, divisor = transposed(g.at), Matrix(one(tiling), 0, 0), divisor_of(reduction, K)
    of_weight = Problem(a, transposed(x.at), dw.at, m, n, K, 0, divisor, 0)
    if not is_small(tiling, of_weight, 0):
        return UNSURE
    if w.rows != -1:
        of_input = Problem(g.at, transposed(w.at), dx.at, K, n, m, 0, 0.0, 0)
        if not is_small(tiling, of_input, 0):
            return UNSURE
        contract_small(tiling, of_input, 0)
    contract_small(tiling, of_weight, 0)
    contract_small(tiling, Problem(ones, a, db.at, 1, m, K, 0, divisor, 0), 0)
    return FINE


@resident
def sums_of_backward(
    g: Operand,
    x: Operand,
    w: Operand,
    out_input: Operand,
    out_weight: Operand,
    out_bias: Operand,
    reduction,
    mode,
) -> int:
    """The three sums of a call that has passed every check; none for the input without w."""
    sums = address(out_bias) if sums_with_weight(g, out_weight, out_bias, reduction) else 0
    code = weight_sum(g, x, out_weight, reduction, mode, sums)  # MEMORY, or FINE, which is 0
    if not sums:
        code |= bias_sum(g, out_bias, reduction, mode)
    if ndim(w) != -1:
        by_input = Matrix(address(w), stride(w, 1), stride(w, 0))
        code |= per_sample(g, out_input, mode, by_input, 0, 0, last(x), last(g))
    return code


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
    if first and ndim(out_input) != -1:
        return SHAPES
    if are_samples(g, out_weight, 2) and are_samples(x, out_bias, 1) and ndim(x) == ndim(g):
        if first or (ndim(w) == 2 and ndim(out_input) == ndim(g) and writable(out_input)):
            gs, xs, ws = as_samples(g), as_samples(x), as_samples(w)
            dx, dw, db = as_samples(out_input), as_samples(out_weight), as_samples(out_bias)
            reduce = reduction_over(g, reduction)
            code = backward_of_samples(tiling_of(g), gs, xs, ws, dx, dw, db, reduce, mode)
            if code != UNSURE:
                return code
    if not same_batch(g, x, 1) or ndim(out_weight) < 2 or ndim(out_bias) < 1:
        return SHAPES
    m, n = last(g), last(x)
    if not first:
        if not is_matrix(w, m, n) or not same_batch(g, out_input, 1) or last(out_input) != n:
            return SHAPES
        if not writable(out_input):
            return SHAPES
    if not fits(g, out_weight, 2, reduction) or not fits(g, out_bias, 1, reduction):
        return SHAPES
    if last(out_weight, 2) != m or last(out_weight) != n or last(out_bias) != m:
        return SHAPES
    if not (writable(out_weight) and writable(out_bias)):
        return SHAPES
    if reduction == MEAN and count(g, 1) == 0:
        return EMPTY_MEAN
    size = item_bytes(tiling_of(g))
    arrays = (g, x, w, out_input, out_weight, out_bias)
    for i in range(3, 6):
        if ndim(arrays[i]) != -1:
            low, high = reach(arrays[i])
            for j in range(i):
                if ndim(arrays[j]) != -1 and overlap(arrays[i], low, high, arrays[j], size):
                    return OVERLAP + 8 * (i - 3) + j
    if large(tiling_of(g), mode, m, n, count(g, 1)):
        return LARGE
    former = set_default()
    code = sums_of_backward(g, x, w, out_input, out_weight, out_bias, reduction, mode)
    restore(former)
    return code

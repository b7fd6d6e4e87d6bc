"""The layer compiled: each call checks its operands' shapes and gives its sum to the engine.

Every function returns a code of `checks`: FINE, or what is wrong, and then nothing has been
written; or MEMORY, and then what `out` holds is not defined.
"""

from numba import types
from numba.extending import intrinsic

from numba_linear.checks import EMPTY_MEAN, FINE, LARGE, MEMORY, OVERLAP, SHAPES
from numba_linear.cpu.compiler import inlined
from numba_linear.cpu.contract import gives_sums
from numba_linear.cpu.fragment import allocate, copy, item_bytes, one, release
from numba_linear.cpu.machine import tiling_of
from numba_linear.cpu.matrix import Matrix
from numba_linear.cpu.parallel import AUTO, PARALLEL, PARALLEL_WORK, SERIAL, contract_into
from numba_linear.cpu.problem import Problem
from numba_linear.cpu.resident import resident
from numba_linear.operand import Operand, address, dim, ndim, stride, writable

#: Reductions over the batch.
MEAN, SUM, NONE = 0, 1, 2

#: Added to the mode of a call that made its out itself, which so overlaps nothing: 20 ns less in
#: `forward`, 80 in `backward`.
FRESH = 4


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
def large(x, mode, work):
    """Whether threads are wanted that the call's code does not have."""
    wanted = mode == PARALLEL or (mode == AUTO and work >= PARALLEL_WORK)
    return wanted and not threads_of(x)


@resident(no_cpython_wrapper=False)
def run_forward(x: Operand, w: Operand, b: Operand, out: Operand, mode) -> int:
    if ndim(x) < 1 or ndim(w) != 2 or ndim(out) < 1:
        return SHAPES
    n, m = last(x), dim(w, 0)
    biased = ndim(b) != -1
    if dim(w, 1) != n or not same_batch(x, out, 1) or last(out) != m or not writable(out):
        return SHAPES
    if biased and (ndim(b) != 1 or dim(b, 0) != m):
        return SHAPES
    if mode < FRESH:
        size = item_bytes(tiling_of(x))
        low, high = reach(out)
        if overlap(out, low, high, x, size):
            return OVERLAP
        if overlap(out, low, high, w, size):
            return OVERLAP + 1
        if biased and overlap(out, low, high, b, size):
            return OVERLAP + 2
    mode &= FRESH - 1
    if large(x, mode, count(x, 0) * m):
        return LARGE
    bias, bias_step = (address(b), stride(b, 0)) if biased else (0, 0)
    by_output = Matrix(address(w), stride(w, 0), stride(w, 1))
    return per_sample(x, out, mode, by_output, bias, bias_step, m, n)


@resident(no_cpython_wrapper=False)
def run_grad_input(g: Operand, w: Operand, out: Operand, mode) -> int:
    if ndim(g) < 1 or ndim(w) != 2 or ndim(out) < 1:
        return SHAPES
    m, n = last(g), dim(w, 1)
    if dim(w, 0) != m or not same_batch(g, out, 1) or last(out) != n or not writable(out):
        return SHAPES
    if mode < FRESH:
        size = item_bytes(tiling_of(g))
        low, high = reach(out)
        if overlap(out, low, high, g, size):
            return OVERLAP
        if overlap(out, low, high, w, size):
            return OVERLAP + 1
    mode &= FRESH - 1
    if large(g, mode, count(g, 0) * n):
        return LARGE
    return per_sample(g, out, mode, Matrix(address(w), stride(w, 1), stride(w, 0)), 0, 0, n, m)


@inlined
def fits(g, out, own, reduction):
    """Whether out has the batch of g before its last `own` dimensions, as the reduction asks."""
    if reduction == NONE:
        return same_batch(g, out, own)
    return ndim(out) == own


@resident(no_cpython_wrapper=False)
def run_grad_weight(g: Operand, x: Operand, out: Operand, reduction, mode) -> int:
    if ndim(out) < 2 or not same_batch(g, x, 1) or not fits(g, out, 2, reduction):
        return SHAPES
    if last(out, 2) != last(g) or last(out) != last(x) or not writable(out):
        return SHAPES
    if reduction == MEAN and count(g, 1) == 0:
        return EMPTY_MEAN
    if mode < FRESH:
        size = item_bytes(tiling_of(g))
        low, high = reach(out)
        if overlap(out, low, high, g, size):
            return OVERLAP
        if overlap(out, low, high, x, size):
            return OVERLAP + 1
    mode &= FRESH - 1
    if reduction != NONE and large(g, mode, count(g, 0) * last(x)):
        return LARGE
    return weight_sum(g, x, out, reduction, mode, 0)


@resident(no_cpython_wrapper=False)
def run_grad_bias(g: Operand, out: Operand, reduction, mode) -> int:
    if ndim(g) < 1 or ndim(out) < 1 or not fits(g, out, 1, reduction):
        return SHAPES
    if last(out) != last(g) or not writable(out):
        return SHAPES
    if reduction == MEAN and count(g, 1) == 0:
        return EMPTY_MEAN
    if mode < FRESH:
        low, high = reach(out)
        if overlap(out, low, high, g, item_bytes(tiling_of(g))):
            return OVERLAP
    mode &= FRESH - 1
    if reduction != NONE and large(g, mode, count(g, 0)):
        return LARGE
    return bias_sum(g, out, reduction, mode)


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
    if not same_batch(g, x, 1) or not is_matrix(w, last(g), last(x)):
        return SHAPES
    m, n = last(g), last(x)
    if ndim(out_input) < 1 or ndim(out_weight) < 2 or ndim(out_bias) < 1:
        return SHAPES
    if not same_batch(g, out_input, 1) or last(out_input) != n:
        return SHAPES
    if not fits(g, out_weight, 2, reduction) or not fits(g, out_bias, 1, reduction):
        return SHAPES
    if last(out_weight, 2) != m or last(out_weight) != n or last(out_bias) != m:
        return SHAPES
    if not (writable(out_input) and writable(out_weight) and writable(out_bias)):
        return SHAPES
    if reduction == MEAN and count(g, 1) == 0:
        return EMPTY_MEAN
    if mode < FRESH:
        size = item_bytes(tiling_of(g))
        arrays = (g, x, w, out_input, out_weight, out_bias)
        for i in range(3, 6):
            low, high = reach(arrays[i])
            for j in range(i):
                if overlap(arrays[i], low, high, arrays[j], size):
                    return OVERLAP + 8 * (i - 3) + j
    mode &= FRESH - 1
    if large(g, mode, count(g, 0) * n):
        return LARGE
    by_input = Matrix(address(w), stride(w, 1), stride(w, 0))
    # each is FINE, which is 0, or MEMORY
    code = per_sample(g, out_input, mode, by_input, 0, 0, n, m)
    sums = address(out_bias) if sums_with_weight(g, out_weight, out_bias, reduction) else 0
    code |= weight_sum(g, x, out_weight, reduction, mode, sums)
    if not sums:
        code |= bias_sum(g, out_bias, reduction, mode)
    return code

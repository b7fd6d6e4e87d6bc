"""The linear layer as its equations: specification of the package and oracle of its tests.

Equations ① to ⑫ in the order of the notes, one short function each. A sum is a plain loop;
`prange` runs over independent samples or output features. Nothing else is optimised, and nothing
of the package is imported.

========  ============================================  ======================
letter    meaning                                       array
========  ============================================  ======================
K         samples in the batch
n         input features
m         output features
x         input, one sample to a row                    (K, n), one sample (n,)
w         weight                                        (m, n)
b         bias                                          (m,)
y         output                                        (K, m), one sample (m,)
g         ∂L/∂y, "previous gradient", from the layer    (K, m), one sample (m,)
          that comes next
k, i, l   index of sample, output and input feature
========  ============================================  ======================

The bits of every result are part of the specification. They follow from the summation rule of
`contract`, and from one rounding for each ``+ b`` and each ``/ K``.

The last functions, `forward`, `grad_input`, `grad_weight`, `grad_bias`, `accumulate` and
`accumulated`, are the whole layer in these equations, to compare an implementation with. Shapes
and dtypes must conform: the equations check nothing.
"""
# ruff: noqa: E741  (l is the notes' letter for an input feature)

import ctypes
import functools
import os

import numba
import numpy as np
from numba import config, prange, types
from numba.extending import intrinsic

# --------------------------------------------------------------------------------------
# The summation rule
# --------------------------------------------------------------------------------------

#: Terms in a leaf. Part of the contract: another number would give other bits.
LEAF = 256


#: `numba.njit` without the options that a function takes from its caller: some would change bits.
njit = functools.partial(
    numba.njit, fastmath=False, error_model="python", forceinline=False, boundscheck=False
)


@intrinsic
def fma(typingctx, a, c, s):
    """a · c + s with one rounding, for three scalars of one floating-point type.

    Always LLVM's fma: otherwise the compiler's version and the machine would decide whether a
    product and a sum are fused.
    """
    if not (isinstance(a, types.Float) and a == c == s):
        return None

    def codegen(context, builder, signature, args):
        return builder.fma(*args)

    return a(a, c, s), codegen


if config.DISABLE_JIT:  # NUMBA_DISABLE_JIT: an intrinsic is nothing outside compiled code
    libm = ctypes.CDLL("ucrtbase" if os.name == "nt" else None)
    libm.fma.argtypes, libm.fma.restype = [ctypes.c_double] * 3, ctypes.c_double
    libm.fmaf.argtypes, libm.fmaf.restype = [ctypes.c_float] * 3, ctypes.c_float

    def fma(a, c, s):
        return type(a)((libm.fmaf if isinstance(a, np.float32) else libm.fma)(a, c, s))


@njit
def leaf(a, c):
    """Σ a_p · c_p in index order, from +0, with one fused multiply-add to a term."""
    s = a.dtype.type(0)
    for p in range(len(a)):
        s = fma(a[p], c[p], s)
    return s


@njit
def contract(a, c):
    """Σ a_p · c_p by the summation rule, which every sum of the layer follows.

    The terms are cut into leaves of `LEAF`, of which the last may be shorter. The leaves are
    added pairwise: of Q > 1 leaves the left part takes the largest power of two smaller than Q,
    the right part the others, and the value is left + right. No terms make +0.

    Parameters
    ----------
    a, c : array, shape (N,)
        The factors of the terms, of one floating-point dtype. Any strides.

    Returns
    -------
    float
        The sum, each step of which is rounded to the arrays' dtype.
    """
    N = len(a)
    if N <= LEAF:
        return leaf(a, c)
    left = LEAF
    while 2 * left < N:
        left *= 2
    return contract(a[:left], c[:left]) + contract(a[left:], c[left:])


@njit
def term(a, c):
    """a · c as a sum of one term, fma(a, c, +0): a product of -0 becomes +0."""
    return fma(a, c, type(a)(0))


# --------------------------------------------------------------------------------------
# A sum that goes on
# --------------------------------------------------------------------------------------
#
# The same sum for terms that come one by one. After N terms it consists of levels:
#
#   level 0        the leaf that is not full yet, of N mod 256 terms
#   level 1 + j    a sum of 2^j leaves that waits for its right neighbour, if bit j of the number
#                  of full leaves, N div 256, is 1
#
# There is room for 256 · 2^(levels - 1) terms. The sum of them all has no level of its own, and is
# in level 0, which is then free.


@njit
def go_on(levels, N, a, c):
    """Add one term, a · c, after N terms, in place: to the leaf that is not full yet. A leaf that
    becomes full is added to the sums that wait for it."""
    s = levels[0] if N % LEAF else levels.dtype.type(0)
    s = fma(a, c, s)
    to = 0
    if (N + 1) % LEAF == 0:
        q = N // LEAF
        to = 1
        while q & 1:
            s = levels[to] + s
            q >>= 1
            to += 1
    levels[to % len(levels)] = s


@njit
def so_far(levels, N):
    """The sum of the N terms so far: the waiting sums are added, the smallest first."""
    s = levels[0] if N % LEAF else levels.dtype.type(0)
    found = N % LEAF > 0
    q, level = N // LEAF, 1
    while q:
        if q & 1:
            waits = levels[level % len(levels)]
            s = waits + s if found else waits
            found = True
        q >>= 1
        level += 1
    return s


# --------------------------------------------------------------------------------------
# Forward
# --------------------------------------------------------------------------------------


@njit
def y_i(x, w, b, i):
    """① One output feature of one sample, y_i = Σ_l w_il x_l + b_i. Without a bias b is None."""
    if b is None:
        return contract(w[i], x)
    return contract(w[i], x) + b[i]


@njit(parallel=True)
def y_sample(x, w, b):
    """① for every i: y = W x + b, shape (m,), of one sample x, shape (n,)."""
    m = len(w)
    y = np.empty(m, x.dtype)
    for i in prange(m):
        y[i] = y_i(x, w, b, i)
    return y


@njit(parallel=True)
def y_columns(x, w, b):
    """② Y = W Xᵀ + b, shape (m, K): y_ik = Σ_l w_il x_kl + b_i.

    Column k of Xᵀ, the notes' x_lk, is row k of x. Each column of Y is ① for its own sample.
    """
    K, m = len(x), len(w)
    y = np.empty((m, K), x.dtype)
    for k in prange(K):
        for i in range(m):
            y[i, k] = y_i(x[k], w, b, i)
    return y


# --------------------------------------------------------------------------------------
# Gradient with respect to W
# --------------------------------------------------------------------------------------


@njit
def dyi_dw_kl(x, i, k, l):
    """③ (∂y_i/∂W)_kl = x_l if k = i, else 0. Here k is a row of W."""
    return x[l] if k == i else x.dtype.type(0)


@njit(parallel=True)
def dyi_dw(x, i, m):
    """④ ∂y_i/∂W, shape (m, n): row i is x, the other rows are zero."""
    n = len(x)
    jacobian = np.empty((m, n), x.dtype)
    for k in prange(m):
        for l in range(n):
            jacobian[k, l] = dyi_dw_kl(x, i, k, l)
    return jacobian


@njit(parallel=True)
def dy_dw(x, m):
    """⑤ ∂y/∂W, shape (m, m, n): the m matrices of ④, stacked."""
    n = len(x)
    jacobian = np.empty((m, m, n), x.dtype)
    for i in prange(m):
        for k in range(m):
            for l in range(n):
                jacobian[i, k, l] = dyi_dw_kl(x, i, k, l)
    return jacobian


@njit(parallel=True)
def dL_dw_chain(g, dy_dw):
    """⑥ The chain rule, g · ∂y/∂W, shape (m, n): (∂L/∂W)_kl = Σ_i g_i (∂y_i/∂W)_kl."""
    m, n = dy_dw.shape[1:]
    dL_dw = np.empty((m, n), g.dtype)
    for k in prange(m):
        for l in range(n):
            dL_dw[k, l] = contract(g, dy_dw[:, k, l])
    return dL_dw


@njit(parallel=True)
def dL_dw_sample(g, x):
    """⑦ One sample, gᵀ x, shape (m, n): (∂L/∂W)_il = g_i x_l, what ③ leaves of the sum in ⑥.

    For finite numbers ⑦ has the bits of ⑥: adding zeros changes nothing, except that ⑦ keeps the
    sign of a product that underflows to -0. The 0 · g_i of ⑥ is NaN where g_i is not finite and
    would spread it to every row of W; ⑦ keeps it to row i. The layer is ⑦.
    """
    m, n = len(g), len(x)
    dL_dw = np.empty((m, n), g.dtype)
    for i in prange(m):
        for l in range(n):
            dL_dw[i, l] = term(g[i], x[l])
    return dL_dw


@njit(parallel=True)
def dL_dw_each(g, x):
    """⑦ for every sample of a batch, shape (K, m, n)."""
    K, m, n = len(g), g.shape[1], x.shape[1]
    dL_dw = np.empty((K, m, n), g.dtype)
    for k in prange(K):
        for i in range(m):
            for l in range(n):
                dL_dw[k, i, l] = term(g[k, i], x[k, l])
    return dL_dw


@njit(parallel=True)
def dL_dw_sum(g, x):
    """Σ_k g_kᵀ x_k = Gᵀ X, shape (m, n): ⑦ added over the batch."""
    m, n = g.shape[1], x.shape[1]
    dL_dw = np.empty((m, n), g.dtype)
    for i in prange(m):
        for l in range(n):
            dL_dw[i, l] = contract(g[:, i], x[:, l])
    return dL_dw


@njit(parallel=True)
def dL_dw_mean(g, x):
    """(1/K) Gᵀ X, shape (m, n): a division by K, rounded to the dtype. For K = 0 it is NaN."""
    K = g.dtype.type(len(g))
    return dL_dw_sum(g, x) / K


# --------------------------------------------------------------------------------------
# Gradient with respect to b
# --------------------------------------------------------------------------------------


@njit
def dyi_db_j(i, j):
    """⑧ (∂y_i/∂b)_j = 1 if i = j, else 0."""
    return 1 if i == j else 0


@njit(parallel=True)
def dy_db(b):
    """⑨ ∂y/∂b = I, shape (m, m)."""
    m = len(b)
    jacobian = np.empty((m, m), b.dtype)
    for i in prange(m):
        for j in range(m):
            jacobian[i, j] = dyi_db_j(i, j)
    return jacobian


@njit(parallel=True)
def dL_db_chain(g, dy_db):
    """⑩ before it is simplified, g · ∂y/∂b = g I, shape (m,): Σ_i g_i (∂y_i/∂b)_j."""
    m = dy_db.shape[1]
    dL_db = np.empty(m, g.dtype)
    for j in prange(m):
        dL_db[j] = contract(g, dy_db[:, j])
    return dL_db


@njit(parallel=True)
def dL_db_sample(g):
    """⑩ One sample, shape (m,): ∂L/∂b = ∂L/∂y, as g_i · 1."""
    m = len(g)
    one = g.dtype.type(1)
    dL_db = np.empty(m, g.dtype)
    for i in prange(m):
        dL_db[i] = term(g[i], one)
    return dL_db


@njit(parallel=True)
def dY_db(K, b):
    """⑪ ∂Y/∂b, shape (K, m, m): the identity of ⑨ for each sample."""
    m = len(b)
    jacobian = np.empty((K, m, m), b.dtype)
    for k in prange(K):
        for i in range(m):
            for j in range(m):
                jacobian[k, i, j] = dyi_db_j(i, j)
    return jacobian


@njit(parallel=True)
def dL_db_each(g):
    """⑩ for every sample of a batch, shape (K, m): each g_k with its own identity of ⑪."""
    K, m = g.shape
    one = g.dtype.type(1)
    dL_db = np.empty((K, m), g.dtype)
    for k in prange(K):
        for i in range(m):
            dL_db[k, i] = term(g[k, i], one)
    return dL_db


@njit(parallel=True)
def dL_db_sum(g):
    """Σ_k (∂L/∂Y)_k, shape (m,): ⑩ added over the batch, as Σ_k g_ki · 1."""
    K, m = g.shape
    ones = np.ones(K, g.dtype)
    dL_db = np.empty(m, g.dtype)
    for i in prange(m):
        dL_db[i] = contract(g[:, i], ones)
    return dL_db


@njit(parallel=True)
def dL_db_mean(g):
    """(1/K) Σ_k (∂L/∂Y)_k, shape (m,): divided as in `dL_dw_mean`."""
    K = g.dtype.type(len(g))
    return dL_db_sum(g) / K


# --------------------------------------------------------------------------------------
# Gradients with respect to W and b, batch after batch
# --------------------------------------------------------------------------------------


@njit(parallel=True)
def dL_dw_on(dL_dw, N, g, x):
    """⑦ for each sample of g and x, added in place to dL_dw, shape (levels, m, n), after N."""
    K, m, n = len(g), g.shape[1], x.shape[1]
    for i in prange(m):
        for l in range(n):
            for k in range(K):
                go_on(dL_dw[:, i, l], N + k, g[k, i], x[k, l])


@njit(parallel=True)
def dL_db_on(dL_db, N, g):
    """⑩ for each sample of g, added in place to dL_db, shape (levels, m), after N samples."""
    K, m = g.shape
    one = g.dtype.type(1)
    for i in prange(m):
        for k in range(K):
            go_on(dL_db[:, i], N + k, g[k, i], one)


@njit
def dL_dw_so_far(dL_dw, N):
    """Σ_k g_kᵀ x_k over the N samples so far, shape (m, n)."""
    m, n = dL_dw.shape[1:]
    result = np.empty((m, n), dL_dw.dtype)
    for i in range(m):
        for l in range(n):
            result[i, l] = so_far(dL_dw[:, i, l], N)
    return result


@njit
def dL_db_so_far(dL_db, N):
    """Σ_k (∂L/∂Y)_k over the N samples so far, shape (m,)."""
    m = dL_db.shape[1]
    result = np.empty(m, dL_db.dtype)
    for i in range(m):
        result[i] = so_far(dL_db[:, i], N)
    return result


# --------------------------------------------------------------------------------------
# Gradient with respect to x
# --------------------------------------------------------------------------------------


@njit
def dyi_dx_l(w, i, l):
    """∂y_i/∂x_l = w_il."""
    return w[i, l]


@njit(parallel=True)
def dy_dx(w):
    """∂y/∂x = W, shape (m, n)."""
    m, n = w.shape
    jacobian = np.empty((m, n), w.dtype)
    for i in prange(m):
        for l in range(n):
            jacobian[i, l] = dyi_dx_l(w, i, l)
    return jacobian


@njit
def dL_dx_l(g, w, l):
    """⑫ One input feature of one sample, (∂L/∂x)_l = Σ_i g_i w_il."""
    return contract(g, w[:, l])


@njit(parallel=True)
def dL_dx_sample(g, w):
    """⑫ for every l: ∂L/∂x = g · ∂y/∂x = g W, shape (n,), of one sample."""
    n = w.shape[1]
    dL_dx = np.empty(n, g.dtype)
    for l in prange(n):
        dL_dx[l] = dL_dx_l(g, w, l)
    return dL_dx


@njit(parallel=True)
def dL_dx_each(g, w):
    """⑫ for every sample of a batch: ∂L/∂X = G W, shape (K, n). Not averaged: each row goes back
    to its own sample.
    """
    K, n = len(g), w.shape[1]
    dL_dx = np.empty((K, n), g.dtype)
    for k in prange(K):
        for l in range(n):
            dL_dx[k, l] = dL_dx_l(g[k], w, l)
    return dL_dx


# --------------------------------------------------------------------------------------
# The oracle
# --------------------------------------------------------------------------------------


def rows(a):
    """The same numbers in a new array, row after row.

    The equations give one result for every memory layout. So that each is compiled once for a
    dtype, and not for each layout, the oracle calls them with this one.
    """
    return np.array(a, order="C")


def forward(x, w, b=None):
    """Y = X Wᵀ + b, the transpose of ②.

    Parameters
    ----------
    x : array, shape (K, n)
    w : array, shape (m, n)
    b : array, shape (m,), or None
        Without a bias nothing is added, not even +0.

    Returns
    -------
    array, shape (K, m)
    """
    return rows(y_columns(rows(x), rows(w), None if b is None else rows(b)).T)


def grad_input(g, w):
    """∂L/∂X = G W, ⑫ for every sample.

    Parameters
    ----------
    g : array, shape (K, m)
    w : array, shape (m, n)

    Returns
    -------
    array, shape (K, n)
    """
    return dL_dx_each(rows(g), rows(w))


def grad_weight(g, x, reduction="mean"):
    """∂L/∂W = (1/K) Gᵀ X, ⑦ for every sample, combined over the batch.

    Parameters
    ----------
    g : array, shape (K, m)
    x : array, shape (K, n)
    reduction : {"mean", "sum", "none"}
        "none" keeps the samples separate.

    Returns
    -------
    array, shape (m, n), or (K, m, n) for "none"
    """
    dL_dw = {"mean": dL_dw_mean, "sum": dL_dw_sum, "none": dL_dw_each}[reduction]
    return dL_dw(rows(g), rows(x))


def grad_bias(g, reduction="mean"):
    """∂L/∂b = (1/K) Σ_k (∂L/∂Y)_k, ⑩ for every sample, combined over the batch.

    Parameters
    ----------
    g : array, shape (K, m)
    reduction : {"mean", "sum", "none"}
        "none" keeps the samples separate.

    Returns
    -------
    array, shape (m,), or (K, m) for "none"
    """
    dL_db = {"mean": dL_db_mean, "sum": dL_db_sum, "none": dL_db_each}[reduction]
    return dL_db(rows(g))


def accumulate(weight, bias, samples, g, x):
    """⑦ and ⑩ for the next samples, added in place to the sums so far.

    Parameters
    ----------
    weight : array, shape (levels, m, n)
    bias : array, shape (levels, m)
    samples : array of int64, shape (1,)
        The samples so far.
    g : array, shape (K, m)
    x : array, shape (K, n)
    """
    N = int(samples[0])
    dL_dw_on(weight, N, rows(g), rows(x))
    dL_db_on(bias, N, rows(g))
    samples[0] = N + len(g)


def accumulated(weight, bias, samples, reduction="mean"):
    """∂L/∂W and ∂L/∂b of all samples so far, shapes (m, n) and (m,).

    Parameters
    ----------
    weight, bias, samples : array
        As in `accumulate`.
    reduction : {"mean", "sum"}
    """
    N = int(samples[0])
    sums = dL_dw_so_far(weight, N), dL_db_so_far(bias, N)
    return tuple(s / s.dtype.type(N) for s in sums) if reduction == "mean" else sums

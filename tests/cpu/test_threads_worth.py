"""By default threads start only if they save at least 30 µs."""

import numpy as np
import pytest
from numba import njit

from numba_linear.cpu.machine import tiling_of
from numba_linear.cpu.matrix import Matrix
from numba_linear.cpu.plan import threads_pay
from numba_linear.cpu.problem import Epilogue, Problem
from numba_linear.cpu.tuning import LAUNCH, WORKQUEUE_LAUNCH


@njit
def worth(like, rows, cols, terms, threads, launch, turned=True):
    """Of forward, or with `turned` False of grad_input or grad_weight."""
    nowhere, b = Matrix(0, 0, 0), Matrix(0, 0, like.itemsize if turned else 0)
    problem = Problem(nowhere, b, nowhere, rows, cols, terms, Epilogue(0, 0, 0.0))
    return threads_pay(tiling_of(like), problem, threads, launch)


# (K, n, m) of forward, in µs on one thread and on two threads of a quiet Zen 4.
@pytest.mark.parametrize(
    ("dtype", "K", "n", "m", "threads", "wanted"),
    [
        (np.float32, 256, 64, 128, 2, False),  # 39, 23
        (np.float32, 128, 128, 128, 2, False),  # 39, 23
        (np.float32, 256, 128, 128, 2, True),  # 75, 42
        (np.float64, 128, 128, 128, 2, True),  # 76, 46
        (np.float64, 64, 128, 128, 2, False),  # 39, 22
        (np.float32, 256, 64, 128, 16, True),
        (np.float32, 64, 128, 128, 1 << 20, False),  # 23 in all
        (np.float32, 256, 256, 256, 1, False),
        (np.float32, 10000, 16, 8, 2, False),  # 54, 29
        (np.float32, 1, 512, 512, 2, False),  # 20, 11
        (np.float32, 1, 768, 768, 2, False),  # 42, 23
        (np.float32, 1, 1024, 1024, 2, True),  # 84, 46
        (np.float64, 1, 1024, 1024, 2, True),  # 126, 67
    ],
)
def test_a_launch_is_worth_it(dtype, K, n, m, threads, wanted):
    assert worth(np.empty(0, dtype), K, m, n, threads, LAUNCH) == wanted


# The same of one sample's grad_input and grad_weight.
@pytest.mark.parametrize(
    ("dtype", "n", "m", "of_input", "of_weight"),
    [
        (np.float32, 768, 768, False, False),  # 27, 24 and 52, 31
        (np.float32, 1024, 1024, False, True),  # 58, 43 and 181, 101
        (np.float64, 768, 768, False, True),  # 59, 36 and 122, 99
        (np.float64, 1024, 1024, True, True),  # 111, 65 and 382, 200
    ],
)
def test_a_launch_is_worth_it_for_one_sample_s_gradients(dtype, n, m, of_input, of_weight):
    like = np.empty(0, dtype)
    assert worth(like, 1, n, m, 2, LAUNCH, False) == of_input
    assert worth(like, m, n, 1, 2, LAUNCH, False) == of_weight


def test_a_dear_launch_wants_more_work():
    like = np.empty(0, np.float32)
    for size, openmp, workqueue in ((128, False, False), (192, True, False), (512, True, True)):
        assert worth(like, size, size, size, 2, LAUNCH) == openmp
        assert worth(like, size, size, size, 2, WORKQUEUE_LAUNCH) == workqueue

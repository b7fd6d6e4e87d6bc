"""A user's functions on two threads, and a fork after them: what `.ci/aarch64 quick` runs besides
the digest, in a minute of emulation.

Operands are integers, whose sums are exact.
"""

import os
import platform
import sys

import numba
import numpy as np
from numba import njit, prange

from numba_linear import forward, grad_weight


@njit(parallel=True)
def each(x, w, y):
    for group in prange(len(x)):
        forward(x[group], w, out=y[group])


@njit
def threaded(g, x):
    return grad_weight(g, x, "sum", parallel=True)


def main():
    numba.set_num_threads(2)
    rng = np.random.default_rng(0)
    x, w, g = (rng.integers(-9, 9, s).astype("f4") for s in ((4, 300, 70), (50, 70), (300, 50)))
    y = np.empty((4, 300, 50), "f4")

    def check():
        each(x, w, y)
        assert np.array_equal(y, x @ w.T)
        assert np.array_equal(forward(x[0], w, parallel=True), y[0])
        assert np.array_equal(threaded(g, x[0]), g.T @ x[0])

    check()
    child = os.fork()
    if child == 0:
        try:
            # a forked child cannot run a prange of Numba's own, only calls that know of the fork
            assert np.array_equal(forward(x[0], w, parallel=True), y[0])
            assert np.array_equal(threaded(g, x[0]), g.T @ x[0])
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the forked child ended with {status}"
    check()
    print(
        f"{platform.machine()}, {numba.threading_layer()}, {numba.get_num_threads()} threads: fine"
    )


if __name__ == "__main__":
    main()

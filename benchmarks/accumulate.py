"""Time of `accumulate` for a micro-batch, with NumPy and PyTorch as lines in the same graphs."""

import numba_linear
from benchmarks.common import DTYPES, IMPLEMENTATIONS, THREADS, Timed, peers


def need_accumulate():
    """Skip commits that have no `accumulate`."""
    if not hasattr(numba_linear, "accumulate"):
        raise NotImplementedError("this commit has no accumulate")


class Accumulate(Timed):
    params = (
        IMPLEMENTATIONS,
        ((32, 64, 128), (1, 64, 128), (1, 1024, 1024), (256, 784, 256)),
        DTYPES,
        THREADS,
    )
    param_names = ("implementation", "shape", "dtype", "threads")

    def setup(self, implementation, shape, dtype, threads):
        need_accumulate()
        self.prepare(peers.accumulating, peers.ACCUMULATE, shape, dtype, threads, implementation)

    def time_accumulate(self, *parameters):
        self.calls()

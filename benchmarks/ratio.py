"""Ratios of times measured alternating in one process: steady even if other programs run."""

from benchmarks.accumulate import need_accumulate
from benchmarks.common import DTYPES, THREADS, Contest, Shape, need, peers, set_threads
from numba_linear.commands import tiny
from numba_linear.commands.timing import measure

#: Seconds for each ratio.
SECONDS = 0.3


def ratio(
    contest: Contest,
    operation: str,
    shape: Shape,
    dtype: str,
    threads: int,
    seconds: float = SECONDS,
) -> float:
    """Our least time / the best peer's."""
    contestants = contest(operation, shape, dtype, threads)
    ours, *others = measure(contestants, seconds, threads).values()
    return min(ours) / min(map(min, others))


class Peers:
    """For asv a larger number is worse, so below 1 we are faster; `bench` prints the inverse."""

    version = "1"
    params = (
        ("forward", "grad_input", "grad_weight"),
        ((32, 64, 64), (1, 1024, 1024), (64, 784, 256), (512, 512, 512)),
        DTYPES,
        THREADS,
    )
    param_names = ("operation", "shape", "dtype", "threads")
    unit = "our time / best peer's"
    timeout = 600

    def setup(self, operation, shape, dtype, threads):
        set_threads(threads)

    def track_ratio(self, operation, shape, dtype, threads):
        return ratio(peers.vendors, operation, shape, dtype, threads)


class Dot:
    """The same inside @njit, against `np.dot` and a loop for the bias."""

    version = "1"
    params = (((1, 64, 64), (64, 784, 256)), DTYPES)
    param_names = ("shape", "dtype")
    unit = "our time / np.dot's"
    timeout = 600

    def setup(self, shape, dtype):
        need("scipy")
        set_threads(1)

    def track_ratio_compiled(self, shape, dtype):
        return ratio(peers.compiled, "forward", shape, dtype, 1)


class Tiny:
    """Small layers inside @njit, against plain loops and `np.dot`."""

    version = "1"
    params = (
        ("forward", "grad_input", "grad_weight", "backward"),
        ((1, 3, 3), (1, 4, 16), (4, 8, 8), (1, 64, 64)),
        DTYPES,
    )
    param_names = ("operation", "shape", "dtype")
    unit = "our time / the better peer's"
    timeout = 600

    def setup(self, operation, shape, dtype):
        need("scipy")
        set_threads(1)

    def track_ratio_tiny(self, operation, shape, dtype):
        return ratio(tiny.contest, operation, shape, dtype, 1)


class Accumulate:
    """`accumulate` of a micro-batch."""

    version = "1"
    params = (((1, 64, 128), (32, 64, 128), (32, 784, 256), (1, 1024, 1024)), DTYPES)
    param_names = ("shape", "dtype")
    unit = "our time / best peer's"
    timeout = 600

    def setup(self, shape, dtype):
        need_accumulate()
        set_threads(1)

    def track_ratio_accumulate(self, shape, dtype):
        return ratio(peers.accumulating, peers.ACCUMULATE, shape, dtype, 1)

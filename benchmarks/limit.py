"""The part of the machine's multiply-add rate that is reached; both are measured alternating."""

import importlib.util

from benchmarks.common import DTYPES, peers, set_threads
from numba_linear.commands.timing import measure


class Limit:
    version = "1"
    params = (("forward", "grad_input", "grad_weight"), DTYPES)
    param_names = ("operation", "dtype")
    unit = "part of the multiply-add limit"
    timeout = 600

    def setup(self, operation, dtype):
        if importlib.util.find_spec("numba_linear.cpu.limit") is None:
            raise NotImplementedError("this commit does not measure the limit")
        set_threads(1)

    def track_limit(self, operation, dtype):
        times = measure(peers.limit(operation, (1024, 1024, 1024), dtype, 1), 0.5)
        return min(times["limit"]) / min(times["numba_linear"])

"""Time of a call with almost nothing to compute: checks, dispatch and the new array."""

from benchmarks.common import IMPLEMENTATIONS, OPERATIONS, Timed, peers


class Dispatch(Timed):
    params = (IMPLEMENTATIONS, OPERATIONS)
    param_names = ("implementation", "operation")

    def setup(self, implementation, operation):
        self.prepare(peers.vendors, operation, (1, 4, 4), "float32", 1, implementation)

    def time_tiny_call(self, *parameters):
        self.calls()

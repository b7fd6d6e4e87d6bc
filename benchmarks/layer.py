"""Time of the five operations from Python, with NumPy and PyTorch as lines in the same graphs."""

from benchmarks.common import DTYPES, IMPLEMENTATIONS, THREADS, Timed, peers


class _Layer(Timed):
    # A graph opens with the first values that make at most eight lines. Implementations come
    # first, so that all of them are shown.
    params = (
        IMPLEMENTATIONS,
        ((64, 784, 256), (512, 512, 512), (32, 64, 64), (1, 1024, 1024)),
        DTYPES,
        THREADS,
    )
    param_names = ("implementation", "shape", "dtype", "threads")
    operation = ""

    def setup(self, implementation, shape, dtype, threads):
        self.prepare(peers.vendors, self.operation, shape, dtype, threads, implementation)


class Forward(_Layer):
    operation = "forward"

    def time_forward(self, *parameters):
        self.calls()


class GradInput(_Layer):
    operation = "grad_input"

    def time_grad_input(self, *parameters):
        self.calls()


class GradWeight(_Layer):
    operation = "grad_weight"

    def time_grad_weight(self, *parameters):
        self.calls()


class GradBias(_Layer):
    operation = "grad_bias"

    def time_grad_bias(self, *parameters):
        self.calls()


class Backward(_Layer):
    operation = "backward"

    def time_backward(self, *parameters):
        self.calls()

"""`forward` in a compiled loop of the user's own, beside the best done there with `np.dot`."""

from benchmarks.common import DTYPES, Timed, need, peers


class Compiled(Timed):
    params = (("numba_linear", "np.dot"), ((64, 784, 256), (1, 64, 64), (1, 4, 4)), DTYPES)
    param_names = ("implementation", "shape", "dtype")

    def setup(self, implementation, shape, dtype):
        # Numba compiles np.dot to a call of SciPy's BLAS.
        need("scipy")
        self.prepare(peers.compiled, "forward", shape, dtype, 1, implementation)

    def time_forward(self, *parameters):
        self.calls()

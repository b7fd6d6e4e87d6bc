"""What a user waits for before the first result: the import, and compiling the first call."""

import os
import subprocess
import sys
import tempfile

from benchmarks.common import need

FIRST_CALL = """
from time import perf_counter
import numpy as np
from numba_linear import forward
x, w, b = np.full((8, 16), 3.0), np.full((4, 16), 5.0), np.full(4, 7.0)
start = perf_counter()
forward(x, w, b)
print(perf_counter() - start)
"""


class Import:
    """Each in a fresh process; the time of `numba` is not ours."""

    version = "1"
    params = ("numba_linear", "numba", "numpy", "torch")
    param_names = ("module",)
    number = 1
    rounds = 1
    repeat = 5
    warmup_time = 0
    timeout = 600

    def setup(self, module):
        need(module)

    def timeraw_import(self, module):
        return f"import {module}"


class FirstCall:
    """In a fresh process, with an empty cache of Numba's or as the process before left it."""

    version = "1"
    params = ("empty", "warm")
    param_names = ("cache",)
    timeout = 600
    unit = "seconds"

    def setup_cache(self):
        # One after the other, so that the package is compiled once.
        with tempfile.TemporaryDirectory() as folder:
            return {cache: _first_call(folder) for cache in self.params}

    def track_first_call(self, seconds, cache):
        return seconds[cache]


def _first_call(folder: str) -> float:
    """Seconds of one `forward` in a process of its own, with compiled code in that folder."""
    process = subprocess.run(
        [sys.executable, "-c", FIRST_CALL],
        env=os.environ | {"NUMBA_CACHE_DIR": folder},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(process.stdout)

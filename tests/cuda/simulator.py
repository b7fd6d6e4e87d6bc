"""Numba's CUDA simulator, repaired where it differs from a GPU."""

import threading

from exact import fma


def repair():
    """Make the simulator's multiply-add exact, and its shared arrays one per block.

    Its own multiply-add rounds twice, and two threads that ask for a shared array at once may get
    two.
    """
    from numba.cuda.simulator import kernelapi

    lock, array = threading.Lock(), kernelapi.FakeCUDAShared.array

    def locked(self, *arguments):
        # The simulator identifies a shared array by the line that asks for it: this one.
        with lock:
            return array(self, *arguments)

    kernelapi.FakeCUDAShared.array = locked
    kernelapi.FakeCUDAModule.fma = lambda self, a, b, c: fma(a, b, c)

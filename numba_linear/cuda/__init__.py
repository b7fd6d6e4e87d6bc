"""The layer on an NVIDIA GPU: the calls of `numba_linear` for CUDA arrays, with the same bits.

It needs the extra ``cuda``; see docs/cuda.md.
"""

from numba_linear.cuda.layer import (
    CudaUnavailableError,
    backward,
    forward,
    grad_bias,
    grad_input,
    grad_weight,
)
from numba_linear.layer import Gradients

__all__ = [
    "CudaUnavailableError",
    "Gradients",
    "backward",
    "forward",
    "grad_bias",
    "grad_input",
    "grad_weight",
]

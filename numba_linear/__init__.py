"""The linear layer y = W x + b and its gradients as Numba kernels, bit for bit the equations."""

__version__ = "0.1.0"  # before the package is imported, for its build's sake

from numba_linear.accumulate import Accumulator, accumulate, accumulated, accumulator
from numba_linear.layer import (
    Gradients,
    backward,
    forward,
    grad_bias,
    grad_input,
    grad_weight,
)
from numba_linear.tree import tree_sum

__all__ = [
    "Accumulator",
    "Gradients",
    "accumulate",
    "accumulated",
    "accumulator",
    "backward",
    "forward",
    "grad_bias",
    "grad_input",
    "grad_weight",
    "tree_sum",
]

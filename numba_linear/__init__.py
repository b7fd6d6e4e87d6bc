"""The linear layer y = W x + b and its gradients as Numba kernels, bit for bit the equations."""

__version__ = "0.1.0"  # before the package is imported, for its build's sake

from numba_linear.layer import (
    Gradients,
    backward,
    forward,
    grad_bias,
    grad_input,
    grad_weight,
)

__all__ = ["Gradients", "backward", "forward", "grad_bias", "grad_input", "grad_weight"]

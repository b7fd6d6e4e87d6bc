"""The table of operations for CUDA arrays."""

from types import SimpleNamespace

from operations import OPERATIONS

import numba_linear
import numba_linear.cuda
from numba_linear import Gradients

OPERATIONS = {
    name: operation._replace(function=getattr(numba_linear.cuda, operation.function.__name__))
    for name, operation in OPERATIONS.items()
}


def on(device, given, layout=None):
    """The operands on a device."""
    arguments = () if layout is None else (layout,)
    return SimpleNamespace(
        **{name: device.to_device(a, *arguments) for name, a in vars(given).items()}
    )


def host(result):
    """A result on the host."""
    if isinstance(result, Gradients):
        return Gradients(*(a.copy_to_host() for a in result))
    return result.copy_to_host()

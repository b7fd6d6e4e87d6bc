"""The table of operations for CUDA arrays."""

from types import SimpleNamespace

import numpy as np
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


# --------------------------------------------------------------------------------------
# Special numbers, for `operands`
# --------------------------------------------------------------------------------------


def mixed(shape, dtype, seed):
    """Infinities, NaN, zeros, the largest and the smallest number among normal ones."""
    limits, rng = np.finfo(dtype), np.random.default_rng([seed, *shape])
    specials = [np.nan, np.inf, -np.inf, 0.0, -0.0, limits.max, limits.smallest_subnormal]
    numbers = rng.standard_normal(shape).astype(dtype)
    return np.where(
        rng.random(shape) < 0.03, rng.choice(np.array(specials, dtype), shape), numbers
    )


def negligible(shape, dtype, seed):
    """Terms that underflow to -0."""
    tiny = np.sqrt(np.finfo(dtype).smallest_subnormal) / 4
    return np.full(shape, {1: tiny, 2: -tiny, 3: -0.0, 4: -tiny}[seed], dtype)


def subnormal(shape, dtype, seed):
    """Numbers whose products are subnormal."""
    scale = float(np.finfo(dtype).tiny) ** 0.5 * 0.01
    scale = {3: scale * scale}.get(seed, scale)
    return np.random.default_rng([seed, *shape]).normal(0, scale, shape).astype(dtype)

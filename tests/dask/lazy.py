"""The public calls on Dask arrays: their operands in chunks, and their results."""

from types import SimpleNamespace
from typing import Any

import dask
import dask.array as da
import numpy as np
from operations import OPERATIONS, Operation, assert_result, operands, parts

import numba_linear.dask
from numba_linear import Gradients

#: The operations of `OPERATIONS`, each as the call of `numba_linear.dask`.
LAZY = {
    name: operation._replace(function=getattr(numba_linear.dask, operation.function.__name__))
    for name, operation in OPERATIONS.items()
}


def chunked(a: np.ndarray, *samples: Any, features: Any = -1) -> da.Array:
    """A Dask array in these chunks of samples, for each dimension of the batch."""
    return da.from_array(a, chunks=(*samples, features))


def in_chunks(given: SimpleNamespace, *samples: Any) -> SimpleNamespace:
    """x and g in chunks of samples, w and b as they are."""
    return SimpleNamespace(
        x=chunked(given.x, *samples), w=given.w, b=given.b, g=chunked(given.g, *samples)
    )


def computed(result: Any, **options: Any) -> Any:
    """The computed result of an operation; its lazy shape, dtype and chunks must be true."""
    lazy = parts(result)
    arrays = dict(zip(lazy, dask.compute(*lazy.values(), **options), strict=True))
    for name, promised in lazy.items():
        if promised is None:
            continue
        got = arrays[name]
        assert isinstance(got, np.ndarray), (name, type(got))
        assert promised.shape == got.shape, name
        assert promised.dtype == got.dtype == promised._meta.dtype, name
        assert type(promised._meta) is np.ndarray and promised._meta.ndim == got.ndim, name
        assert tuple(map(sum, promised.chunks)) == got.shape, name
    return Gradients(**arrays) if isinstance(result, Gradients) else arrays[""]


def assert_as_in_memory(name: str, lazy: SimpleNamespace, plain: SimpleNamespace, **options: Any):
    """An operation on chunks has the bits of the same operation on the whole arrays."""
    operation: Operation = LAZY[name]
    want = OPERATIONS[name](plain)
    assert_result(name, computed(operation(lazy), **options), want)


__all__ = ["LAZY", "assert_as_in_memory", "chunked", "computed", "in_chunks", "operands"]

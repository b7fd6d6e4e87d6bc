"""The public calls as a table, their operands, and what the equations give for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from bits import assert_bits

from numba_linear import (
    Gradients,
    backward,
    equations,
    forward,
    grad_bias,
    grad_input,
    grad_weight,
)

DTYPES = (np.float32, np.float64)


class Operation(NamedTuple):
    """One public call: the function, the operands it takes in order, and its keywords."""

    function: Callable[..., Any]
    operands: tuple[str, ...]
    keywords: dict[str, str]

    def __call__(self, given: SimpleNamespace, **keywords: Any) -> Any:
        arguments = (getattr(given, name) for name in self.operands)
        return self.function(*arguments, **self.keywords, **keywords)

    @property
    def reduction(self) -> str | None:
        return self.keywords.get("reduction")


def _operations() -> Iterator[tuple[str, Operation]]:
    yield "forward", Operation(forward, ("x", "w", "b"), {})
    yield "forward without b", Operation(forward, ("x", "w"), {})
    yield "grad_input", Operation(grad_input, ("g", "w"), {})
    for reduction in ("mean", "sum", "none"):
        keywords = {"reduction": reduction}
        yield f"grad_weight {reduction}", Operation(grad_weight, ("g", "x"), keywords)
        yield f"grad_bias {reduction}", Operation(grad_bias, ("g",), keywords)
        yield f"backward {reduction}", Operation(backward, ("g", "x", "w"), keywords)


OPERATIONS = dict(_operations())


def values(shape: tuple[int, ...], dtype: type, seed: int) -> np.ndarray:
    """Normal numbers scaled by powers of two from 2⁻⁸ to 2⁸, so that a sum's order shows."""
    rng = np.random.default_rng([seed, *shape])
    return np.ldexp(rng.standard_normal(shape), rng.integers(-8, 9, shape)).astype(dtype)


def operands(
    batch: int | tuple[int, ...],
    n: int,
    m: int,
    dtype: type,
    make: Callable[[tuple[int, ...], type, int], np.ndarray] = values,
) -> SimpleNamespace:
    """x, w, b and g for a batch of K samples, of any leading shape, or () for one sample."""
    if isinstance(batch, int):
        batch = (batch,)
    return SimpleNamespace(
        x=make((*batch, n), dtype, 1),
        w=make((m, n), dtype, 2),
        b=make((m,), dtype, 3),
        g=make((*batch, m), dtype, 4),
    )


def expected(operation: Operation, given: SimpleNamespace) -> Any:
    """The equations' result for one call: an array, or `Gradients` for `backward`."""
    function, reduction = operation.function, operation.reduction
    batch = (given.x if function is forward else given.g).shape[:-1]

    def flat(a: np.ndarray) -> np.ndarray:
        return np.array(a, order="C").reshape(math.prod(batch), a.shape[-1])

    def apart(a: np.ndarray, per_sample: int) -> np.ndarray:
        """A result with one row (or matrix) per sample, back in the batch's own dimensions."""
        return a.reshape(*batch, *a.shape[a.ndim - per_sample :])

    def dL_dx() -> np.ndarray:
        return apart(equations.grad_input(flat(given.g), given.w), 1)

    def dL_dw() -> np.ndarray:
        result = equations.grad_weight(flat(given.g), flat(given.x), reduction)
        return apart(result, 2) if reduction == "none" else result

    def dL_db() -> np.ndarray:
        result = equations.grad_bias(flat(given.g), reduction)
        return apart(result, 1) if reduction == "none" else result

    if function is forward:
        b = given.b if "b" in operation.operands else None
        return apart(equations.forward(flat(given.x), given.w, b), 1)
    if function is backward:
        return Gradients(dL_dx(), dL_dw(), dL_db())
    return {grad_input: dL_dx, grad_weight: dL_dw, grad_bias: dL_db}[function]()


def parts(result: Any) -> dict[str, np.ndarray]:
    """A result's arrays by name: three for `Gradients`, one for anything else."""
    return result._asdict() if isinstance(result, tuple) else {"": result}


def unwritten(result: Any) -> Any:
    """An `out` for such a result, full of NaN."""
    out = [np.full_like(part, np.nan) for part in parts(result).values()]
    return Gradients(*out) if len(out) == 3 else out[0]


def assert_result(label: str, got: Any, want: Any) -> None:
    """Assert that a result and the equations' have equal bits, shape and dtype."""
    assert isinstance(got, Gradients) == isinstance(want, Gradients), f"{label}: {type(got)}"
    for name, wanted in parts(want).items():
        assert_bits(f"{label} {name}".rstrip(), parts(got)[name], wanted)

"""The public calls on the GPU: checks, memory for the result, launches.

CUDA is imported at the first call.
"""

import functools
import importlib.util
from types import SimpleNamespace
from typing import Any

import numpy as np

from numba_linear import checks
from numba_linear.codes import FINE
from numba_linear.interpreted import refusal
from numba_linear.layer import Gradients, arguments


class CudaUnavailableError(RuntimeError):
    """CUDA cannot be used here; the message says what is missing and how to get it."""


INSTALL = "install it with, in a clone: pip install -e '.[cuda]' (for CUDA 12, [cuda12])"


@functools.cache
def engine() -> SimpleNamespace:
    """What needs CUDA, imported at the first call.

    Raises
    ------
    CudaUnavailableError
        If Numba's CUDA target or NVIDIA's driver is missing.
    """
    if importlib.util.find_spec("numba_cuda") is None:
        raise CudaUnavailableError(f"numba_linear.cuda: numba-cuda is not installed; {INSTALL}")
    try:
        from numba import cuda
    except Exception as error:
        raise CudaUnavailableError(
            f"numba_linear.cuda: numba-cuda cannot be imported ({error}); {INSTALL}"
        ) from error
    if cuda.implementation != "NVIDIA":
        raise CudaUnavailableError(
            f"numba_linear.cuda: numba.cuda is Numba's own, in {cuda.__file__}; wanted that of"
            " numba-cuda, which its file _numba_cuda_redirector.pth puts there where Python reads"
            " it as it starts: install numba-cuda into this Python's site-packages"
        )
    if not cuda.is_available():
        reason = " ".join(str(cuda.cuda_error()).split())
        raise CudaUnavailableError(
            f"numba_linear.cuda: no GPU can be used ({reason}); wanted an NVIDIA GPU with its"
            " driver. Without one, NUMBA_ENABLE_CUDASIM=1 runs the kernels in Numba's simulator"
        )
    from numba_linear.cuda import arrays, contract

    return SimpleNamespace(arrays=arrays, contract=contract)


#: What decides whether arrays conform, except their addresses: for each its name, dtype, shape,
#: strides, and whether it is written and writable.
Layouts = tuple[tuple[str, Any, tuple[int, ...], tuple[int, ...], bool], ...]
#: The first byte of an array and its end, relative to its address.
Reach = tuple[int, int]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


@functools.lru_cache(1024)
def letters_of(operation: str, reduction: str) -> dict[str, str]:
    return checks.LETTERS[operation] | checks.out_letters(operation, reduction)


@functools.lru_cache(1024)
def laid_out(
    operation: str, reduction: str, layouts: Layouts
) -> tuple[list[Reach], dict[str, tuple[int, ...]]] | None:
    """The extent of each array, and the shapes of missing outs; None if any is wrong.

    This finds all faults that `Call._refuse` finds, except those of addresses.
    """
    letters, dtype, reaches = letters_of(operation, reduction), layouts[0][1], []
    if dtype not in FLOATS or not dtype.isnative:
        return None
    sizes = checks.sizes_of((letters[name], shape) for name, _, shape, _, _ in layouts)
    if sizes is None or (reduction == "mean" and 0 in sizes["…"]):
        return None
    for _, its_dtype, shape, strides, usable in layouts:
        steps = [(size - 1, step) for size, step in zip(shape, strides, strict=True) if size > 1]
        if its_dtype != dtype or not usable or any(step % dtype.itemsize for _, step in steps):
            return None
        reach = [count * step for count, step in steps]
        low, high = sum(x for x in reach if x < 0), sum(x for x in reach if x > 0)
        reaches.append((low, low if 0 in shape else high + dtype.itemsize))
    names = {name for name, *_ in layouts}
    missing = {
        name: checks.shape_of(own, sizes)
        for name, own in checks.out_letters(operation, reduction).items()
        if name not in names and (name != "out.input" or "w" in names)
    }
    return reaches, missing


class Call:
    """One call's checked arguments and outs, new ones if there are none, and where it runs.

    Raises
    ------
    TypeError, ValueError
        As the call on the CPU does.
    """

    def __init__(
        self, operation: str, reduction: str, stream: Any, inputs: dict[str, Any], out: Any
    ) -> None:
        given, outs = arguments(operation, inputs, out)
        self.sums, arrays = engine().contract, engine().arrays
        self.operation, self.reduction, self.out = operation, reduction, out
        checks.check_reduction(operation, reduction)
        ordinal = arrays.device.current()
        self.place = arrays.Place(ordinal, arrays.device.stream_of(operation, stream))
        self.arrays = {
            name: arrays.operand(operation, reduction, name, value, self.place)
            for name, value in (given | outs).items()
        }
        layouts = [
            (name, a.dtype, a.shape, a.strides, a.writable or name not in outs)
            for name, a in self.arrays.items()
        ]
        found = laid_out(operation, reduction, tuple(layouts))
        if found is None or not self._apart(found[0], outs):
            self._refuse(outs)
        assert found is not None  # else it was refused
        for name, shape in found[1].items():
            self.arrays[name] = self._new(shape, layouts[0][1])

    def _apart(self, reaches: list[Reach], outs: dict[str, Any]) -> bool:
        """Whether no address can be wrong, in a tenth of the time of `_refuse`.

        For arrays that are interleaved it says no, too.
        """
        places: list[Reach] = []
        for (name, a), (low, high) in zip(self.arrays.items(), reaches, strict=True):
            start, end = a.address + low, a.address + high
            if a.address % a.dtype.itemsize or a.ordinal not in (None, self.place.ordinal):
                return False
            if name in outs and any(start < high and low < end for low, high in places):
                return False
            places.append((start, end))
        return True

    def _refuse(self, outs: dict[str, Any]) -> None:
        """Raise for what is wrong, if anything is."""
        operation, reduction, arrays = self.operation, self.reduction, self.arrays
        described = {name: a.given() for name, a in arrays.items()}
        of_outs = {name: described.pop(name) for name in outs}
        checks.check_types(operation, reduction, described, of_outs)
        engine().arrays.check_devices(operation, arrays, self.place.ordinal)
        for name, a in arrays.items():
            engine().arrays.check_aligned(operation, name, a)
        letters = letters_of(operation, reduction)
        places = (arrays[name].place() if name in arrays else None for name in letters)
        code = refusal(operation, reduction, *places)
        if code != FINE:
            shapes = {name: a.shape for name, a in arrays.items()}
            raise ValueError(checks.message_of(operation, reduction, code, shapes))

    def _new(self, shape: tuple[int, ...], dtype: Any) -> Any:
        arrays = engine().arrays
        new, address = arrays.device.empty(self.place, shape, dtype)
        strides = arrays.strides_of(shape, dtype.itemsize)
        return arrays.Operand(address, shape, strides, dtype, True, self.place.ordinal, new)

    def result(self) -> Any:
        """The call's result: `out`, or the new arrays."""
        if self.out is not None:
            return self.out
        if self.operation != "backward":
            return self.arrays["out"].owner
        found: Any = (self.arrays.get(f"out.{name}") for name in Gradients._fields)
        return Gradients(*(a and a.owner for a in found))


def forward(x: Any, w: Any, b: Any = None, out: Any = None, stream: Any = 0) -> Any:
    """y = W x + b on the GPU; `numba_linear.forward` for CUDA arrays, with the same bits.

    Parameters
    ----------
    x : CUDA array, shape (n,) or (…, n)
        One sample, or a batch with any leading dimensions; float32 or float64.
    w : CUDA array, shape (m, n)
        The weight, out features first.
    b : CUDA array, shape (m,), optional
        The bias.
    out : CUDA array, shape (m,) or (…, m), optional
        Takes the result. It may have any strides, and may not overlap an input.
    stream : stream, optional
        Of Numba, CuPy, PyTorch or cuda.core, or a stream's handle; by default (0 or None) Numba's
        default stream.

    Returns
    -------
    CUDA array, shape (m,) or (…, m)
        `out`, or a new array of Numba's. The call does not wait for it.

    Raises
    ------
    CudaUnavailableError
        If Numba's CUDA target or NVIDIA's driver is missing.
    TypeError
        Arguments that are not CUDA arrays of one dtype, float32 or float64.
    ValueError
        Shapes that do not conform, or an `out` of another shape or dtype, read-only or
        overlapping; arrays that are not aligned to their numbers, or not on the current GPU.
    """
    call = Call("forward", "sum", stream, {"x": x, "w": w, "b": b}, out)
    a = call.arrays
    call.sums.forward_sums(a["x"], a["w"], a.get("b"), a["out"], call.place)
    return call.result()


def grad_input(g: Any, w: Any, out: Any = None, stream: Any = 0) -> Any:
    """∂L/∂x = g W on the GPU; `numba_linear.grad_input` for CUDA arrays, with the same bits.

    Parameters
    ----------
    g : CUDA array, shape (m,) or (…, m)
        ∂L/∂y; float32 or float64.
    w : CUDA array, shape (m, n)
        The weight.
    out : CUDA array, shape (n,) or (…, n), optional
        Takes the result.
    stream : stream, optional
        As in `forward`.

    Returns
    -------
    CUDA array, shape (n,) or (…, n)

    Raises
    ------
    CudaUnavailableError, TypeError, ValueError
        As in `forward`.
    """
    call = Call("grad_input", "sum", stream, {"g": g, "w": w}, out)
    a = call.arrays
    call.sums.input_sums(a["g"], a["w"], a["out"], call.place)
    return call.result()


def grad_weight(g: Any, x: Any, reduction: str = "mean", out: Any = None, stream: Any = 0) -> Any:
    """∂L/∂W on the GPU; `numba_linear.grad_weight` for CUDA arrays, with the same bits.

    Parameters
    ----------
    g : CUDA array, shape (m,) or (…, m)
        ∂L/∂y; float32 or float64.
    x : CUDA array, shape (n,) or (…, n)
        The input of `forward`, with the same batch as g.
    reduction : {"mean", "sum", "none"}
        The mean of the samples' gradients (the default), their sum, or one gradient for each
        sample.
    out : CUDA array, shape (m, n), or (…, m, n) without a reduction, optional
        Takes the result.
    stream : stream, optional
        As in `forward`.

    Returns
    -------
    CUDA array, shape (m, n), or (…, m, n) without a reduction

    Raises
    ------
    CudaUnavailableError, TypeError, ValueError
        As in `forward`; and ValueError for an unknown reduction and for a mean over an empty
        batch.
    """
    call = Call("grad_weight", reduction, stream, {"g": g, "x": x}, out)
    a = call.arrays
    call.sums.weight_sums(a["g"], a["x"], a["out"], reduction, call.place)
    return call.result()


def grad_bias(g: Any, reduction: str = "mean", out: Any = None, stream: Any = 0) -> Any:
    """∂L/∂b on the GPU; `numba_linear.grad_bias` for CUDA arrays, with the same bits.

    Parameters
    ----------
    g : CUDA array, shape (m,) or (…, m)
        ∂L/∂y; float32 or float64.
    reduction : {"mean", "sum", "none"}
        As in `grad_weight`.
    out : CUDA array, shape (m,), or (…, m) without a reduction, optional
        Takes the result.
    stream : stream, optional
        As in `forward`.

    Returns
    -------
    CUDA array, shape (m,), or (…, m) without a reduction

    Raises
    ------
    CudaUnavailableError, TypeError, ValueError
        As in `grad_weight`.
    """
    call = Call("grad_bias", reduction, stream, {"g": g}, out)
    call.sums.bias_sums(call.arrays["g"], call.arrays["out"], reduction, call.place)
    return call.result()


def backward(
    g: Any,
    x: Any,
    w: Any,
    reduction: str = "mean",
    out: Gradients | None = None,
    stream: Any = 0,
) -> Gradients:
    """All three gradients on the GPU; `numba_linear.backward` for CUDA arrays, the same bits.

    Parameters
    ----------
    g : CUDA array, shape (m,) or (…, m)
        ∂L/∂y; float32 or float64.
    x : CUDA array, shape (n,) or (…, n)
        The input of `forward`, with the same batch as g.
    w : CUDA array, shape (m, n), or None
        The weight; None for a network's first layer, whose ∂L/∂x is not needed.
    reduction : {"mean", "sum", "none"}
        As in `grad_weight`.
    out : Gradients, optional
        Three CUDA arrays that take the results; none may overlap an input or another of them.
        Without w its `input` is None.
    stream : stream, optional
        As in `forward`.

    Returns
    -------
    Gradients
        `out`, or new arrays: `input`, which is never reduced, `weight` and `bias`. Without w
        `input` is not computed, and None.

    Raises
    ------
    CudaUnavailableError, TypeError, ValueError
        As in `grad_weight`.
    """
    call = Call("backward", reduction, stream, {"g": g, "x": x, "w": w}, out)
    a = call.arrays
    if w is not None:
        call.sums.input_sums(a["g"], a["w"], a["out.input"], call.place)
    call.sums.weight_sums(a["g"], a["x"], a["out.weight"], reduction, call.place)
    call.sums.bias_sums(a["g"], a["out.bias"], reduction, call.place)
    return call.result()

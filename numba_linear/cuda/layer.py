"""The public calls on the GPU: checks, a place for the result, the launches.

Nothing of CUDA is imported before the first call.
"""

import functools
import importlib.util
from types import SimpleNamespace
from typing import Any

import numpy as np

from numba_linear import checks
from numba_linear.codes import FINE
from numba_linear.interpreted import refusal
from numba_linear.layer import Gradients


class CudaUnavailableError(RuntimeError):
    """CUDA can not be used here; the message says what is missing and how to get it."""


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
            f"numba_linear.cuda: numba-cuda can not be imported ({error}); {INSTALL}"
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


#: What decides whether arrays go together, but for where they lie: of each its name, dtype,
#: shape, strides and whether it is written to and may be.
Layouts = tuple[tuple[str, Any, tuple[int, ...], tuple[int, ...], bool], ...]


@functools.lru_cache(1024)
def extents(operation: str, reduction: str, layouts: Layouts) -> list[tuple[int, int]] | None:
    """From where to where each array reaches, in bytes from its address; None if any is wrong.

    What `Call._refuse` finds wrong, this finds too, but for addresses.
    """
    letters = checks.LETTERS[operation] | checks.out_letters(operation, reduction)
    dtype = layouts[0][1]
    if dtype not in FLOATS or not dtype.isnative:
        return None
    sizes: dict[str, Any] = {}
    found = []
    for name, its_dtype, shape, strides, usable in layouts:
        fixed = letters[name].replace("…", "")
        more = len(shape) - len(fixed)
        if its_dtype != dtype or not usable or more < 0 or (more and "…" not in letters[name]):
            return None
        if "…" in letters[name] and sizes.setdefault("…", shape[:more]) != shape[:more]:
            return None
        for letter, size in zip(fixed, shape[more:], strict=True):
            if sizes.setdefault(letter, size) != size:
                return None
        steps = [(size - 1, step) for size, step in zip(shape, strides, strict=True) if size > 1]
        if any(step % dtype.itemsize for _, step in steps):
            return None
        reach = [count * step for count, step in steps]
        low, high = sum(x for x in reach if x < 0), sum(x for x in reach if x > 0)
        found.append((low, low if 0 in shape else high + dtype.itemsize))
    return None if reduction == "mean" and 0 in sizes["…"] else found


FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class Call:
    """The checked arguments of one call, and where it runs.

    Raises
    ------
    TypeError, ValueError
        As the call on the CPU does.
    """

    def __init__(
        self,
        operation: str,
        reduction: str,
        stream: Any,
        inputs: dict[str, Any],
        outs: dict[str, Any],
    ) -> None:
        arrays = engine().arrays
        self.operation, self.reduction = operation, reduction
        checks.check_reduction(operation, reduction)
        ordinal = arrays.device.current()
        self.place = arrays.Place(ordinal, arrays.device.stream_of(operation, stream))
        self.arrays = {
            name: arrays.operand(operation, reduction, name, value, self.place)
            for name, value in (inputs | outs).items()
        }
        if not self._plainly_fine(outs):
            self._refuse(inputs, outs)

    def _plainly_fine(self, outs: dict[str, Any]) -> bool:
        """Whether nothing can be wrong: as `_refuse` asks, at a tenth of its time.

        Of arrays whose first and last bytes enclose each other it says no, too.
        """
        layouts = [
            (name, a.dtype, a.shape, a.strides, a.writable or name not in outs)
            for name, a in self.arrays.items()
        ]
        reach = extents(self.operation, self.reduction, tuple(layouts))
        if reach is None:
            return False
        size, ordinal = layouts[0][1].itemsize, self.place.ordinal
        places: list[tuple[int, int]] = []
        for (name, a), (low, high) in zip(self.arrays.items(), reach, strict=True):
            start, end = a.address + low, a.address + high
            if a.address % size or (a.ordinal is not None and a.ordinal != ordinal):
                return False
            if name in outs:
                for other_start, other_end in places:
                    if start < other_end and other_start < end:
                        return False
            places.append((start, end))
        return True

    def _refuse(self, inputs: dict[str, Any], outs: dict[str, Any]) -> None:
        """Raise for what is wrong, if anything is."""
        operation, reduction, arrays = self.operation, self.reduction, self.arrays
        described = {name: a.given() for name, a in arrays.items()}
        checks.check_types(
            operation,
            reduction,
            {name: described[name] for name in inputs},
            {name: described[name] for name in outs},
        )
        engine().arrays.check_devices(operation, arrays, self.place.ordinal)
        for name, a in arrays.items():
            engine().arrays.check_aligned(operation, name, a)
        letters = checks.LETTERS[operation] | checks.out_letters(operation, reduction)
        places = (arrays[name].place() if name in arrays else None for name in letters)
        code = refusal(operation, reduction, *places)
        if code != FINE:
            shapes = {name: a.shape for name, a in arrays.items()}
            raise ValueError(checks.message_of(operation, reduction, code, shapes))

    def shape(self, name: str) -> tuple[int, ...]:
        return self.arrays[name].shape

    def batch(self) -> tuple[int, ...]:
        """The batch's dimensions, where the result has them."""
        return self.shape("g")[:-1] if self.reduction == "none" else ()

    def result(self, name: str, out: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """`out`, or a new array where there is none, and it as an operand."""
        if out is not None:
            return out, self.arrays[name]
        arrays, dtype = engine().arrays, next(iter(self.arrays.values())).dtype
        new, address = arrays.device.empty(self.place, shape, dtype)
        strides = arrays.strides_of(shape, dtype.itemsize)
        return new, arrays.Operand(address, shape, strides, dtype, True, self.place.ordinal, new)


def given(**arguments: Any) -> dict[str, Any]:
    """The arguments that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}


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
    x_w_b = {"x": x, "w": w} | given(b=b)
    call = Call("forward", "sum", stream, x_w_b, given(out=out))
    y, place = call.result("out", out, call.shape("x")[:-1] + call.shape("w")[:1])
    arrays = call.arrays
    engine().contract.forward_sums(arrays["x"], arrays["w"], arrays.get("b"), place, call.place)
    return y


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
    call = Call("grad_input", "sum", stream, {"g": g, "w": w}, given(out=out))
    dx, place = call.result("out", out, call.shape("g")[:-1] + call.shape("w")[1:])
    engine().contract.input_sums(call.arrays["g"], call.arrays["w"], place, call.place)
    return dx


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
    call = Call("grad_weight", reduction, stream, {"g": g, "x": x}, given(out=out))
    shape = call.batch() + call.shape("g")[-1:] + call.shape("x")[-1:]
    dw, place = call.result("out", out, shape)
    engine().contract.weight_sums(call.arrays["g"], call.arrays["x"], place, reduction, call.place)
    return dw


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
    call = Call("grad_bias", reduction, stream, {"g": g}, given(out=out))
    db, place = call.result("out", out, call.batch() + call.shape("g")[-1:])
    engine().contract.bias_sums(call.arrays["g"], place, reduction, call.place)
    return db


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
    checks.check_gradients(out is None or isinstance(out, Gradients), type(out).__name__)
    outs = {} if out is None else {f"out.{name}": a for name, a in out._asdict().items()}
    if w is None and outs:
        checks.check_no_input(type(outs.pop("out.input")).__name__)
    call = Call("backward", reduction, stream, {"g": g, "x": x} | given(w=w), outs)
    m_n = call.shape("g")[-1:] + call.shape("x")[-1:]
    shapes = {"weight": call.batch() + m_n, "bias": call.batch() + m_n[:1]}
    if w is not None:
        shapes["input"] = call.shape("x")
    places = {
        name: call.result(f"out.{name}", outs.get(f"out.{name}"), shape)
        for name, shape in shapes.items()
    }
    sums, arrays = engine().contract, call.arrays
    if w is not None:
        sums.input_sums(arrays["g"], arrays["w"], places["input"][1], call.place)
    sums.weight_sums(arrays["g"], arrays["x"], places["weight"][1], reduction, call.place)
    sums.bias_sums(arrays["g"], places["bias"][1], reduction, call.place)
    if out is not None:
        return out
    found: Any = {"input": None} | {name: array for name, (array, _) in places.items()}
    return Gradients(**found)

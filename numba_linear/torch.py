"""PyTorch's linear layer with this package's bits: `linear`, `Linear` and `replace_linear`.

Needs the extra ``torch``. There are two paths, with the same bits:

- *Operators*, `torch.ops.numba_linear`, with shapes, derivatives and batching rules for PyTorch.
  They serve `torch.compile`, `torch.func`, traces and modes.
- The *eager path*, for plain tensors outside of these. It goes straight to NumPy arrays, in half
  of an operator's 15 µs.

The layer's derivatives are sums of the same kind, so the derivatives of these four operators are
these four operators:

    linear       y = W x + b     input, weight, bias
    grad_input   ∂L/∂x = g W     g, weight
    grad_weight  ∂L/∂W = gᵀ x    g, input
    grad_bias    ∂L/∂b = Σₖ gₖ   g

Gradients are sums over the batch, as in autograd. `vmap` turns one layer into a stack of E layers,
which each operator takes as well: weight (E, m, n), bias (E, m), input (E, …, n), g (E, …, m).
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import getattr_static
from itertools import repeat
from typing import Any

import numba
import numpy as np

from numba_linear import backward, checks, forward, grad_bias, grad_input, grad_weight
from numba_linear.checks import Given
from numba_linear.codes import SHAPES

try:
    import torch
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError(
        "numba_linear.torch: PyTorch is not installed; install it with, in a clone:"
        " pip install -e '.[torch]'",
        name="torch",
    ) from None

from torch import Tensor
from torch.autograd import Function, forward_ad
from torch.nn.utils.parametrize import is_parametrized

__all__ = ["Linear", "linear", "replace_linear"]

# --------------------------------------------------------------------------------------
# Checks
# --------------------------------------------------------------------------------------

DTYPES: dict[Any, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
}


def check(input: Any, weight: Any, bias: Any) -> None:
    """Raise for what is wrong with the arguments of `linear`."""
    tensors = {"input": input, "weight": weight} | ({} if bias is None else {"bias": bias})
    for name, t in tensors.items():
        if not isinstance(t, Tensor):
            raise TypeError(
                f"linear: {name} is of type {type(t).__name__}; wanted a torch.Tensor of shape"
                f" {checks.wanted(checks.LETTERS['linear'][name])}"
            )
        if t.layout is not torch.strided or t.is_nested:
            kind = "is a nested tensor" if t.is_nested else f"has layout {t.layout}"
            raise TypeError(f"linear: {name} {kind}; wanted a dense tensor")
        if t.dtype not in DTYPES:
            raise TypeError(
                f"linear: {name} has dtype {t.dtype}; wanted torch.float32 or torch.float64:"
                f" cast with {name}.to(torch.float32)"
            )
        if t.dtype != input.dtype:
            raise TypeError(
                f"linear: input has dtype {input.dtype} and {name} has dtype {t.dtype}; wanted one"
                f" dtype for all: cast with {name}.to(input.dtype)"
            )
        if t.device.type not in ("cpu", "meta") or t.device != input.device:
            raise ValueError(
                f"linear: {name} is on {t.device}; wanted all on the CPU: move with {name}.cpu()"
            )
    given = {name: Given("Tensor", DTYPES[t.dtype], t.dim()) for name, t in tensors.items()}
    checks.check_types("linear", "none", given, {})
    m, n = weight.shape
    if input.shape[-1] != n or (bias is not None and bias.shape[0] != m):
        shapes = {name: tuple(t.shape) for name, t in tensors.items()}
        raise ValueError(checks.message_of("linear", "none", SHAPES, shapes))


# --------------------------------------------------------------------------------------
# The kernels of the operators: tensors in, a tensor out
# --------------------------------------------------------------------------------------

get_num_threads, from_numpy = torch.get_num_threads, torch.from_numpy


#: Multiply-adds from which a call uses PyTorch's number of threads. PyTorch itself starts threads
#: as early. The package's default, which waits until they save 30 µs, would be slower.
WORTH_A_LAUNCH = 1 << 19


def alone(multiply_adds: int) -> bool:
    """Whether a call is not worth a launch, or PyTorch is told to use one thread."""
    return get_num_threads() == 1 or multiply_adds < WORTH_A_LAUNCH


def on_threads(call: Callable[..., Any], *arrays: Any) -> Any:
    """A call of the package on PyTorch's number of threads; takes 2.8 µs more than on Numba's."""
    before = numba.get_num_threads()
    numba.set_num_threads(min(get_num_threads(), numba.config.NUMBA_NUM_THREADS))
    try:
        return call(*arrays, parallel=True)
    finally:
        numba.set_num_threads(before)


def run(multiply_adds: int, call: Callable[..., Any], *arrays: Any) -> Any:
    if alone(multiply_adds):
        return call(*arrays, parallel=False)
    return on_threads(call, *arrays)


def run_each(multiply_adds: int, call: Callable[..., Any], like: Any, *arrays: Any) -> Any:
    """The same for each layer of a stack; results have the form of `like`."""
    result = np.empty(like, arrays[0].dtype)
    for layer in zip(*(repeat(None) if a is None else a for a in arrays), result, strict=False):
        run(multiply_adds // len(result), call, *layer)
    return result


def array(t: Tensor | None) -> Any:
    return None if t is None else t.numpy(force=True)


def sum_weight(g: Any, x: Any, out: Any = None, parallel: bool | None = None) -> Any:
    return grad_weight(g, x, "sum", out, parallel)


def sum_bias(g: Any, out: Any = None, parallel: bool | None = None) -> Any:
    return grad_bias(g, "sum", out, parallel)


def sum_all(g: Any, x: Any, w: Any, parallel: bool | None = None) -> Any:
    return backward(g, x, w, "sum", None, parallel)


def run_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    work, arrays = input.numel() * weight.shape[-2], (array(input), array(weight), array(bias))
    if weight.dim() == 2:
        return from_numpy(run(work, forward, *arrays))
    return from_numpy(run_each(work, forward, shape_of_linear(input, weight), *arrays))


def run_grad_input(g: Tensor, weight: Tensor) -> Tensor:
    work, arrays = g.numel() * weight.shape[-1], (array(g), array(weight))
    if weight.dim() == 2:
        return from_numpy(run(work, grad_input, *arrays))
    return from_numpy(run_each(work, grad_input, shape_of_grad_input(g, weight), *arrays))


def run_grad_weight(g: Tensor, input: Tensor, stack: bool = False) -> Tensor:
    work, arrays = g.numel() * input.shape[-1], (array(g), array(input))
    if not stack:
        return from_numpy(run(work, sum_weight, *arrays))
    if one_sample_each(g):
        rows = (a.reshape(len(a), -1) for a in arrays)
        return from_numpy(run(work, grad_weight, *rows, "none"))
    return from_numpy(run_each(work, sum_weight, shape_of_grad_weight(g, input, stack), *arrays))


def run_grad_bias(g: Tensor, stack: bool = False) -> Tensor:
    if not stack:
        return from_numpy(run(g.numel(), sum_bias, array(g)))
    if one_sample_each(g):
        return from_numpy(run(g.numel(), grad_bias, array(g).reshape(len(g), -1), "none"))
    return from_numpy(run_each(g.numel(), sum_bias, shape_of_grad_bias(g, stack), array(g)))


def one_sample_each(g: Tensor) -> bool:
    """Whether a stack wants per-sample gradients, which one call computes."""
    return g.shape[1:-1].numel() == 1 and g.numel() > 0


def shape_of_linear(input: Tensor, weight: Tensor, bias: Any = None) -> tuple[int, ...]:
    return (*input.shape[:-1], weight.shape[-2])


def shape_of_grad_input(g: Tensor, weight: Tensor) -> tuple[int, ...]:
    return (*g.shape[:-1], weight.shape[-1])


def shape_of_grad_weight(g: Tensor, input: Tensor, stack: bool = False) -> tuple[int, ...]:
    return (*g.shape[: int(stack)], g.shape[-1], input.shape[-1])


def shape_of_grad_bias(g: Tensor, stack: bool = False) -> tuple[int, ...]:
    return (*g.shape[: int(stack)], g.shape[-1])


# --------------------------------------------------------------------------------------
# The operators' derivatives and batching rules
# --------------------------------------------------------------------------------------

# They are Functions: an operator with only a backward formula silently has a tangent of zero in
# forward mode, and fails in `torch.func.grad`.

ops = torch.ops.numba_linear


class Operator(Function):
    """The common part of the four."""

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:2])
        ctx.save_for_forward(*inputs[:2])


def wanted(ctx: Any) -> tuple[bool, ...]:
    """Which gradients are wanted; PyTorch says nothing about omitted trailing arguments."""
    return (*ctx.needs_input_grad, False, False)


def added(*tangents: Tensor | None) -> Tensor | None:
    first, second = tangents
    return second if first is None else first if second is None else first + second


def stacked(size: int, dims: tuple[int | None, ...], stack: bool, *tensors: Any) -> list[Any]:
    """Under `vmap`, a layer per call, or E layers per call for a stack."""
    result = []
    for t, dim in zip(tensors, dims, strict=False):
        if t is not None:
            t = t.expand(size, *t.shape) if dim is None else t.movedim(dim, 0)
            t = t.flatten(0, 1) if stack else t
        result.append(t)
    return result


def unstacked(result: Tensor, size: int, stack: bool) -> tuple[Tensor, int]:
    return (result.unflatten(0, (size, len(result) // size)) if stack else result), 0


class LinearOperator(Operator):
    """y = W x + b."""

    @staticmethod
    def forward(input, weight, bias=None):
        return ops.linear(input, weight, bias)

    @staticmethod
    def backward(ctx, g):
        input, weight = ctx.saved_tensors
        of_input, of_weight, of_bias, *_ = wanted(ctx)
        stack = weight.dim() == 3
        return (
            GradInput.apply(g, weight) if of_input else None,
            GradWeight.apply(g, input, stack) if of_weight else None,
            grad_bias_of(g, stack) if of_bias else None,
        )

    @staticmethod
    def jvp(ctx, d_input, d_weight, d_bias=None):
        input, weight = ctx.saved_tensors
        if d_bias is not None and d_weight is None:
            d_weight = torch.zeros_like(weight)
        return added(
            None if d_input is None else LinearOperator.apply(d_input, weight, None),
            None if d_weight is None else LinearOperator.apply(input, d_weight, d_bias),
        )

    @staticmethod
    def vmap(info, dims, input, weight, bias=None):
        size, stack = info.batch_size, weight.dim() - (dims[1] is not None) == 3
        if dims[1] is None and (bias is None or dims[2] is None):  # more samples of one layer
            samples = input.movedim(dims[0], int(stack))
            return LinearOperator.apply(samples, weight, bias), int(stack)
        layers = stacked(size, dims, stack, input, weight, bias)
        return unstacked(LinearOperator.apply(*layers), size, stack)


def grad_bias_of(g: Tensor, stack: bool) -> Tensor:
    """∂L/∂b; for one sample without `GradBias`, which takes 0.3 ms under `vmap`."""
    if g.shape[int(stack) : -1].numel() == 1:
        return g.reshape(shape_of_grad_bias(g, stack)) + 0
    return GradBias.apply(g, stack)


class GradInput(Operator):
    """∂L/∂x = g W."""

    @staticmethod
    def forward(g, weight):
        return ops.grad_input(g, weight)

    @staticmethod
    def backward(ctx, h):
        g, weight = ctx.saved_tensors
        of_g, of_weight, *_ = wanted(ctx)
        return (
            LinearOperator.apply(h, weight, None) if of_g else None,
            GradWeight.apply(g, h, weight.dim() == 3) if of_weight else None,
        )

    @staticmethod
    def jvp(ctx, d_g, d_weight):
        g, weight = ctx.saved_tensors
        return added(
            None if d_g is None else GradInput.apply(d_g, weight),
            None if d_weight is None else GradInput.apply(g, d_weight),
        )

    @staticmethod
    def vmap(info, dims, g, weight):
        size, stack = info.batch_size, weight.dim() - (dims[1] is not None) == 3
        if dims[1] is None:
            return GradInput.apply(g.movedim(dims[0], int(stack)), weight), int(stack)
        return unstacked(GradInput.apply(*stacked(size, dims, stack, g, weight)), size, stack)


class GradWeight(Operator):
    """∂L/∂W = gᵀ x."""

    @staticmethod
    def forward(g, input, stack=False):
        return ops.grad_weight(g, input, stack)

    @staticmethod
    def backward(ctx, h):
        g, input = ctx.saved_tensors
        of_g, of_input, *_ = wanted(ctx)
        return (
            LinearOperator.apply(input, h, None) if of_g else None,
            GradInput.apply(g, h) if of_input else None,
            None,
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        Operator.setup_context(ctx, inputs, output)
        ctx.stack = output.dim() == 3

    @staticmethod
    def jvp(ctx, d_g, d_input, d_stack=None):
        g, input = ctx.saved_tensors
        return added(
            None if d_g is None else GradWeight.apply(d_g, input, ctx.stack),
            None if d_input is None else GradWeight.apply(g, d_input, ctx.stack),
        )

    @staticmethod
    def vmap(info, dims, g, input, stack=False):
        layers = stacked(info.batch_size, dims, stack, g, input)
        return unstacked(GradWeight.apply(*layers, True), info.batch_size, stack)


class GradBias(Operator):
    """∂L/∂b = Σₖ gₖ."""

    @staticmethod
    def forward(g, stack=False):
        return ops.grad_bias(g, stack)

    @staticmethod
    def backward(ctx, h):
        between = (1,) * (len(ctx.shape) - h.dim())
        return h.reshape(*h.shape[:-1], *between, h.shape[-1]).expand(ctx.shape), None

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.shape, ctx.stack = inputs[0].shape, output.dim() == 2

    @staticmethod
    def jvp(ctx, d_g, d_stack=None):
        return GradBias.apply(d_g, ctx.stack)

    @staticmethod
    def vmap(info, dims, g, stack=False):
        (layers,) = stacked(info.batch_size, dims, stack, g)
        return unstacked(GradBias.apply(layers, True), info.batch_size, stack)


def fake_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if weight.dim() == 2:
        check(input, weight, bias)
    return input.new_empty(shape_of_linear(input, weight))


def fake_of(shape: Callable[..., tuple[int, ...]]) -> Callable[..., Tensor]:
    return lambda g, *others: g.new_empty(shape(g, *others))


library = torch.library.Library("numba_linear", "DEF")

for schema, operator, kernel, fake in (
    (
        "linear(Tensor input, Tensor weight, Tensor? bias=None) -> Tensor",
        LinearOperator,
        run_linear,
        fake_linear,
    ),
    (
        "grad_input(Tensor g, Tensor weight) -> Tensor",
        GradInput,
        run_grad_input,
        fake_of(shape_of_grad_input),
    ),
    (
        "grad_weight(Tensor g, Tensor input, bool stack=False) -> Tensor",
        GradWeight,
        run_grad_weight,
        fake_of(shape_of_grad_weight),
    ),
    (
        "grad_bias(Tensor g, bool stack=False) -> Tensor",
        GradBias,
        run_grad_bias,
        fake_of(shape_of_grad_bias),
    ),
):
    name = "numba_linear::" + schema.partition("(")[0]
    library.define(schema, tags=torch.Tag.pt2_compliant_tag)
    library.impl(name, kernel, "CPU")
    torch.library.register_fake(name, fake, lib=library)
    torch.library.register_autograd(
        name, operator.backward, setup_context=operator.setup_context, lib=library
    )
    torch.library.register_vmap(name, operator.vmap, lib=library)

# --------------------------------------------------------------------------------------
# The eager path
# --------------------------------------------------------------------------------------

is_compiling, is_grad_enabled = torch.compiler.is_dynamo_compiling, torch.is_grad_enabled

# What intercepts every operation: `torch.func`, modes such as fake tensors', `torch.jit.trace`.
in_transform = torch._C._are_functorch_transforms_active
in_mode = torch._C._len_torch_dispatch_stack
in_trace = torch._C._get_tracing_state
overridden = torch.overrides.has_torch_function_variadic
is_batched = torch._C._functorch.is_legacy_batchedtensor


def run_plain(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    x, w, b = input.numpy(), weight.numpy(), None if bias is None else bias.numpy()
    if alone(x.size * len(w)):
        return from_numpy(forward(x, w, b, None, False))
    return from_numpy(on_threads(forward, x, w, b))


class Eager(Function):
    """The layer for plain tensors, in one step forward and one step back."""

    #: `apply` without what `Function.apply` does for transforms, which takes 2 µs.
    of = getattr_static(torch._C._FunctionBase, "apply", None)

    @staticmethod
    def forward(ctx, input, weight, bias):
        ctx.save_for_backward(input, weight)
        return run_plain(input, weight, bias)

    @staticmethod
    def backward(ctx, g):
        # A backward that cannot be differentiated would give a wrong second derivative.
        if is_grad_enabled() or in_transform() or in_mode() or is_batched(g):
            return LinearOperator.backward(ctx, g)
        input, weight = ctx.saved_tensors
        of_input, of_weight, of_bias = ctx.needs_input_grad
        g, x, w = g.numpy(force=True), input.numpy(), weight.numpy() if of_input else None
        serial = alone(x.size * g.shape[-1])
        if of_weight and of_bias:
            if serial:
                dx, dw, db = backward(g, x, w, "sum", None, False)
            else:
                dx, dw, db = on_threads(sum_all, g, x, w)
            return from_numpy(dx) if of_input else None, from_numpy(dw), from_numpy(db)
        one = run_serial if serial else on_threads
        return (
            from_numpy(one(grad_input, g, w)) if of_input else None,
            from_numpy(one(sum_weight, g, x)) if of_weight else None,
            from_numpy(one(sum_bias, g)) if of_bias else None,
        )


def run_serial(call: Callable[..., Any], *arrays: Any) -> Any:
    return call(*arrays, parallel=False)


def autocast(t: Any) -> Any:
    """Under autocast a tensor with fewer bits than float32 is converted to float32."""
    half = isinstance(t, Tensor) and t.dtype in (torch.float16, torch.bfloat16)
    return t.float() if half and torch.is_autocast_enabled("cpu") else t


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = W x + b with gradients, as `torch.nn.functional.linear`; equations ① to ⑫.

    The bits are those of `numba_linear.forward` and, in the backward pass, of `grad_input`,
    `grad_weight` and `grad_bias` with ``reduction="sum"``. A sample's result depends neither on
    its batch nor on `torch.set_num_threads`, which is honoured. Derivatives of any order, forward
    mode, `torch.func` and `torch.compile` work.

    Parameters
    ----------
    input : torch.Tensor, shape (n,) or (…, n)
        One sample, or a batch with any leading dimensions; float32 or float64, on the CPU, with
        any strides. Under autocast float16 and bfloat16 are cast to float32.
    weight : torch.Tensor, shape (m, n)
        The weight, out features first.
    bias : torch.Tensor, shape (m,), optional
        The bias.

    Returns
    -------
    torch.Tensor, shape (m,) or (…, m)

    Raises
    ------
    TypeError
        Arguments that are not dense tensors of one dtype, float32 or float64.
    ValueError
        Shapes that do not conform, or tensors that are not on the CPU.

    Examples
    --------
    >>> import torch
    >>> from numba_linear.torch import linear
    >>> x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    >>> w = torch.tensor([[1.0, 0.0, -1.0], [2.0, 1.0, 0.0]], requires_grad=True)
    >>> y = linear(x, w, torch.tensor([10.0, 20.0]))
    >>> y.tolist()
    [[8.0, 24.0], [8.0, 33.0]]
    >>> y.sum().backward()
    >>> w.grad.tolist()
    [[5.0, 7.0, 9.0], [5.0, 7.0, 9.0]]

    A NumPy array is refused; `torch.from_numpy` makes a tensor of it:

    >>> linear(x.numpy(), w)
    Traceback (most recent call last):
        ...
    TypeError: linear: input is of type ndarray; wanted a torch.Tensor of shape (…, n)
    """
    if is_compiling():
        if in_transform():  # operators fail in a transform while it is compiled
            torch._dynamo.graph_break()
        return ops.linear(autocast(input), autocast(weight), autocast(bias))
    if overridden(input, weight, bias):
        tensors = input, weight, bias
        return torch.overrides.handle_torch_function(linear, tensors, *tensors)
    # A dual tensor's tangent would be lost.
    if not (in_transform() or in_mode() or in_trace() or forward_ad._current_level >= 0):
        try:
            if is_grad_enabled() and (
                weight.requires_grad
                or input.requires_grad
                or (bias is not None and bias.requires_grad)
            ):
                return Eager.of(input, weight, bias)
            return run_plain(input, weight, bias)
        except (AttributeError, TypeError, ValueError, RuntimeError):
            pass  # not plain, or wrong: the code below finds out
    input, weight, bias = autocast(input), autocast(weight), autocast(bias)
    if in_trace():  # it records operators, and its shapes are not numbers
        return ops.linear(input, weight, bias)
    check(input, weight, bias)
    return LinearOperator.apply(input, weight, bias)


# --------------------------------------------------------------------------------------
# Modules
# --------------------------------------------------------------------------------------


class Linear(torch.nn.Linear):
    """A `torch.nn.Linear` that computes with `numba_linear.torch.linear`.

    Constructor, parameters, initial values and `state_dict` are those of `torch.nn.Linear`.

    Parameters
    ----------
    in_features : int
        n.
    out_features : int
        m.
    bias : bool
        False for a layer without one.
    device, dtype : optional
        As in PyTorch; the layer computes on the CPU, in float32 or float64.

    Examples
    --------
    >>> import torch
    >>> from numba_linear.torch import Linear
    >>> layer = Linear(3, 2)
    >>> x = torch.randn(5, 3)
    >>> torch.equal(layer(x)[4], layer(x[4]))
    True
    """

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def replace_linear(module: torch.nn.Module) -> int:
    """Make every `torch.nn.Linear` in a module a `Linear`, in place.

    Only a layer's class changes, so parameters, also tied ones, hooks, parametrizations and the
    state of optimizers stay. Subclasses of `torch.nn.Linear` with their own forward stay as they
    are, and so does code that multiplies by the weights itself.

    Parameters
    ----------
    module : torch.nn.Module
        Searched to any depth; it may be a `torch.nn.Linear` itself.

    Returns
    -------
    int
        How many layers were replaced.

    Raises
    ------
    TypeError
        `module` is not a `torch.nn.Module`.

    Examples
    --------
    >>> import torch
    >>> from numba_linear.torch import replace_linear
    >>> model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Linear(32, 10))
    >>> replace_linear(model)
    2
    """
    if not isinstance(module, torch.nn.Module):
        raise TypeError(
            f"replace_linear: module is of type {type(module).__name__}; wanted a torch.nn.Module"
        )
    count = 0
    for layer in module.modules():
        kind = type(layer)
        if kind is torch.nn.Linear:
            layer.__class__ = Linear
        elif is_parametrized(layer) and kind.__bases__ == (torch.nn.Linear,):
            # PyTorch made this class for this layer alone; make it again on another base.
            own = {k: v for k, v in vars(kind).items() if k not in ("__dict__", "__weakref__")}
            layer.__class__ = type(kind.__name__, (Linear,), own)
        else:
            continue
        count += 1
    return count

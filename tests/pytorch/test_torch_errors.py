"""Wrong calls of `numba_linear.torch` raise in the package's words, and so does its absence."""

import importlib
import sys

import numpy as np
import pytest
from processes import finish, start


def test_importing_the_package_does_not_import_pytorch():
    finish(start("-c", "import sys, numba_linear; assert 'torch' not in sys.modules"))


def test_without_pytorch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "numba_linear.torch", raising=False)
    words = r"PyTorch is not installed; install it with, in a clone: pip install -e '\.\[torch\]'"
    with pytest.raises(ModuleNotFoundError, match=words) as raised:
        importlib.import_module("numba_linear.torch")
    assert raised.value.name == "torch"


try:
    import torch
except ModuleNotFoundError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")


def wrong():
    """Arguments, the error, and its words."""
    x, w, b = torch.ones(2, 3), torch.ones(4, 3), torch.ones(4)
    yield (
        (np.ones((2, 3)), w),
        TypeError,
        "input is of type ndarray; wanted a torch.Tensor of shape (…, n)",
    )
    yield (x, None), TypeError, "weight is of type NoneType; wanted a torch.Tensor of shape (m, n)"
    yield (x, w, [1.0]), TypeError, "bias is of type list; wanted a torch.Tensor of shape (m,)"
    for dtype in (torch.bfloat16, torch.float16, torch.int64, torch.complex64, torch.bool):
        yield (
            (x.to(dtype), w.to(dtype)),
            TypeError,
            f"input has dtype {dtype}; wanted torch.float32 or torch.float64: cast with"
            " input.to(torch.float32)",
        )
    yield (
        (x, w.double()),
        TypeError,
        "input has dtype torch.float32 and weight has dtype torch.float64; wanted one dtype for"
        " all: cast with weight.to(input.dtype)",
    )
    yield (
        (x, w, b.bfloat16()),
        TypeError,
        "bias has dtype torch.bfloat16; wanted torch.float32 or torch.float64: cast with"
        " bias.to(torch.float32)",
    )
    yield (x.to_sparse(), w), TypeError, "input has layout torch.sparse_coo; wanted a dense tensor"
    yield (
        (x, w.to("meta")),
        ValueError,
        "weight is on meta; wanted all on the CPU: move with weight.cpu()",
    )
    yield (
        ((torch.ones(()), w)),
        ValueError,
        "input has 0 dimensions; wanted shape (…, n)",
    )
    yield (x, torch.ones(3)), ValueError, "weight has 1 dimension; wanted shape (m, n)"
    yield (x, torch.ones(2, 4, 3)), ValueError, "weight has 3 dimensions; wanted shape (m, n)"
    yield (x, w, torch.ones(1, 4)), ValueError, "bias has 2 dimensions; wanted shape (m,)"
    yield (
        (x, torch.ones(4, 5)),
        ValueError,
        "input has shape (2, 3) and weight has shape (4, 5); wanted input (…, n) and weight (m, n)"
        " with the same n",
    )
    yield (
        (x, w, torch.ones(1)),
        ValueError,
        "weight has shape (4, 3) and bias has shape (1,); wanted weight (m, n) and bias (m,) with"
        " the same m",
    )


@needs_torch
@pytest.mark.parametrize("case", range(18))
@pytest.mark.parametrize("trained", [False, True])
def test_what_is_wrong_is_said(case, trained):
    from numba_linear.torch import linear

    cases = list(wrong())
    assert len(cases) == 18
    arguments, kind, words = cases[case]
    if trained:
        for t in arguments:
            if isinstance(t, torch.Tensor) and (t.is_floating_point() or t.is_complex()):
                t.requires_grad_()
    with pytest.raises(kind) as raised:
        linear(*arguments)
    assert str(raised.value) == f"linear: {words}"


@needs_torch
def test_another_device():
    """Only the message is tested: no test machine has such a device."""
    from types import SimpleNamespace

    from numba_linear import torch as module

    class Elsewhere(torch.Tensor):
        device = SimpleNamespace(type="cuda", __str__=lambda self: "cuda:0")

    x = torch.ones(2, 3).as_subclass(Elsewhere)
    with pytest.raises(ValueError, match=r"linear: input is on .*; wanted all on the CPU"):
        module.check(x, torch.ones(4, 3), None)


@needs_torch
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors():
    from numba_linear.torch import linear

    nested = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)])
    with pytest.raises(TypeError, match="linear: input is a nested tensor; wanted a dense tensor"):
        linear(nested, torch.ones(4, 3))


@needs_torch
def test_a_wrong_shape_in_a_transform():
    from numba_linear.torch import linear

    with pytest.raises(ValueError, match=r"input has shape \(3,\) and weight has shape \(4, 5\)"):
        torch.func.vmap(linear, (0, None))(torch.ones(2, 3), torch.ones(4, 5))

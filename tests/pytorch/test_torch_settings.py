"""`numba_linear.torch` under PyTorch's modes, in its workers, and in forked processes."""

import os

import pytest
from processes import finish, start

torch = pytest.importorskip("torch", reason="not installed: pip install -e '.[torch]'")

from bits import assert_bits
from torch.utils.checkpoint import checkpoint

from numba_linear.torch import Linear, linear

F = torch.nn.functional


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(mode):
    layer = Linear(6, 4)
    x = torch.randn(3, 6)
    with mode():
        y = layer(x)
        again = layer(torch.randn(2, 6))
    assert not y.requires_grad and y.is_inference() == again.is_inference()
    assert torch.equal(y, layer(x))


def test_weights_of_inference_mode():
    with torch.inference_mode():
        layer = Linear(6, 4)
    x = torch.randn(3, 6)
    with torch.no_grad():
        assert torch.equal(layer(x), linear(x, layer.weight.clone(), layer.bias.clone()))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_autocast_computes_in_float32(half):
    layer = Linear(6, 4)
    x = torch.randn(3, 6)
    with torch.autocast("cpu", dtype=half):
        low = x.to(half).requires_grad_()
        y = layer(low)
        assert_bits(
            "float32 stays", layer(x).detach(), linear(x, layer.weight, layer.bias).detach()
        )
    assert y.dtype == torch.float32
    assert_bits("autocast", y.detach(), layer(low.detach().float()).detach())
    y.sum().backward()
    assert low.grad.dtype == half and layer.weight.grad.dtype == torch.float32


def test_autocast_leaves_a_network_s_bits():
    """Batch and row stay equal even if PyTorch's layers between them compute in half."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(Linear(64, 32), torch.nn.ReLU(), Linear(32, 10))
    x = torch.randn(8, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        y = model(x)
        assert all(torch.equal(model(x[k]), y[k]) for k in range(8))


def test_compiled_under_autocast():
    torch._dynamo.reset()
    layer = Linear(6, 4)
    x = torch.randn(3, 6).bfloat16()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_bits("compiled", compiled(x).detach(), layer(x).detach())


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoint(use_reentrant):
    layer = Linear(6, 4)
    x = torch.randn(3, 6, requires_grad=True)
    gradients = []
    for run in (layer, lambda x: checkpoint(layer, x, use_reentrant=use_reentrant)):
        x.grad = layer.weight.grad = None
        run(x).pow(2).sum().backward()
        gradients.append((x.grad, layer.weight.grad))
    for got, want in zip(*gradients, strict=True):
        assert_bits("checkpoint", got, want)


def test_saved_tensors_go_through_hooks():
    layer = Linear(6, 4)
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):
        layer(torch.randn(3, 6)).sum().backward()
    assert len(packed) == 2


class Named(torch.Tensor):
    pass


class Counting(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        Counting.seen = function
        return super().__torch_function__(function, types, args, kwargs or {})


def test_subclasses_stay_what_they_are():
    x, w = torch.randn(3, 6).as_subclass(Named), torch.randn(4, 6)
    y = linear(x, w)
    assert type(y) is Named
    assert torch.equal(y.as_subclass(torch.Tensor), linear(x.as_subclass(torch.Tensor), w))
    linear(x.as_subclass(torch.Tensor).as_subclass(Counting), w)
    assert Counting.seen is linear


def test_flops_and_profilers_see_the_operator():
    from torch.utils._python_dispatch import TorchDispatchMode

    names = []

    class Log(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            names.append(str(function))
            return function(*args, **(kwargs or {}))

    w = torch.randn(4, 6, requires_grad=True)
    with Log():
        linear(torch.randn(3, 6), w).sum().backward()
    assert "numba_linear.linear.default" in names
    assert "numba_linear.grad_weight.default" in names


class Rows(torch.utils.data.Dataset):
    """Samples that a layer has transformed, in the worker."""

    def __init__(self, layer, x):
        self.layer, self.x = layer, x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, k):
        with torch.no_grad():
            return self.layer(self.x[k])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked on POSIX")
def test_workers_forked_after_the_layer_ran():
    torch.manual_seed(0)
    layer = Linear(700, 900)
    x = torch.randn(6, 2, 700)
    with torch.no_grad():
        want = layer(x)
        layer(torch.randn(300, 700))  # on several threads
    loader = torch.utils.data.DataLoader(
        Rows(layer, x), batch_size=2, num_workers=2, multiprocessing_context="fork", timeout=120
    )
    assert_bits("workers", torch.cat(list(loader)), want)


FORK = """
import os
import torch
from numba_linear.torch import Linear

torch.set_num_threads(2)
torch.manual_seed(0)
layer, x = Linear(512, 256), torch.randn(512, 512)
with torch.no_grad():
    want = layer(x).numpy()
child = os.fork()
if not child:
    with torch.no_grad():
        same = (layer(x).numpy() == want).all()  # torch.equal may hang in a forked child
    os._exit(0 if same else 3)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_that_asks_for_threads():
    finish(start("-c", FORK))


def test_backward_in_other_threads():
    from concurrent.futures import ThreadPoolExecutor

    torch.manual_seed(0)
    x, w = torch.randn(512, 300), torch.randn(100, 300)

    def gradient(_):
        mine = w.clone().requires_grad_()
        linear(x, mine).pow(2).sum().backward()
        return mine.grad

    want = gradient(None)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(gradient, range(8)):
            assert_bits("thread", got, want)

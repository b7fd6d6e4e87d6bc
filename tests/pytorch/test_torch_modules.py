"""`Linear` is a `torch.nn.Linear`; `replace_linear` replaces only such layers."""

import copy
import doctest
import io
import pickle

import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install -e '.[torch]'")

from torch import nn
from torch.nn.utils import parametrizations

from numba_linear.torch import Linear, linear, replace_linear


def network():
    return nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 3))
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_linear_is_pytorch_s_with_other_bits(bias, dtype):
    torch.manual_seed(3)
    ours = Linear(6, 4, bias=bias, dtype=dtype)
    torch.manual_seed(3)
    theirs = nn.Linear(6, 4, bias=bias, dtype=dtype)
    assert isinstance(ours, nn.Linear)
    assert repr(ours) == repr(theirs)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value)
    x = torch.randn(5, 6, dtype=dtype)
    assert torch.equal(ours(x), linear(x, ours.weight, ours.bias))
    torch.testing.assert_close(ours(x), theirs(x))
    theirs.load_state_dict(ours.state_dict(), strict=True)
    ours.load_state_dict(theirs.state_dict(), strict=True)


def saved(layer):
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer)), saved]
)
def test_copies(again):
    layer = Linear(6, 4)
    other = again(layer)
    assert type(other) is Linear and other.weight is not layer.weight
    x = torch.randn(5, 6)
    assert torch.equal(other(x), layer(x))
    other(x).sum().backward()
    assert other.weight.grad is not None and layer.weight.grad is None


def test_replace_linear_shares_what_the_layers_had():
    model = network()
    parameters, keys = list(model.parameters()), list(model.state_dict())
    x = torch.randn(5, 6)
    before = model(x)
    assert replace_linear(model) == 3
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert list(model.state_dict()) == keys
    assert sum(type(layer) is Linear for layer in model.modules()) == 3
    torch.testing.assert_close(model(x), before)
    assert torch.equal(model(x)[2], model(x[2]))
    assert replace_linear(model) == 0


def test_replace_linear_of_a_layer_itself():
    layer = nn.Linear(6, 4)
    assert replace_linear(layer) == 1
    assert type(layer) is Linear


def test_tied_and_shared_layers():
    shared = nn.Linear(6, 6)
    tied = nn.Linear(6, 6)
    tied.weight = shared.weight
    model = nn.ModuleList([shared, shared, tied])
    assert replace_linear(model) == 2
    assert model[0] is model[1] and model[2].weight is model[0].weight
    model[2](model[1](model[0](torch.randn(4, 6)))).sum().backward()
    assert model[2].weight.grad is model[0].weight.grad


def test_hooks_modes_and_optimizers_stay():
    model = network().eval()
    seen = []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    replace_linear(model)
    assert not model[0].training
    before = model[0].weight.detach().clone()
    model(torch.randn(4, 6)).sum().backward()
    optimizer.step()
    assert seen == [1]
    assert not torch.equal(model[0].weight, before)


@pytest.mark.parametrize(
    "parametrization", [parametrizations.weight_norm, parametrizations.spectral_norm]
)
def test_parametrized_layers(parametrization):
    torch.manual_seed(0)
    layer = parametrization(nn.Linear(6, 4)).eval()
    other = copy.deepcopy(layer)  # its class is the one that PyTorch made for the layer
    x = torch.randn(5, 6)
    assert replace_linear(layer) == 1
    assert isinstance(layer, Linear) and not isinstance(other, Linear)
    assert type(layer).__name__ == type(other).__name__
    assert torch.equal(layer(x), linear(x, layer.weight, layer.bias))
    torch.testing.assert_close(layer(x), other(x))
    layer(x).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    torch.nn.utils.parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is Linear


class Scaled(nn.Linear):
    def forward(self, input):
        return 2 * super().forward(input)


def test_what_computes_otherwise_stays():
    model = nn.ModuleList([Scaled(6, 4), nn.Bilinear(2, 2, 2), nn.MultiheadAttention(6, 2)])
    kinds = [type(layer) for layer in model.modules()]
    assert replace_linear(model) == 0
    assert [type(layer) for layer in model.modules()] == kinds


def test_a_lazy_layer_once_it_has_a_shape():
    model = nn.Sequential(nn.LazyLinear(4))
    assert replace_linear(model) == 0
    model(torch.randn(3, 6))
    assert replace_linear(model) == 1
    assert model(torch.randn(3, 6)).shape == (3, 4)


def test_no_module():
    with pytest.raises(TypeError, match=r"replace_linear: module is of type list; wanted a torch"):
        replace_linear([nn.Linear(2, 2)])


def test_a_transformer_s_own_way_round_the_layer():
    """As the page says, in eval mode without gradients PyTorch does not call the layers."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    assert replace_linear(layer) == 2
    calls = []
    layer.linear1.register_forward_pre_hook(lambda *_: calls.append(1))
    layer.linear1._forward_pre_hooks.clear()
    layer.linear1.forward = lambda x: (
        calls.append(1) or linear(x, layer.linear1.weight, layer.linear1.bias)
    )
    x = torch.randn(2, 3, 8)
    with torch.no_grad():
        layer(x)
        assert calls == []
        enabled = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            layer(x)
        finally:
            torch.backends.mha.set_fastpath_enabled(enabled)
    assert calls == [1]


@pytest.mark.parametrize("public", [linear, Linear, replace_linear])
def test_a_docstring_s_example_runs(public):
    (example,) = doctest.DocTestFinder(recurse=False).find(public, public.__name__)
    result = doctest.DocTestRunner().run(example)
    assert result.attempted > 0
    assert result.failed == 0

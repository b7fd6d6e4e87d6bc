"""`numba_linear.torch` under PyTorch's own tests: derivatives, transforms, operators."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install -e '.[torch]'")

from bits import assert_bits
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import numba_linear as nl
from numba_linear.torch import Linear, linear

F = torch.nn.functional
ops = torch.ops.numba_linear

pytestmark = pytest.mark.filterwarnings(
    "ignore:Please use `torch.vmap`:FutureWarning",  # from gradcheck itself
    "ignore:.*torch.jit:DeprecationWarning",
)


def some(*shape, dtype=torch.float64, requires_grad=True):
    return torch.randn(*shape, dtype=dtype).requires_grad_(requires_grad)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


# --------------------------------------------------------------------------------------
# Derivatives
# --------------------------------------------------------------------------------------

ARGUMENTS = {
    "batch": (some(3, 5), some(4, 5), some(4)),
    "no bias": (some(3, 5), some(4, 5)),
    "one sample": (some(5), some(4, 5), some(4)),
    "many dimensions": (some(2, 1, 3, 5), some(4, 5), some(4)),
    "no samples": (some(0, 5), some(4, 5), some(4)),
    "strided": (some(5, 3).mT.detach().requires_grad_(), some(4, 5), some(4)),
    "only weight": (some(3, 5, requires_grad=False), some(4, 5), some(4, requires_grad=False)),
    "only input": (some(3, 5), some(4, 5, requires_grad=False)),
    "only bias": (some(3, 5, requires_grad=False), some(4, 5, requires_grad=False), some(4)),
}


@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
def test_gradcheck(arguments):
    checks = {"nondet_tol": 0, "check_forward_ad": True, "check_batched_grad": True}
    assert gradcheck(linear, arguments, check_batched_forward_grad=True, **checks)


@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
def test_gradgradcheck(arguments):
    checks = {"nondet_tol": 0, "check_fwd_over_rev": True, "check_batched_grad": True}
    assert gradgradcheck(linear, arguments, **checks)


OPERATORS = {
    "linear": [
        (some(3, 5), some(4, 5), some(4)),
        (some(3, 5), some(4, 5)),
        (some(5), some(4, 5)),
        (some(2, 3, 5), some(2, 4, 5), some(2, 4)),
    ],
    "grad_input": [
        (some(3, 4), some(4, 5)),
        (some(4), some(4, 5)),
        (some(2, 3, 4), some(2, 4, 5)),
    ],
    "grad_weight": [
        (some(3, 4), some(3, 5)),
        (some(4), some(5)),
        (some(2, 3, 4), some(2, 3, 5), True),
        (some(2, 4), some(2, 5), True),
    ],
    "grad_bias": [(some(3, 4),), (some(4),), (some(2, 3, 4), True), (some(2, 4), True)],
}
CASES = [(name, arguments) for name, cases in OPERATORS.items() for arguments in cases]


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_opcheck(name, arguments):
    torch.library.opcheck(getattr(ops, name), arguments)


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_operators_derivatives(name, arguments):
    operator = getattr(ops, name)
    tensors = [a for a in arguments if isinstance(a, torch.Tensor)]
    others = arguments[len(tensors) :]
    assert gradcheck(lambda *ts: operator(*ts, *others), tensors, nondet_tol=0)
    assert gradgradcheck(lambda *ts: operator(*ts, *others), tensors, nondet_tol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pytorch_s_own_samples(dtype):
    pytest.importorskip("expecttest", reason="PyTorch's samples need it: pip install expecttest")
    from torch.testing._internal.common_methods_invocations import op_db

    (info,) = (info for info in op_db if info.name == "nn.functional.linear")
    samples = list(info.sample_inputs("cpu", dtype, requires_grad=True))
    assert len(samples) >= 4
    for sample in samples:
        arguments = sample.input, *sample.args
        y = linear(*arguments, **sample.kwargs)
        torch.testing.assert_close(y, F.linear(*arguments, **sample.kwargs))
        x, w, *b = (t.detach().numpy() for t in arguments)
        assert_bits(f"{x.shape}, {w.shape}", y.detach(), nl.forward(x, w, *b))
        if dtype == torch.float64:
            assert gradcheck(linear, arguments, nondet_tol=0)


def test_second_derivative_of_the_eager_path():
    x, w = some(6, 5), some(4, 5)
    (dw,) = torch.autograd.grad(linear(x, w).pow(2).sum(), w, create_graph=True)
    dw.pow(2).sum().backward()
    want_x, want_w = x.grad.clone(), w.grad.clone()
    x.grad = w.grad = None
    (dw,) = torch.autograd.grad(F.linear(x, w).pow(2).sum(), w, create_graph=True)
    dw.pow(2).sum().backward()
    torch.testing.assert_close(want_x, x.grad)
    torch.testing.assert_close(want_w, w.grad)


def test_a_changed_input_is_noticed():
    x, w = some(3, 5, requires_grad=False), some(4, 5)
    y = linear(x, w)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_second_backward_needs_the_graph():
    y = linear(some(3, 5), some(4, 5)).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_forward_mode_without_a_gradient():
    """Even if nothing is recorded, a tangent must not get lost."""
    x, w, b, dx, dw, db = (
        some(*s, requires_grad=False) for s in ((3, 5), (4, 5), (4,), (3, 5), (4, 5), (4,))
    )
    with forward_ad.dual_level(), torch.no_grad():
        duals = [forward_ad.make_dual(*pair) for pair in ((x, dx), (w, dw), (b, db))]
        tangent = forward_ad.unpack_dual(linear(*duals)).tangent
    torch.testing.assert_close(tangent, F.linear(dx, w) + F.linear(x, dw, db))


# --------------------------------------------------------------------------------------
# torch.func
# --------------------------------------------------------------------------------------


def per_sample(layer, unsqueeze):
    """Per-sample gradients of weight and bias, by `vmap`."""

    def loss(parameters, x, label):
        x = x.unsqueeze(0) if unsqueeze else x
        return F.cross_entropy(layer(x, *parameters).reshape(1, -1), label.unsqueeze(0))

    return vmap(grad(loss), (None, 0, 0))


@pytest.mark.parametrize("unsqueeze", [False, True])
def test_per_sample_gradients_are_those_of_reduction_none(unsqueeze):
    x, w, b = (
        some(*s, dtype=torch.float32, requires_grad=False) for s in ((9, 64), (10, 64), (10,))
    )
    labels = torch.arange(9)
    dw, db = per_sample(linear, unsqueeze)((w, b), x, labels)
    y = linear(x, w, b).requires_grad_()
    F.cross_entropy(y, labels, reduction="sum").backward()
    assert_bits("weights", dw, nl.grad_weight(y.grad.numpy(), x.numpy(), "none"))
    assert_bits("biases", db, nl.grad_bias(y.grad.numpy(), "none"))


@pytest.mark.parametrize(
    "dims", [(0, None, None), (1, 1, 0), (None, 0, None), (None, None, 0), (0, 0, None), (0, 2, 1)]
)
@pytest.mark.parametrize("bias", [True, False])
def test_vmap(dims, bias):
    size = 6
    if not bias and dims == (None, None, 0):
        pytest.skip("nothing is mapped")

    def batched(shape, dim):
        return some(*shape) if dim is None else some(size, *shape).movedim(0, dim)

    x, w, b = (batched(s, d) for s, d in zip(((3, 5), (4, 5), (4,)), dims, strict=True))
    arguments, dims = ((x, w, b), dims) if bias else ((x, w), dims[:2])

    def each(t, dim, i):
        return t if dim is None else t.select(dim, i)

    def wanted(of):
        return torch.stack([of(*map(each, arguments, dims, [i] * len(dims))) for i in range(size)])

    assert_bits("vmap", vmap(linear, dims)(*arguments).detach(), wanted(linear).detach())
    for i in range(len(arguments)):
        gradient = grad(lambda *ts: linear(*ts).pow(2).sum(), i)
        assert_bits(
            f"gradient {i}", vmap(gradient, dims)(*arguments).detach(), wanted(gradient).detach()
        )


def test_vmap_of_vmap():
    x, w, b = some(2, 3, 7, 5), some(2, 4, 5), some(2, 4)
    got = vmap(vmap(linear, (0, None, None)))(x, w, b)
    want = vmap(vmap(F.linear, (0, None, None)))(x, w, b)
    torch.testing.assert_close(got, want)
    ensembles = some(2, 3, 4, 5)
    got = vmap(vmap(linear))(x, ensembles)
    want = vmap(vmap(F.linear))(x, ensembles)
    torch.testing.assert_close(got, want)

    def of_each(layer):
        return vmap(vmap(grad(lambda x, w: layer(x, w).pow(3).sum(), (0, 1))))(x, ensembles)

    for got, want in zip(of_each(linear), of_each(F.linear), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("transform", [jacrev, jacfwd, hessian])
@pytest.mark.parametrize("argument", [0, 1, 2])
def test_jacobians(transform, argument):
    arguments = some(3, 5), some(4, 5), some(4)

    def of(layer):
        return transform(lambda *ts: layer(*ts).pow(3).sum(0), argument)(*arguments)

    torch.testing.assert_close(of(linear), of(F.linear))


def test_jvp_and_vjp():
    arguments = some(3, 5), some(4, 5), some(4)
    tangents = some(3, 5), some(4, 5), some(4)
    torch.testing.assert_close(
        jvp(linear, arguments, tangents), jvp(F.linear, arguments, tangents)
    )
    g = some(3, 4)
    torch.testing.assert_close(vjp(linear, *arguments)[1](g), vjp(F.linear, *arguments)[1](g))


def test_gradients_of_per_sample_gradients():
    x, w, b, labels = some(4, 5), some(3, 5), some(3), torch.tensor([0, 1, 2, 0])

    def norms(layer):
        dw, db = per_sample(layer, True)((w, b), x, labels)
        return torch.autograd.grad(dw.pow(2).sum() + db.pow(3).sum(), (w, b, x))

    for got, want in zip(norms(linear), norms(F.linear), strict=True):
        torch.testing.assert_close(got, want)


def test_a_tensor_that_left_its_transform():
    left = []

    def loss(w):
        left.append(w)
        return w.sum()

    w = some(4, 5)
    grad(loss)(w)
    x = some(3, 5)
    assert torch.equal(linear(x, left[0]), linear(x, w))


@pytest.mark.filterwarnings("ignore:.*performance drop:UserWarning")
def test_jacobian_of_autograd_functional():
    x, w = some(3, 5), some(4, 5)
    for vectorize in (False, True):
        got = torch.autograd.functional.jacobian(linear, (x, w), vectorize=vectorize)
        want = torch.autograd.functional.jacobian(F.linear, (x, w))
        torch.testing.assert_close(got, want)


def test_functional_call_of_stacked_models():
    models = [Linear(5, 4) for _ in range(3)]
    parameters, _ = torch.func.stack_module_state(models)
    x = some(7, 5, dtype=torch.float32, requires_grad=False)
    got = vmap(lambda p: functional_call(models[0], p, (x,)))(parameters)
    assert_bits("ensemble", got.detach(), np.stack([m(x).detach() for m in models]))


# --------------------------------------------------------------------------------------
# Compilation
# --------------------------------------------------------------------------------------


def step(layer, x, w, b):
    return layer(torch.relu(layer(x, w, b)), w.mT).pow(2).sum()


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_has_the_bits_of_eager(dynamic):
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda x, w, b: step(linear, x, w, b), fullgraph=True, dynamic=dynamic, backend="aot_eager"
    )
    for K in (6, 9):
        arguments = [some(K, 5), some(4, 5), some(4)]
        results = []
        for run in (compiled, lambda x, w, b: step(linear, x, w, b)):
            value = run(*arguments)
            results.append((value.detach(), *torch.autograd.grad(value, arguments)))
        for got, want in zip(*results, strict=True):
            assert_bits("compiled", got, want)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # PyTorch's
def test_compile_around_a_transform_runs_it_uncompiled():
    torch._dynamo.reset()
    w, b, x = (some(*s, requires_grad=False) for s in ((4, 5), (4,), (6, 5)))
    for function, arguments in (
        (vmap(grad(lambda w, x: linear(x, w, b).pow(2).sum()), (None, 0)), (w, x)),
        (vmap(linear, (0, None, None)), (x, w, b)),
    ):
        compiled = torch.compile(function, backend="aot_eager")
        assert_bits("compiled", compiled(*arguments), function(*arguments))


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict):
    layer = Linear(5, 4)
    x = torch.randn(3, 5)
    exported = torch.export.export(layer, (x,), strict=strict)
    assert "numba_linear.linear" in str(exported.graph)
    assert torch.equal(exported.module()(x), layer(x))


def test_a_trace_holds_the_operator():
    layer = Linear(5, 4)
    traced = torch.jit.trace(layer, torch.randn(3, 5))
    assert "numba_linear::linear" in str(traced.graph)
    x = torch.randn(7, 5)
    assert torch.equal(traced(x), layer(x))


def test_make_fx_sees_the_operator():
    from torch.fx.experimental.proxy_tensor import make_fx

    x, w = some(3, 5, requires_grad=False), some(4, 5, requires_grad=False)
    for mode in ("real", "fake"):
        graph = make_fx(lambda x, w: linear(x, w), tracing_mode=mode)(x, w)
        assert "numba_linear.linear" in graph.code


def test_fake_and_meta_tensors_have_shapes_only():
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        assert linear(torch.empty(2, 3, 5), torch.empty(4, 5)).shape == (2, 3, 4)
    meta = Linear(5, 4, device="meta")
    assert meta(torch.empty(3, 5, device="meta")).shape == (3, 4)

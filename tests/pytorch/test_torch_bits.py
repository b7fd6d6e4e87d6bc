"""`numba_linear.torch`: the package's bits, forward and backward, on any number of threads."""

import hashlib

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install -e '.[torch]'")

from bits import assert_bits
from operations import DTYPES, expected, operands, values
from operations import OPERATIONS as CALLS

import numba_linear as nl
from numba_linear.torch import Linear, linear

F = torch.nn.functional

#: Batches of any shape, edges of tile and leaf, and a shape for which threads pay.
SHAPES = [
    ((), 3, 2),
    ((1,), 64, 64),
    ((7,), 300, 33),
    ((2, 3), 17, 9),
    ((2, 0, 3), 5, 4),
    ((0,), 5, 4),
    ((4,), 0, 3),
    ((4,), 3, 0),
    ((600,), 20, 10),
    ((300,), 64, 64),
]


@pytest.fixture(autouse=True)
def threads():
    """A function that sets PyTorch's number of threads, which is restored after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def tensors(given, *names):
    return [torch.from_numpy(getattr(given, name)).requires_grad_() for name in names]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("batch", "n", "m"), SHAPES)
def test_forward_and_gradients_are_the_equations(batch, n, m, dtype):
    given = operands(batch, n, m, dtype)
    x, w, b = tensors(given, "x", "w", "b")
    y = linear(x, w, b)
    y.backward(torch.from_numpy(given.g))
    assert_bits("y", y.detach(), expected(CALLS["forward"], given))
    assert_bits("x.grad", x.grad, expected(CALLS["grad_input"], given))
    assert_bits("w.grad", w.grad, expected(CALLS["grad_weight sum"], given))
    assert_bits("b.grad", b.grad, expected(CALLS["grad_bias sum"], given))
    assert_bits("without b", linear(x, w).detach(), expected(CALLS["forward without b"], given))


@pytest.mark.parametrize("wanted", range(1, 8))
def test_gradients_that_are_wanted_are_the_same_and_no_other_is_computed(wanted, monkeypatch):
    given = operands(5, 7, 6, np.float64)
    inputs = tensors(given, "x", "w", "b")
    for i, t in enumerate(inputs):
        t.requires_grad_(bool(wanted >> i & 1))
    for i, name in enumerate(("grad_input", "grad_weight", "grad_bias")):
        if not wanted >> i & 1:
            monkeypatch.setattr(f"numba_linear.torch.{name}", None)
    linear(*inputs).backward(torch.from_numpy(given.g))
    wants = nl.backward(given.g, given.x, given.w, "sum")
    for i, t in enumerate(inputs):
        if wanted >> i & 1:
            assert_bits("gradient", t.grad, wants[i])
        else:
            assert t.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_alone_is_the_row_in_its_batch(dtype):
    x, w, b = (torch.randn(*s, dtype=dtype) for s in ((64, 1000), (128, 1000), (128,)))
    y = linear(x, w, b)
    for k in range(64):
        assert torch.equal(linear(x[k], w, b), y[k])


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.mT.contiguous().mT,
        lambda t: t.repeat_interleave(2, -1)[..., ::2],
        lambda t: t.expand(3, *t.shape)[1],
        lambda t: torch.complex(t, -t).real,
        lambda t: torch.complex(t, -t).conj().imag,
    ],
    ids=["columns", "strided", "expanded", "of complex", "negative bit"],
)
def test_layouts(change):
    x, w, b, g = (
        torch.from_numpy(values(s, np.float64, 1)) for s in ((9, 5), (4, 5), (4,), (9, 4))
    )
    want = linear(x, w, b)
    x2, w2, g2 = (change(t).detach() for t in (x, w, g))
    assert torch.equal(x2, x) and torch.equal(w2, w)
    x2.requires_grad_(), w2.requires_grad_()
    y = linear(x2, w2, b)
    y.backward(g2)
    assert torch.equal(y, want)
    assert_bits("weight", w2.grad, nl.grad_weight(g.numpy(), x.numpy(), "sum"))
    assert_bits("input", x2.grad, nl.grad_input(g.numpy(), w.numpy()))


@pytest.mark.parametrize(
    ("batch", "n", "m"), [((300,), 64, 64), ((3000,), 64, 10), ((2,), 2000, 300)]
)
def test_threads_agree(batch, n, m, threads):
    given = operands(batch, n, m, np.float32)
    results = []
    for count in (1, 2, 4):
        threads(count)
        inputs = tensors(given, "x", "w", "b")
        y = linear(*inputs)
        y.backward(torch.from_numpy(given.g))
        results.append([y.detach(), *(t.grad for t in inputs)])
    for result in results[1:]:
        for got, want in zip(result, results[0], strict=True):
            assert_bits("threads", got, want)


def test_torch_s_number_of_threads_is_honoured(threads, monkeypatch):
    import numba

    seen, before = [], numba.get_num_threads()

    def spied(call):
        def spy(*arguments, **keywords):
            mode = keywords.get("parallel", arguments[4] if len(arguments) == 5 else None)
            seen.append((numba.get_num_threads(), mode))
            return call(*arguments, **keywords)

        return spy

    monkeypatch.setattr("numba_linear.torch.forward", spied(nl.forward))
    x, w = torch.randn(512, 512), torch.randn(64, 512)
    for count in (1, 2, 3, 4):
        threads(count)
        linear(x, w)
        linear(x[:1], w)
    # If it pays, as many threads as PyTorch has; else the caller's own.
    assert [mode for _, mode in seen] == [False, False] + [True, False] * 3
    assert [count for count, mode in seen if mode] == [2, 3, 4]
    assert numba.get_num_threads() == before


def trained(layer, optimizer, threads, steps=12):
    """The SHA-256 of a network's weights after training on that many threads."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        layer(64, 100), torch.nn.ReLU(), layer(100, 70), torch.nn.Tanh(), layer(70, 10)
    )
    x, labels = torch.randn(400, 64), torch.randint(0, 10, (400,))
    step = optimizer(model.parameters())
    for _ in range(steps):
        step.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        step.step()
    digest = hashlib.sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-4),
        lambda p: torch.optim.Adam(p, lr=1e-2),
    ],
    ids=["SGD", "Adam"],
)
def test_training_ends_with_the_same_weights_on_any_number_of_threads(optimizer):
    assert len({trained(Linear, optimizer, threads) for threads in (1, 2, 4)}) == 1


def test_micro_batches_of_whole_leaves_give_the_bits_of_the_batch():
    """Autograd adds micro-batches' gradients in order, which for up to three is the tree."""
    x, t = torch.randn(256 + 256 + 100, 30), torch.randn(256 + 256 + 100, 20)
    gradients = []
    for parts in ([612], [256, 256, 100]):
        torch.manual_seed(0)
        layer = Linear(30, 20)
        for xs, ts in zip(x.split(parts), t.split(parts), strict=True):
            (F.mse_loss(layer(xs), ts, reduction="sum") / t.numel()).backward()
        gradients.append((layer.weight.grad, layer.bias.grad))
    for whole, cut in zip(*gradients, strict=True):
        assert_bits("micro-batches", cut, whole)


def sums_go_on(model, samples):
    """An accumulator for each layer, which `backward()` feeds, for batches of so many samples."""
    accumulators = {}
    for layer in model.modules():
        if isinstance(layer, Linear):
            acc = nl.accumulator(layer.weight.detach().numpy(), samples)
            accumulators[layer] = acc

            def feed(layer, inputs, output, acc=acc):
                x = inputs[0].detach().numpy()
                output.register_hook(lambda g: nl.accumulate(acc, g.numpy(), x))

            layer.register_forward_hook(feed)
    return accumulators


def take_gradients(accumulators):
    """The gradients of all samples since the last time, in the place of autograd's."""
    for layer, acc in accumulators.items():
        d = nl.accumulated(acc, "sum")
        layer.weight.grad, layer.bias.grad = map(torch.from_numpy, d[1:])
        acc.samples[:] = 0


def trained_in(micro, threads, K=400):
    """The SHA-256 of a network's weights after training in micro-batches of so many samples."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = torch.nn.Sequential(Linear(64, 50), torch.nn.ReLU(), Linear(50, 10))
    x, labels = torch.randn(K, 64), torch.randint(0, 10, (K,))
    step = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    accumulators = sums_go_on(model, K) if micro else {}
    for _ in range(6):
        step.zero_grad()
        for xs, ls in zip(x.split(micro or K), labels.split(micro or K), strict=True):
            (F.cross_entropy(model(xs), ls, reduction="sum") / K).backward()
        take_gradients(accumulators)
        step.step()
    digest = hashlib.sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    return digest.hexdigest()


def test_micro_batches_through_accumulate_end_with_the_same_weights():
    cuts = {trained_in(micro, threads) for micro in (7, 32, 400) for threads in (1, 2)}
    assert cuts == {trained_in(0, 1)}

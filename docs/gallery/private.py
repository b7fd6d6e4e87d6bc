"""Private training: each sample's gradient is clipped, and noise is added to their sum (DP-SGD).

For one sample the norm of a layer's gradient is a product of two norms. So it is enough to scale
the rows of g, and no sample's gradient is stored.
"""

import numpy as np

from numba_linear import backward, forward, grad_bias, grad_weight
from numba_linear.commands.dataset import DIGITS, load

HIDDEN, BATCH, CLIP, RATE = 64, 128, 1.0, 0.25


def squared_norms(g, x):
    """Of each sample's gradient of W and b together: |g|² · (|x|² + 1)."""
    return (g * g).sum(axis=1) * ((x * x).sum(axis=1) + 1)


def errors(x, labels, w1, b1, w2, b2):
    """The second layer's input, and ∂ℓ/∂y of both layers, for the softmax cross-entropy."""
    hidden = np.maximum(forward(x, w1, b1), 0)
    g2 = forward(hidden, w2, b2)
    g2 = np.exp(g2 - g2.max(axis=1, keepdims=True))
    g2 /= g2.sum(axis=1, keepdims=True)
    g2[np.arange(len(g2)), labels] -= 1
    return hidden, backward(g2, hidden, w2).input * (hidden > 0), g2


def clipped_sums(x, hidden, g1, g2):
    """The sum over the samples of gradients no longer than CLIP, over both layers."""
    norms = np.sqrt(squared_norms(g1, x) + squared_norms(g2, hidden))
    scale = np.minimum(1, CLIP / np.maximum(norms, np.float32(1e-12)))[:, None]
    g1, g2 = g1 * scale, g2 * scale
    return [
        *(grad_weight(g1, x, "sum"), grad_bias(g1, "sum")),
        *(grad_weight(g2, hidden, "sum"), grad_bias(g2, "sum")),
    ]


def stored_sums(x, hidden, g1, g2, each):
    """The usual way: each sample's gradients are stored, clipped and summed."""
    grad_weight(g1, x, "none", out=each[0])
    grad_bias(g1, "none", out=each[1])
    grad_weight(g2, hidden, "none", out=each[2])
    grad_bias(g2, "none", out=each[3])
    flat = [a.reshape(len(a), -1) for a in each]
    norms = np.sqrt(sum(np.einsum("kp,kp->k", a, a) for a in flat))
    scale = np.minimum(1, CLIP / np.maximum(norms, np.float32(1e-12)))
    return [np.tensordot(scale, a, 1) for a in each]


def plain_sums(x, hidden, g1, g2):
    """Without privacy."""
    first, second = backward(g1, x, None, "sum"), backward(g2, hidden, None, "sum")
    return [first.weight, first.bias, second.weight, second.bias]


def network(data):
    rng = np.random.default_rng(0)
    n, m = data.x.shape[1], len(data.labels)
    shapes = (HIDDEN, n), (HIDDEN,), (m, HIDDEN), (m,)
    return [(rng.standard_normal(s) * s[-1] ** -0.5).astype(np.float32) for s in shapes]


def train(noise, epochs):
    """The accuracy after each epoch; `noise` is the deviation in units of CLIP."""
    data, rng, curve = load(DIGITS), np.random.default_rng(1), []
    net = network(data)
    for _ in range(epochs):
        for _ in range(len(data.x) // BATCH):
            rows = np.flatnonzero(rng.random(len(data.x)) < BATCH / len(data.x))
            given = errors(data.x[rows], data.y[rows], *net)
            for a, total in zip(net, clipped_sums(data.x[rows], *given), strict=True):
                total += (noise * CLIP * rng.standard_normal(a.shape)).astype(np.float32)
                a -= np.float32(RATE / BATCH) * total
        scores = forward(np.maximum(forward(data.x_test, *net[:2]), 0), *net[2:])
        curve.append(float(np.mean(scores.argmax(axis=1) == data.y_test)))
    return curve


def example(epochs=40):
    return {"accuracy": {str(noise): train(noise, epochs) for noise in (0.0, 1.0, 4.0)}}


def contest():
    data = load(DIGITS)
    given = (data.x[:BATCH], *errors(data.x[:BATCH], data.y[:BATCH], *network(data)))
    each = [np.empty((BATCH, *a.shape), np.float32) for a in network(data)]
    for a, b in zip(clipped_sums(*given), stored_sums(*given, each), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    return {
        "numba_linear": lambda: clipped_sums(*given),
        "a gradient for each sample": lambda: stored_sums(*given, each),
        "without clipping": lambda: plain_sums(*given),
    }

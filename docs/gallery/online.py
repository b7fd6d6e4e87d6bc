"""A network trained online: one sample at a time, inside `@njit`.

It predicts the next value of a signal from the eight before it, and learns from each value as soon
as it arrives. Half way through the signal changes, and the network adapts.
"""

import numpy as np
from numba import njit

from numba_linear import Gradients, backward, forward

N, HIDDEN, RATE = 8, 32, 0.02


@njit
def learn(signal, w1, b1, w2, b2):
    """The squared error of each prediction; the weights change in place."""
    errors = np.empty(len(signal) - N)
    hidden, y, g = np.empty(HIDDEN), np.empty(1), np.empty(1)
    d2 = Gradients(np.empty(HIDDEN), np.empty((1, HIDDEN)), np.empty(1))
    d1 = Gradients(None, np.empty((HIDDEN, N)), np.empty(HIDDEN))
    for t in range(len(errors)):
        x = signal[t : t + N]
        forward(x, w1, b1, hidden)
        for i in range(HIDDEN):
            hidden[i] = np.tanh(hidden[i])
        forward(hidden, w2, b2, y)
        g[0] = y[0] - signal[t + N]
        errors[t] = g[0] ** 2

        backward(g, hidden, w2, "sum", d2)
        for i in range(HIDDEN):
            d2.input[i] *= 1 - hidden[i] ** 2
        backward(d2.input, x, None, "sum", d1)
        for i in range(HIDDEN):
            for l in range(N):  # noqa: E741
                w1[i, l] -= RATE * d1.weight[i, l]
            w2[0, i] -= RATE * d2.weight[0, i]
            b1[i] -= RATE * d1.bias[i]
        b2[0] -= RATE * g[0]
    return errors


def numpys_learn(signal, w1, b1, w2, b2):
    """The usual way: the same, by NumPy."""
    errors = np.empty(len(signal) - N)
    for t in range(len(errors)):
        x = signal[t : t + N]
        hidden = np.tanh(w1 @ x + b1)
        g = w2 @ hidden + b2 - signal[t + N]
        errors[t] = g[0] ** 2
        back = (g @ w2) * (1 - hidden**2)
        w2 -= RATE * np.outer(g, hidden)
        b2 -= RATE * g
        w1 -= RATE * np.outer(back, x)
        b1 -= RATE * back
    return errors


def signal_of(samples):
    """The logistic map's chaos, smoothed, and from the middle on another one."""
    z, found = 0.3, np.empty(samples)
    for t in range(samples):
        growth = 3.8 if t < samples // 2 else 3.99
        z = growth * z * (1 - z)
        found[t] = 2 * z - 1 if t < samples // 2 else 1 - 2 * z
    return found


def network():
    rng = np.random.default_rng(0)
    shapes = (HIDDEN, N), (HIDDEN,), (1, HIDDEN), (1,)
    return [rng.standard_normal(shape) / shape[-1] ** 0.5 for shape in shapes]


def example(samples=200_000):
    errors = learn(signal_of(samples), *network())
    part = max(1, len(errors) // 200)
    return {
        "samples": samples,
        "part": part,
        "errors": [
            float(np.mean(errors[i : i + part])) for i in range(0, len(errors) - part + 1, part)
        ],
    }


def contest(samples=5000):
    signal = signal_of(samples)
    np.testing.assert_allclose(
        learn(signal[:100], *network()), numpys_learn(signal[:100], *network()), rtol=1e-6
    )
    return {
        "numba_linear": lambda: learn(signal, *network()),
        "NumPy": lambda: numpys_learn(signal, *network()),
    }

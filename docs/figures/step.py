"""What `reduction` does to training: least squares by gradient descent, K = 64."""

import matplotlib.pyplot as plt
import numpy as np
from common import BLUE, GREEN, ORANGE

from numba_linear import backward, forward

K, n, m = 64, 8, 3
RATE, STEPS = 0.1, 60


def losses(scale, reduction):
    """The mean loss before each step, with g times `scale` and that reduction."""
    rng = np.random.default_rng(1)
    x, true = rng.standard_normal((K, n)), rng.standard_normal((m, n))
    target = forward(x, true)
    w, b = np.zeros((m, n)), np.zeros(m)
    found = []
    for _ in range(STEPS):
        g = forward(x, w, b) - target
        loss = 0.5 * (g * g).sum() / K
        found.append(loss)
        if loss > 1e4:
            break
        d = backward(scale * g, x, w, reduction)
        w -= RATE * d.weight
        b -= RATE * d.bias
    return found


def step():
    _, axes = plt.subplots(figsize=(5.2, 2.9))
    for label, color, scale, reduction in (
        ('g, "mean"', BLUE, 1, "mean"),
        ('g / K, "mean": divided twice', GREEN, 1 / K, "mean"),
        ('g, "sum": never divided', ORANGE, 1, "sum"),
    ):
        found = losses(scale, reduction)
        axes.semilogy(found, label=label, color=color, marker="." if len(found) < 20 else None)
    axes.set_xlabel("step")
    axes.set_ylabel("loss, mean over the batch")
    axes.set_ylim(1e-3, 1e5)
    axes.grid(alpha=0.25)
    axes.legend()

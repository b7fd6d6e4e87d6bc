"""A surrogate inside an ODE solver's right-hand side.

A network learns a van der Pol oscillator's acceleration. A compiled solver then calls it.
"""

import numpy as np
from numba import njit

from numba_linear import backward, forward

HIDDEN = 32


def acceleration(state):
    """The function to learn; it stands for one that takes long to compute."""
    return (1 - state[..., 0] ** 2) * state[..., 1] - state[..., 0]


@njit
def train(x, y, w1, b1, w2, b2, w3, b3, rng, rounds, batch):
    """Least squares by Adam; the weights change in place."""
    theta = (w1.ravel(), b1, w2.ravel(), b2, w3[0], b3)
    first, second = [np.zeros_like(a) for a in theta], [np.zeros_like(a) for a in theta]
    for t in range(1, rounds + 1):
        rows = rng.integers(0, len(x), batch)
        h1 = np.tanh(forward(x[rows], w1, b1))
        h2 = np.tanh(forward(h1, w2, b2))
        g = forward(h2, w3, b3) - y[rows]
        d3 = backward(g, h2, w3)
        d2 = backward(d3.input * (1 - h2 * h2), h1, w2)
        d1 = backward(d2.input * (1 - h1 * h1), x[rows], None)
        slopes = (d1.weight.ravel(), d1.bias, d2.weight.ravel(), d2.bias, d3.weight[0], d3.bias)
        for p in range(6):
            first[p] += 0.1 * (slopes[p] - first[p])
            second[p] += 0.001 * (slopes[p] ** 2 - second[p])
            step = first[p] / (1 - 0.9**t) / (np.sqrt(second[p] / (1 - 0.999**t)) + 1e-8)
            theta[p][:] -= 0.003 * (1 - t / rounds) * step


@njit
def slope(state, w1, b1, w2, b2, w3, b3, h1, h2, out):
    forward(state, w1, b1, h1)
    forward(np.tanh(h1), w2, b2, h2)
    return np.array([state[1], forward(np.tanh(h2), w3, b3, out)[0]])


@njit
def solve(state, w1, b1, w2, b2, w3, b3, h, steps):
    net = (w1, b1, w2, b2, w3, b3, np.empty(len(b1)), np.empty(len(b2)), np.empty(1))
    path = np.empty((steps + 1, 2))
    path[0] = state
    for i in range(steps):
        k1 = slope(path[i], *net)
        k2 = slope(path[i] + h / 2 * k1, *net)
        k3 = slope(path[i] + h / 2 * k2, *net)
        k4 = slope(path[i] + h * k3, *net)
        path[i + 1] = path[i] + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return path


def pythons_solve(state, right, h, steps):
    """The usual way: the same solver in Python, with a right-hand side in NumPy."""
    path = [np.asarray(state)]
    for _ in range(steps):
        state = path[-1]
        k1 = right(state)
        k2 = right(state + h / 2 * k1)
        k3 = right(state + h / 2 * k2)
        k4 = right(state + h * k3)
        path.append(state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
    return np.array(path)


def network(rounds):
    rng = np.random.default_rng(0)
    x = rng.uniform((-3, -5), (3, 5), (20_000, 2))
    shapes = (HIDDEN, 2), (HIDDEN,), (HIDDEN, HIDDEN), (HIDDEN,), (1, HIDDEN), (1,)
    net = [rng.standard_normal(shape) / shape[-1] ** 0.5 for shape in shapes]
    train(x, acceleration(x)[:, None], *net, rng, rounds, 64)
    return net


def example(rounds=30_000, steps=2000):
    start = np.array([0.5, 0.0])
    exact = pythons_solve(start, lambda s: np.array([s[1], acceleration(s)]), 0.01, steps)
    path = solve(start, *network(rounds), 0.01, steps)
    return {"exact": exact[::10].tolist(), "surrogate": path[::10].tolist()}


def contest(steps=2000):
    start, net = np.array([0.5, 0.0]), network(10)
    w1, b1, w2, b2, w3, b3 = net

    def right(s):
        hidden = np.tanh(w2 @ np.tanh(w1 @ s + b1) + b2)
        return np.array([s[1], (w3 @ hidden + b3)[0]])

    usual = lambda: pythons_solve(start, right, 0.01, steps)  # noqa: E731
    return {"numba_linear": lambda: solve(start, *net, 0.01, steps), "NumPy": usual}

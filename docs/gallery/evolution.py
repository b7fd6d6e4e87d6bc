"""A policy inside a simulation, trained by evolution strategies.

A network of two hidden layers swings up a pendulum. Each generation tries a population of
networks, each in its own iteration of `prange`: network p has slices w[p] of the weights.
"""

import numpy as np
from numba import njit, prange

from numba_linear import forward

SHAPES = (16, 3), (16,), (16, 16), (16,), (1, 16), (1,)
SIZES = [int(np.prod(shape)) for shape in SHAPES]
SPREAD, RATE = 0.1, 0.05


@njit
def relu(values):
    for i in range(len(values)):
        values[i] = max(values[i], 0.0)


@njit
def episode(w1, b1, w2, b2, w3, b3, angles):
    """The mean cost of a step; `angles` takes the angle at each step, 0 is upright."""
    seen, first, second, torque = np.empty(3), np.empty(16), np.empty(16), np.empty(1)
    angle, speed, cost = np.pi, 0.0, 0.0
    for step in range(len(angles)):
        angles[step] = angle
        seen[0], seen[1], seen[2] = np.cos(angle), np.sin(angle), speed / 8
        relu(forward(seen, w1, b1, first))
        relu(forward(first, w2, b2, second))
        u = 2 * np.tanh(forward(second, w3, b3, torque)[0])
        cost += 1 - np.cos(angle) + 0.01 * speed**2 + 0.001 * u**2
        speed = min(max(speed + (15 * np.sin(angle) + 3 * u) * 0.05, -8.0), 8.0)
        angle += speed * 0.05
    return cost / len(angles)


@njit(parallel=True)
def generation(w1, b1, w2, b2, w3, b3, steps):
    costs = np.empty(len(w1))
    for p in prange(len(w1)):
        costs[p] = episode(w1[p], b1[p], w2[p], b2[p], w3[p], b3[p], np.empty(steps))
    return costs


def numpys_generation(w1, b1, w2, b2, w3, b3, steps):
    """The usual way: each step for the whole population, by NumPy."""
    angle, speed, cost = np.full(len(w1), np.pi), np.zeros(len(w1)), np.zeros(len(w1))
    for _ in range(steps):
        seen = np.stack([np.cos(angle), np.sin(angle), speed / 8], axis=1)[:, :, None]
        first = np.maximum(w1 @ seen + b1[:, :, None], 0)
        second = np.maximum(w2 @ first + b2[:, :, None], 0)
        u = 2 * np.tanh(w3 @ second + b3[:, :, None])[:, 0, 0]
        cost += 1 - np.cos(angle) + 0.01 * speed**2 + 0.001 * u**2
        speed = np.clip(speed + (15 * np.sin(angle) + 3 * u) * 0.05, -8, 8)
        angle += speed * 0.05
    return cost / steps


def networks(numbers):
    """A population's weights and biases, each (population, …), cut out of its numbers."""
    parts = np.split(numbers, np.cumsum(SIZES)[:-1], axis=1)
    return [
        np.ascontiguousarray(part).reshape(-1, *shape)
        for part, shape in zip(parts, SHAPES, strict=True)
    ]


def example(generations=300, population=128, steps=200):
    rng = np.random.default_rng(0)
    mean = np.concatenate([rng.standard_normal(s).ravel() / s[-1] ** 0.5 for s in SHAPES])
    curve = []
    for _ in range(generations):
        noise = rng.standard_normal((population // 2, len(mean)))
        noise = np.concatenate([noise, -noise])
        costs = generation(*networks(mean + SPREAD * noise), steps)
        curve.append(float(np.median(costs)))
        ranks = costs.argsort().argsort() / (population - 1) - 0.5
        mean -= RATE * (ranks @ noise) / (population * SPREAD) * 4
    angles = np.empty(steps)
    final = episode(*(part[0] for part in networks(mean[None])), angles)
    return {"cost": curve, "angles": angles.tolist(), "final": float(final)}


def contest(population=128, steps=200):
    given = networks(np.random.default_rng(0).standard_normal((population, sum(SIZES))) / 4)
    np.testing.assert_allclose(generation(*given, 5), numpys_generation(*given, 5))
    return {
        "numba_linear": lambda: generation(*given, steps),
        "NumPy": lambda: numpys_generation(*given, steps),
    }


if __name__ == "__main__":
    print(example()["cost"][::50])

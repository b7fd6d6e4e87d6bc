"""A policy inside a simulation: the time of a step with the package, loops, and `np.dot`.

`python docs/figures/measure.py policy` measures and writes `policy.json`, which the page "Inside
@njit" shows.
"""

import math
from time import perf_counter

import numpy as np
from common import read, write
from numba import njit

from numba_linear import forward
from numba_linear.commands import info

#: Units of each of two hidden layers.
HIDDEN = (8, 16, 32, 64)
STEPS, ROUNDS = 20_000, 25


@njit
def package(x, w, b, y):
    forward(x, w, b, y)


@njit
def loops(x, w, b, y):
    for i in range(w.shape[0]):
        s = b[i]
        for l in range(w.shape[1]):  # noqa: E741
            s += w[i, l] * x[l]
        y[i] = s


@njit
def dot(x, w, b, y):
    np.dot(w, x, y)
    for i in range(w.shape[0]):
        y[i] += b[i]


@njit
def no_layer(x, w, b, y):
    y[:] = b


LAYERS = {"numba_linear": package, "plain loops": loops, "np.dot": dot, "no layer": no_layer}


def simulation(layer):
    @njit
    def swing_up(w1, b1, w2, b2, w3, b3, steps):
        seen, first, second, torque = np.empty(3), b1.copy(), b2.copy(), np.empty(1)
        angle, speed, cost = np.pi, 0.0, 0.0
        for _ in range(steps):
            seen[0], seen[1], seen[2] = np.cos(angle), np.sin(angle), speed
            layer(seen, w1, b1, first)
            for i in range(len(first)):
                first[i] = max(first[i], 0.0)
            layer(first, w2, b2, second)
            for i in range(len(second)):
                second[i] = max(second[i], 0.0)
            layer(second, w3, b3, torque)
            u = min(max(torque[0], -2.0), 2.0)
            cost += angle**2 + 0.1 * speed**2 + 0.001 * u**2
            speed += (15 * np.sin(angle) + 3 * u) * 0.05
            speed = min(max(speed, -8.0), 8.0)
            angle += speed * 0.05
        return cost

    return swing_up


def measure():
    cells = []
    for hidden in HIDDEN:
        rng = np.random.default_rng(0)
        shapes = (hidden, 3), (hidden,), (hidden, hidden), (hidden,), (1, hidden), (1,)
        given = [rng.standard_normal(shape) / shape[-1] for shape in shapes]
        runs = {name: simulation(layer) for name, layer in LAYERS.items()}
        least = dict.fromkeys(runs, math.inf)
        for run in runs.values():
            run(*given, 1)
        for _ in range(ROUNDS):
            for name, run in runs.items():
                start = perf_counter()
                run(*given, STEPS)
                least[name] = min(least[name], (perf_counter() - start) / STEPS)
        cells.append({"policy": f"3 → {hidden} → {hidden} → 1", "seconds": least})
    facts = info.versions("numba_linear", "numba", "numpy", "scipy") | info.threads()
    write("policy", {"facts": facts, "steps": STEPS, "rounds": ROUNDS, "cells": cells})


def words():
    measured = read("policy")
    rows = [f"| nanoseconds a step | {' | '.join(LAYERS)} |", "|---|" + "---|" * len(LAYERS)]
    for cell in measured["cells"]:
        times = " | ".join(f"{1e9 * cell['seconds'][name]:.0f}" for name in LAYERS)
        rows.append(f"| {cell['policy']} | {times} |")
    facts = measured["facts"]
    return {
        "policy_table": "\n".join(rows),
        "policy_machine": (
            f"{facts['processor']}; {facts['Python']}, numba {facts['numba']}, NumPy"
            f" {facts['numpy']}, SciPy {facts['scipy']}"
        ),
    }

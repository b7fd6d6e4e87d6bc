"""A weight stored as it is and transposed: microseconds of forward and grad_input.

On a quiet machine, `python docs/figures/measure.py stored` measures in a quarter of a minute and
writes `stored.json`, which the quick start shows.
"""

import functools
import timeit

import numpy as np
from common import facts, machine, read, write

from numba_linear import forward, grad_input
from numba_linear.commands.peers import set_threads
from numba_linear.commands.timing import Contestant
from numba_linear.commands.timing import measure as measure_times

#: Samples, inputs, outputs and dtype.
CASES = (
    (1, 1000, 1000, "float32"),
    (1, 1024, 1024, "float32"),
    (8, 1024, 1024, "float32"),
    (64, 1024, 1024, "float32"),
    (1, 1000, 1000, "float64"),
    (64, 2048, 2048, "float64"),
)
CALLS = ("forward(x, w)", "forward(x, wt.T)", "grad_input(g, w)", "grad_input(g, wt.T)")


def seconds(samples, n, m, dtype):
    rng = np.random.default_rng(0)
    x, g, w = (rng.standard_normal(s).astype(dtype) for s in ((samples, n), (samples, m), (m, n)))
    wt = np.ascontiguousarray(w.T)
    y, dx = np.empty_like(g), np.empty_like(x)

    def timed(call, a, weight, out):
        given = functools.partial(call, a, weight, out=out, parallel=False)
        return timeit.Timer(given).timeit

    runs = (
        timed(forward, x, w, y),
        timed(forward, x, wt.T, y),
        timed(grad_input, g, w, dx),
        timed(grad_input, g, wt.T, dx),
    )
    times = measure_times([Contestant(*each) for each in zip(CALLS, runs, strict=True)], 1.5)
    return {name: min(each) for name, each in times.items()}


def measure():
    set_threads(1)
    cells = [{"case": case, "seconds": seconds(*case)} for case in CASES]
    write("stored", {"facts": facts(), "cells": cells})


def table(measured):
    lines = [f"| | {' | '.join(f'`{call}`' for call in CALLS)} |", "|---|---|---|---|---|"]
    for cell in measured["cells"]:
        samples, n, m, dtype = cell["case"]
        numbers = (f"{1e6 * cell['seconds'][call]:.0f}" for call in CALLS)
        what = f"{samples} sample{'s' * (samples > 1)}, {n} × {m}, {dtype}"
        lines.append(f"| {what} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def words():
    """What the pages say of it."""
    measured = read("stored")
    return {"stored": table(measured), "stored_machine": machine(measured["facts"])}

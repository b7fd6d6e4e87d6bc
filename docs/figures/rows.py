"""The bits of rows alone and in a batch, on one thread and all, in one layout and another.

`python docs/figures/measure.py rows` measures NumPy, PyTorch and this package and writes
`rows.json`, which the page on reproducibility shows.
"""

import itertools

import numba
import numpy as np
from common import facts, machine, read, write

K = 64
#: Rows of the smaller batch, the first of the whole one.
FEW = 7
INPUTS, OUTPUTS = (64, 784, 1000, 4096), (10, 128, 1000)
DTYPES = ("float32", "float64")


def contestants(threads):
    """forward(x, w, b) and Gᵀ X of NumPy arrays on that many threads, by name."""
    import threadpoolctl
    import torch

    from numba_linear import forward, grad_weight

    numba.set_num_threads(threads)
    threadpoolctl.threadpool_limits(threads, user_api="blas")
    torch.set_num_threads(threads)

    def torch_forward(x, w, b):
        tensors = map(torch.from_numpy, (x, w, b))
        return torch.nn.functional.linear(*tensors).numpy()

    return {
        "numba_linear": (forward, lambda g, x: grad_weight(g, x, "sum")),
        "NumPy": (lambda x, w, b: x @ w.T + b, lambda g, x: g.T @ x),
        "PyTorch": (
            torch_forward,
            lambda g, x: (torch.from_numpy(g).T @ torch.from_numpy(x)).numpy(),
        ),
    }


def operands(n, m, dtype):
    rng = np.random.default_rng(n * m)
    shapes = {"x": (K, n), "w": (m, n), "b": (m,), "g": (K, m)}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def same(a, b):
    return a.tobytes() == b.tobytes()


def measure():
    threads = numba.config.NUMBA_NUM_THREADS
    cells = []
    for dtype, n, m in itertools.product(DTYPES, INPUTS, OUTPUTS):
        arrays = operands(n, m, dtype)
        x, w, b, g = (arrays[name] for name in "xwbg")
        results = {}
        for count in (1, threads):
            for name, (forward, weight) in contestants(count).items():
                results[name, count] = forward(x, w, b), weight(g, x)
        for name, (forward, weight) in contestants(1).items():
            batch, gradient = results[name, 1]
            alone = [forward(np.ascontiguousarray(x[k]), w, b) for k in range(K)]
            few = forward(np.ascontiguousarray(x[:FEW]), w, b)
            many_batch, many_gradient = results[name, threads]
            columns = np.asfortranarray(x)
            cells.append(
                {
                    "dtype": dtype,
                    "n": n,
                    "m": m,
                    "name": name,
                    "rows": sum(not same(alone[k], batch[k]) for k in range(K)),
                    "few": sum(not same(few[k], batch[k]) for k in range(FEW)),
                    "numbers": int(np.sum(np.array(alone) != batch)),
                    "threads": int(not same(many_batch, batch))
                    + int(not same(many_gradient, gradient)),
                    "layout": int(not same(np.ascontiguousarray(forward(columns, w, b)), batch))
                    + int(not same(np.ascontiguousarray(weight(g, columns)), gradient)),
                }
            )
    write("rows", {"facts": facts(), "K": K, "few": FEW, "threads": threads, "cells": cells})


def table(measured):
    """A row for each contestant, as Markdown."""
    K, few, lines = measured["K"], measured["few"], []
    for name in dict.fromkeys(cell["name"] for cell in measured["cells"]):
        own = [cell for cell in measured["cells"] if cell["name"] == name]
        counts = {
            key: sum(cell[key] for cell in own)
            for key in ("rows", "numbers", "few", "threads", "layout")
        }
        part = 100 * counts["numbers"] / sum(K * cell["m"] for cell in own)
        lines.append(
            f"| {name} | {counts['rows']} of {K * len(own)} | {part:.3g} % |"
            f" {counts['few']} of {few * len(own)} | {counts['threads']} of {2 * len(own)} |"
            f" {counts['layout']} of {2 * len(own)} |"
        )
    head = (
        f"| | rows, alone | numbers, alone | rows, in a batch of {few} |"
        f" results, 1 thread and {measured['threads']} | results, layout of x |\n"
        "|---|---|---|---|---|---|\n"
    )
    return head + "\n".join(lines)


def words():
    """What the pages say of it."""
    measured = read("rows")
    shapes = measured["cells"]
    return {
        "rows_table": table(measured),
        "rows_n": ", ".join(str(n) for n in dict.fromkeys(cell["n"] for cell in shapes)),
        "rows_m": ", ".join(str(m) for m in dict.fromkeys(cell["m"] for cell in shapes)),
        "rows_K": str(measured["K"]),
        "rows_few": str(measured["few"]),
        "rows_machine": machine(measured["facts"]),
    }

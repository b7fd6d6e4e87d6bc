"""PyTorch with this package's layer: what changes bits, and the layer's time.

`python docs/figures/measure.py pytorch` writes the bits to `pytorch.json`, in half a minute, and
`pytorch_speed` the times to `pytorch_speed.json`, on a quiet machine in some minutes. The page
"From PyTorch, from np.dot" shows both.
"""

import functools
import hashlib
import itertools
import math
import timeit
from pathlib import Path
from time import perf_counter

import numpy as np
from common import facts, machine, read, write

import numba_linear
from numba_linear.commands.groups import GROUPS
from numba_linear.commands.timing import Contestant
from numba_linear.commands.timing import measure as measure_times

DTYPES = ("float32", "float64")
THREADS = (1, 2)

# --------------------------------------------------------------------------------------
# Bits
# --------------------------------------------------------------------------------------

#: Epochs of a network 64 → 256 → 10 over the digits, in batches of 256.
EPOCHS, BATCH = 20, 256
#: Samples, and features, for the parts of a model that are not linear layers.
K, WIDTHS = 64, (10, 64, 100, 1000, 4096)


def digits():
    import torch

    with np.load(Path(numba_linear.__file__).parent / "data" / "digits.npz") as stored:
        x = stored["x"].astype(np.float32) / 16
        return torch.from_numpy(x), torch.from_numpy(stored["y"].astype(np.int64))


def network(layer):
    import torch

    return torch.nn.Sequential(layer(64, 256), torch.nn.ReLU(), layer(256, 10))


def trained(layer, threads):
    """A trained network, the SHA-256 of its weights, and the part of its answers that is right."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    x, labels = digits()
    model = network(layer)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), labels[batch]).backward()
            optimizer.step()
    weights = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
    with torch.no_grad():
        right = (model(x).argmax(1) == labels).double().mean().item()
    return model, hashlib.sha256(weights).hexdigest(), right


def trainings():
    import torch

    from numba_linear.torch import Linear

    cells = []
    for name, layer in (("torch.nn.Linear", torch.nn.Linear), ("Linear", Linear)):
        results = {threads: trained(layer, threads) for threads in THREADS}
        torch.set_num_threads(1)
        model, x = results[1][0], digits()[0]
        with torch.no_grad():
            y = model(x)
            rows = sum(not torch.equal(model(x[k]), y[k]) for k in range(len(x)))
        cells.append(
            {
                "name": name,
                "sha256": {str(threads): result[1] for threads, result in results.items()},
                "right": {str(threads): result[2] for threads, result in results.items()},
                "rows": rows,
                "samples": len(x),
            }
        )
    return cells


def row_by_row():
    """Functions of (K, n) with a result for each sample, by name."""
    import torch
    from torch.nn import functional as F

    def attention(x):
        heads = x.reshape(len(x), 1, -1, 2)
        return F.scaled_dot_product_attention(heads, heads, heads)

    def convolution(x):
        torch.manual_seed(0)
        kernel = torch.randn(8, 1, 3, dtype=x.dtype)
        return F.conv1d(x.unsqueeze(1), kernel, padding=1)

    def normalised(x):
        ones = torch.ones(x.shape[1], dtype=x.dtype)
        return F.batch_norm(x, ones / 3, ones * 2, ones, ones)

    def gradient(x):
        labels = (x[:, 0] > 0).long()
        x = x.clone().requires_grad_()
        F.cross_entropy(x, labels, reduction="sum").backward()
        return x.grad

    return {
        "relu": F.relu,
        "gelu": F.gelu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "softmax": lambda x: F.softmax(x, 1),
        "log_softmax": lambda x: F.log_softmax(x, 1),
        "gradient of cross_entropy": gradient,
        "layer_norm": lambda x: F.layer_norm(x, x.shape[1:]),
        "batch_norm, evaluating": normalised,
        "scaled_dot_product_attention": attention,
        "conv1d": convolution,
    }


def over_the_batch():
    """Functions of (K, n) that add over samples or update weights, by name."""
    import torch
    from torch.nn import functional as F

    def updated(optimizer, **settings):
        def run(x):
            torch.manual_seed(0)
            w = torch.nn.Parameter(torch.randn_like(x))
            step = optimizer([w], lr=0.01, **settings)
            for _ in range(3):
                w.grad = x * w.detach()
                step.step()
            return w.detach()

        return run

    def clipped(x):
        w = torch.nn.Parameter(x.clone())
        w.grad = x.clone()
        torch.nn.utils.clip_grad_norm_([w], 0.5)
        return w.grad

    def batch_norm(x):
        return F.batch_norm(x, None, None, training=True)

    return {
        "sum and mean of all": lambda x: torch.stack([x.sum(), x.mean()]),
        "sum over the batch": lambda x: x.sum(0),
        "value of mse_loss": lambda x: F.mse_loss(x, x.flip(0)),
        "batch_norm, training": batch_norm,
        "clip_grad_norm_": clipped,
        "SGD": updated(torch.optim.SGD, momentum=0.9),
        "Adam": updated(torch.optim.Adam),
        "AdamW": updated(torch.optim.AdamW),
    }


def others():
    import torch

    cells = []
    alone = row_by_row()
    for name, function in {**alone, **over_the_batch()}.items():
        changed = {"name": name, "rows": 0, "of_rows": 0, "threads": 0, "of_threads": 0}
        for dtype, n in itertools.product(DTYPES, WIDTHS):
            rng = np.random.default_rng(n)
            x = torch.from_numpy(rng.standard_normal((K, n)).astype(dtype))
            results = []
            for threads in THREADS:
                torch.set_num_threads(threads)
                results.append(function(x))
            changed["threads"] += not torch.equal(*results)
            changed["of_threads"] += 1
            if name in alone:
                torch.set_num_threads(1)
                own = torch.cat([function(x[k : k + 1]) for k in range(K)])
                different = (own != results[0]).reshape(K, -1).any(1)
                changed["rows"] += int(different.sum())
                changed["of_rows"] += K
        cells.append(changed)
    return cells


def measure():
    measured = {"facts": facts(), "epochs": EPOCHS, "batch": BATCH, "K": K, "widths": WIDTHS}
    write("pytorch", measured | {"trained": trainings(), "others": others()})


# --------------------------------------------------------------------------------------
# Time
# --------------------------------------------------------------------------------------

SMALL = ((1, 64, 64), (32, 64, 64))
PER_SAMPLE = ((256, 64, 10), (256, 784, 128))
#: Unmeasured seconds before a turn on several threads: the previous contestant's helper threads
#: still spin.
SETTLE = 0.12


def layers():
    import torch

    import numba_linear.torch as ours

    return {
        "ours": (ours.linear, ours.Linear),
        "PyTorch": (torch.nn.functional.linear, torch.nn.Linear),
    }


def statements(shape, dtype):
    """The calls that are timed, each a function of the layer, by name."""
    import torch

    samples, n, m = shape
    torch.manual_seed(0)

    def some(*sizes):
        return torch.randn(*sizes, dtype=getattr(torch, dtype))

    x, g = some(samples, n), some(samples, m)
    w, b = some(m, n).requires_grad_(), some(m).requires_grad_()
    own = x.clone().requires_grad_()

    def without(linear):
        with torch.no_grad():
            linear(x, w, b)

    def both(linear):
        own.grad = w.grad = b.grad = None
        linear(own, w, b).backward(g)

    return {
        "forward": lambda linear: linear(x, w, b),
        "no_grad": without,
        "forward + backward": both,
    }


def training_step(layer, dtype):
    """A step of SGD, on a batch, of the network that is trained above."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    dtype = getattr(torch, dtype)
    model = network(layer).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, labels = torch.randn(BATCH, 64, dtype=dtype), torch.randint(0, 10, (BATCH,))

    def step():
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return step


def per_sample(linear, shape, dtype):
    import torch

    samples, n, m = shape
    dtype = getattr(torch, dtype)
    x, labels = torch.randn(samples, n, dtype=dtype), torch.randint(0, m, (samples,))
    parameters = torch.randn(m, n, dtype=dtype), torch.randn(m, dtype=dtype)

    def loss(parameters, x, label):
        y = linear(x, *parameters).unsqueeze(0)
        return torch.nn.functional.cross_entropy(y, label.unsqueeze(0))

    of_each = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))
    return lambda: of_each(parameters, x, labels)


def timed(calls, threads, seconds):
    """The least seconds of each call, alternating in one process, on this number of threads."""
    import torch

    torch.set_num_threads(threads)

    def prepare(call):
        end = perf_counter() + SETTLE
        while threads > 1 and perf_counter() < end:
            call()

    contestants = [
        Contestant(name, timeit.Timer(call).timeit, functools.partial(prepare, call))
        for name, call in calls.items()
    ]
    return {name: min(times) for name, times in measure_times(contestants, seconds).items()}


def cells_of(group, shapes, dtypes, threads, operations, seconds):
    cells = []
    for dtype, shape, count in itertools.product(dtypes, shapes, threads):
        for operation in operations:
            call = statements(shape, dtype)[operation]
            calls = {
                name: functools.partial(call, linear) for name, (linear, _) in layers().items()
            }
            cell = {"group": group, "shape": shape, "dtype": dtype, "threads": count}
            cells.append(cell | {"operation": operation, "times": timed(calls, count, seconds)})
    return cells


PARTS = ("small", "network", "medium", "large float32", "large float64")


def measure_speed(names=PARTS):
    """Measure some parts again, each in at most four minutes, and keep the others."""
    try:
        known = read("pytorch_speed")["cells"]
    except FileNotFoundError:
        known = []
    cells = [
        cell
        for cell in known
        if not {cell["group"], f"{cell['group']} {cell['dtype']}"} & set(names)
    ]
    both = ("forward", "forward + backward")
    if "small" in names:
        operations = ("forward", "no_grad", "forward + backward")
        cells += cells_of("small", SMALL, DTYPES, (1,), operations, 2)
    if "medium" in names:
        cells += cells_of("medium", GROUPS["medium"].shapes, DTYPES, THREADS, both, 1)
    for dtype in DTYPES:
        if f"large {dtype}" in names:
            cells += cells_of("large", GROUPS["large"].shapes, (dtype,), THREADS, both, 1)
    for dtype in DTYPES if "network" in names else ():
        cell = {"group": "network", "dtype": dtype, "threads": 1}
        calls = {name: training_step(layer, dtype) for name, (_, layer) in layers().items()}
        cell |= {"operation": "training step", "shape": (BATCH, 64, 256)}
        cells.append(cell | {"times": timed(calls, 1, 3)})
        for shape in PER_SAMPLE:
            calls = {
                name: per_sample(linear, shape, dtype) for name, (linear, _) in layers().items()
            }
            cell |= {"operation": "per sample", "shape": shape}
            cells.append(cell | {"times": timed(calls, 1, 3)})
    write("pytorch_speed", {"facts": facts(), "cells": cells})


# --------------------------------------------------------------------------------------
# Words
# --------------------------------------------------------------------------------------


def trained_table(measured):
    lines = []
    for cell in measured["trained"]:
        shas = [f"`{sha[:8]}…`" for sha in cell["sha256"].values()]
        rights = " and ".join(f"{100 * right:.2f} %" for right in cell["right"].values())
        lines.append(
            f"| `{cell['name']}` | {' | '.join(shas)} | {rights} |"
            f" {cell['rows']} of {cell['samples']} |"
        )
    return (
        "| layer | weights, 1 thread | weights, 2 threads | right answers |"
        " rows that change in the batch |\n|---|---|---|---|---|\n" + "\n".join(lines)
    )


def others_table(measured):
    lines = []
    for cell in measured["others"]:
        rows = f"{cell['rows']} of {cell['of_rows']}" if cell["of_rows"] else "–"
        lines.append(f"| {cell['name']} | {rows} | {cell['threads']} of {cell['of_threads']} |")
    return (
        "| PyTorch's | rows that change in the batch | results that change with 2 threads |\n"
        "|---|---|---|\n" + "\n".join(lines)
    )


def ratio(cell):
    return cell["times"]["ours"] / cell["times"]["PyTorch"]


def chosen(measured, **wanted):
    return [
        ratio(cell)
        for cell in measured["cells"]
        if all(cell[key] == value for key, value in wanted.items())
    ]


def speed_table(measured):
    lines = []
    for shape in SMALL:
        for dtype in DTYPES:
            numbers = [
                chosen(measured, shape=list(shape), dtype=dtype, operation=operation)[0]
                for operation in ("forward", "no_grad", "forward + backward")
            ]
            lines.append(f"| {shape}, {dtype} | " + " | ".join(f"{r:.2f}" for r in numbers) + " |")
    for group, threads in itertools.product(("medium", "large"), THREADS):
        texts = []
        for operation in ("forward", "forward + backward"):
            found = chosen(measured, group=group, threads=threads, operation=operation)
            mean = math.exp(sum(map(math.log, found)) / len(found))
            texts.append(f"{mean:.2f} ({min(found):.2f} to {max(found):.2f})")
        lines.append(
            f"| {group}, {threads} thread{'s' * (threads > 1)} | {texts[0]} | | {texts[1]} |"
        )
    return (
        "| (K, n, m) or group | forward | under `no_grad` | forward and backward |\n"
        "|---|---|---|---|\n" + "\n".join(lines)
    )


def both_dtypes(ratios):
    """The ratios of float32 and float64, or one if they are equal."""
    texts = [f"{ratio:.2f}" for ratio in ratios]
    return texts[0] if len(set(texts)) == 1 else " and ".join(texts)


def words():
    """What the pages say of it."""
    measured, speed = read("pytorch"), read("pytorch_speed")
    step = chosen(speed, operation="training step")
    few, many = (chosen(speed, operation="per sample", shape=list(shape)) for shape in PER_SAMPLE)
    return {
        "pytorch_trained": trained_table(measured),
        "pytorch_others": others_table(measured),
        "pytorch_speed": speed_table(speed),
        "pytorch_step": both_dtypes(step),
        "pytorch_few": both_dtypes(few),
        "pytorch_many": both_dtypes(many),
        "pytorch_epochs": str(measured["epochs"]),
        "pytorch_batch": str(measured["batch"]),
        "pytorch_K": str(measured["K"]),
        "pytorch_widths": ", ".join(map(str, measured["widths"])),
        "pytorch_machine": machine(measured["facts"]),
        "pytorch_speed_machine": machine(speed["facts"]),
    }

"""Chunks, leaves and tree as a picture, and the table of times of the page on clusters.

On a quiet machine with the extra `dask`, `python docs/figures/measure.py cluster` measures the
calls beside what a user of Dask would write, and writes `cluster.json`.
"""

import time

import matplotlib.pyplot as plt
from common import BLUE, GREY, ORANGE, PURPLE, SKY, read, write

from numba_linear.equations import LEAF
from numba_linear.stretch import Node, stretch

# --------------------------------------------------------------------------------------
# The picture
# --------------------------------------------------------------------------------------

CHUNKS = (680, 720, 648)


def chunks():
    """A batch of eight leaves in three chunks: what each chunk sums, and the rows it hands on."""
    _, axes = plt.subplots(figsize=(5.6, 3.5))
    K = sum(CHUNKS)
    start = 0
    for q, samples in enumerate(CHUNKS):
        axes.add_patch(
            plt.Rectangle((start + 6, 3.05), samples - 12, 0.5, facecolor=SKY, alpha=0.5)
        )
        axes.text(
            start + samples / 2, 3.3, f"chunk {q}: {start} … {start + samples - 1}",
            ha="center", va="center", fontsize=8,
        )  # fmt: skip
        for piece in stretch(lambda a: (a,), LEAF, start, (_Samples(samples),)):
            draw(axes, piece)
        start += samples
    for boundary in range(0, K + 1, LEAF):
        axes.plot([boundary, boundary], [1.25, 2.75], color=GREY, linewidth=0.7, linestyle=":")
        axes.text(boundary, 1.2, str(boundary), ha="center", va="top", fontsize=7, color=GREY)
    axes.text(K + 40, 3.3, "chunks", va="center", fontsize=9)
    axes.text(K + 40, 2.3, "stretches", va="center", fontsize=9)
    axes.text(K + 40, 0.75, "leaves", va="center", fontsize=9)
    tree(axes, K // LEAF)
    axes.set_xlim(-30, K + 380)
    axes.set_ylim(-1.5, 3.7)
    axes.axis("off")


class _Samples:
    """Rows that are drawn: only their number matters."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return self.samples

    def __getitem__(self, part):
        return _Samples(part.stop - part.start)

    def copy(self):
        return self


def draw(axes, piece):
    node = isinstance(piece, Node)
    samples = piece.size if node else len(piece.rows[0])
    color, text = (BLUE, f"sum of\n{samples}") if node else (PURPLE, f"{samples}\nrows")
    style = {"facecolor": color, "alpha": 0.85 if node else 0.35}
    axes.add_patch(plt.Rectangle((piece.start + 6, 1.95), samples - 12, 0.7, **style))
    axes.text(
        piece.start + samples / 2, 2.3, text, ha="center", va="center", fontsize=7,
        color="white" if node else "black",
    )  # fmt: skip


def tree(axes, leaves):
    """The additions of the leaves."""
    level, ends = 0, [(q + 0.5) * LEAF for q in range(leaves)]
    y = 0.75
    for end in ends:
        axes.plot([end], [y], marker="s", color=BLUE, markersize=5)
    circle = {"boxstyle": "circle,pad=0.12", "facecolor": "white", "edgecolor": ORANGE}
    while len(ends) > 1:
        level += 1
        above = [(a + b) / 2 for a, b in zip(ends[::2], ends[1::2], strict=True)]
        below, y = y, y - 0.65
        for at, pair in zip(above, zip(ends[::2], ends[1::2], strict=True), strict=True):
            for end in pair:
                axes.plot([end, at], [below, y], color=ORANGE, linewidth=1.2, zorder=0)
            axes.text(at, y, "+", ha="center", va="center", fontsize=8, bbox=circle)
        ends = above
    axes.text(ends[0] + 90, y, "the sum of the batch", va="center", fontsize=9)


# --------------------------------------------------------------------------------------
# The times
# --------------------------------------------------------------------------------------

#: K, n, m and samples to a chunk.
SHAPES = (
    (2_000_000, 64, 10, 50_000),
    (2_000_000, 64, 10, 65_536),
    (400_000, 256, 256, 10_000),
    (400_000, 256, 256, 16_384),
)
ROUNDS = 11


def measure():
    import dask.array as da
    import numpy as np
    from distributed import Client, LocalCluster, wait

    import numba_linear
    from numba_linear.commands import info
    from numba_linear.dask import forward, grad_weight

    def seconds(array):
        start = time.perf_counter()
        wait(array.persist())
        return time.perf_counter() - start

    cells = []
    options = {"threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": ":0"}
    with LocalCluster(n_workers=2, **options) as cluster, Client(cluster) as client:
        one = np.ones((1, 1), np.float32)
        for call in (numba_linear.forward, numba_linear.grad_weight):
            client.run(call, one, one, parallel=False)
        for K, n, m, samples in SHAPES:
            rng = da.random.default_rng(0)
            x, g = (
                rng.standard_normal((K, f), chunks=(samples, -1), dtype=np.float32).persist()
                for f in (n, m)
            )
            wait([x, g])
            w, b = np.ones((m, n), np.float32), np.ones(m, np.float32)
            contestants = {
                ("grad_weight", "Dask"): lambda g=g, x=x, K=K: g.T @ x / np.float32(K),
                ("grad_weight", "ours"): lambda g=g, x=x: grad_weight(g, x),
                ("forward", "Dask"): lambda x=x, w=w, b=b: x @ w.T + b,
                ("forward", "ours"): lambda x=x, w=w, b=b: forward(x, w, b),
            }
            times = {name: [] for name in contestants}
            for _ in range(ROUNDS):
                for name, make in contestants.items():
                    times[name].append(seconds(make()))
            for operation in ("grad_weight", "forward"):
                least = {who: min(times[operation, who]) for who in ("Dask", "ours")}
                shape = {"K": K, "n": n, "m": m, "chunk": samples}
                cells.append({"operation": operation, **shape, **least})
            del x, g, contestants
    facts = info.versions("numba_linear", "numba", "numpy", "dask", "distributed")
    write("cluster", {"facts": facts, "rounds": ROUNDS, "cells": cells})


def words():
    measured = read("cluster")
    rows = ["| K, n → m | samples to a chunk | grad_weight | forward |", "|---|---|---|---|"]
    cells = measured["cells"]
    for weight, forward in zip(cells[::2], cells[1::2], strict=True):
        ratios = [f"{cell['ours'] / cell['Dask']:.2f}" for cell in (weight, forward)]
        K, n, m, samples = (weight[letter] for letter in ("K", "n", "m", "chunk"))
        rows.append(f"| {K:,}, {n} → {m} | {samples:,} | {ratios[0]} | {ratios[1]} |")
    facts = measured["facts"]
    machine = (
        f"{facts['processor']}; {facts['Python']}, numba {facts['numba']}, NumPy"
        f" {facts['numpy']}, Dask {facts['dask']}"
    )
    return {
        "cluster_times": "\n".join(rows),
        "cluster_rounds": str(measured["rounds"]),
        "cluster_machine": machine,
    }

"""The gallery's pictures, and the time of each example beside the usual way.

`python docs/figures/measure.py gallery` runs the examples and writes `gallery.json`;
`gallery_speed` times them, alternating with the usual way, and writes `gallery_speed.json`.
"""

import importlib
import math
import sys
from pathlib import Path
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from common import BLUE, GREEN, GREY, ORANGE, PANEL, read, write

from numba_linear.commands import info

EXAMPLES = ("evolution", "surrogate", "same_bits", "private", "pytorch_digits", "online")
#: Rounds, and the fewest seconds of a contestant's turn.
ROUNDS, TURN = 11, 0.02
PACKAGES = ("numba_linear", "numba", "numpy", "torch", "dask")


def modules():
    sys.path.insert(0, str(Path(__file__).parents[1] / "gallery"))
    return {name: importlib.import_module(name) for name in EXAMPLES}


def short(value):
    """Numbers to four digits, enough for a picture."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: short(x) for key, x in value.items()}
    return [short(x) for x in value] if isinstance(value, list | tuple) else value


def measure():
    found = {name: short(module.example()) for name, module in modules().items()}
    write("gallery", {"facts": info.versions(*PACKAGES)} | found)


def seconds(run, count):
    start = perf_counter()
    for _ in range(count):
        run()
    return (perf_counter() - start) / count


def measure_speed():
    """On one thread."""
    import numba
    import torch
    from threadpoolctl import threadpool_limits

    numba.set_num_threads(1)
    torch.set_num_threads(1)
    threadpool_limits(1)
    found = {}
    for name, module in modules().items():
        contest, counts = module.contest(), {}
        for way, run in contest.items():
            run()
            counts[way] = max(1, math.ceil(TURN / seconds(run, 1)))
        least = dict.fromkeys(contest, math.inf)
        for _ in range(ROUNDS):
            for way, run in contest.items():
                least[way] = min(least[way], seconds(run, counts[way]))
        found[name] = least
    facts = info.versions(*PACKAGES)
    write("gallery_speed", {"facts": facts, "seconds": short(found)})


def words():
    measured = read("gallery_speed")
    facts, found = measured["facts"], {}
    for name, times in measured["seconds"].items():
        for way, time in times.items():
            word = way.split()[-1].replace("-", "_")
            found[f"gallery_{name}_{word}"] = f"{1e3 * time:.3g} ms"
        usual = next(time for way, time in times.items() if "numba_linear" not in way)
        found[f"gallery_{name}_ratio"] = f"{usual / times['numba_linear']:.2g}"
    versions = ", ".join(f"{name} {facts[name]}" for name in PACKAGES[1:])
    return found | {"gallery_machine": f"{facts['processor']}; {facts['Python']}, {versions}"}


def panel(**labels):
    _, axes = plt.subplots(figsize=PANEL)
    axes.set(**labels)
    return axes


def evolution():
    measured = read("gallery")["evolution"]
    _, (left, right) = plt.subplots(1, 2, figsize=(2 * PANEL[0], PANEL[1]))
    left.plot(measured["cost"], color=BLUE)
    left.set(xlabel="generation", ylabel="median cost of a step", ylim=0)
    left.set_title("The population learns")
    angles = np.degrees(np.array(measured["angles"]))
    right.plot(np.arange(len(angles)) * 0.05, angles, color=BLUE)
    right.axhline(0, color=GREY, lw=0.8, ls="--")
    right.set(xlabel="seconds", ylabel="angle, degrees", yticks=(0, 90, 180, 270))
    right.set_title("The last network swings up (dashed: upright)")


def surrogate():
    measured = read("gallery")["surrogate"]
    axes = panel(xlabel="position", ylabel="speed", title="A limit cycle of a network")
    axes.plot(*np.array(measured["exact"]).T, color=GREY, lw=4, alpha=0.4, label="equation")
    axes.plot(*np.array(measured["surrogate"]).T, color=BLUE, lw=1.2, label="surrogate")
    axes.legend(loc="upper left")


def hashes(rows, title):
    """Who trained, how, and the first digits of the weights' SHA-256, each in its own colour."""
    _, axes = plt.subplots(figsize=(5.6, 0.42 * len(rows) + 0.7))
    colors = dict(
        zip(dict.fromkeys(sha for *_, sha in rows), (BLUE, ORANGE, GREEN, GREY), strict=False)
    )
    for i, (name, way, sha) in enumerate(rows):
        axes.text(0.0, -i, name, va="center")
        axes.text(1.3, -i, way, va="center")
        box = {"facecolor": colors[sha], "edgecolor": "none", "boxstyle": "round,pad=0.3"}
        axes.text(2.7, -i, sha[:16], va="center", family="monospace", color="white", bbox=box)
    axes.set(xlim=(0, 4.4), ylim=(0.6 - len(rows), 0.6))
    axes.set_title(title, loc="left")
    axes.axis("off")


def same_bits():
    measured = read("gallery")["same_bits"]
    rows = [(who, way, sha) for who, own in measured.items() for way, (sha, _) in own.items()]
    hashes(rows, "SHA-256 of the trained weights")


def private():
    measured = read("gallery")["private"]["accuracy"]
    axes = panel(xlabel="epoch", ylabel="accuracy on the test digits", title="Clipped and noised")
    for (noise, curve), color in zip(measured.items(), (BLUE, GREEN, ORANGE), strict=True):
        axes.plot(range(1, len(curve) + 1), curve, color=color, label=f"noise {float(noise):g}")
    axes.legend(loc="lower right")


def pytorch_digits():
    measured = read("gallery")["pytorch_digits"]
    rows = [
        (who, f"{threads} thread{'s' * (threads != '1')}", run["sha256"])
        for who, own in measured.items()
        for threads, run in own.items()
    ]
    hashes(rows, "SHA-256 of the trained model")


def online():
    measured = read("gallery")["online"]
    axes = panel(xlabel="sample", ylabel="mean squared error", title="The signal changes half way")
    errors = measured["errors"]
    axes.semilogy((np.arange(len(errors)) + 0.5) * measured["part"], errors, color=BLUE)
    axes.axvline(measured["samples"] / 2, color=GREY, lw=0.8, ls="--")
    axes.ticklabel_format(axis="x", style="plain")
    axes.set_xticks((0, measured["samples"] / 2, measured["samples"]))

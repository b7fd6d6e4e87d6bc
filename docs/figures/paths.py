"""What each special path of the engine brings: times without it and with it.

On a quiet machine, `python docs/figures/measure.py paths` measures in twelve minutes and writes
`paths.json`, which the engineers' notebook shows. Each path is switched off by its tunables, in a
process of its own, as `tests/cpu/tuned.py` does; the two processes take turns.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).parents[2]
NEVER = 1 << 40
KINDS = "avx512", "avx2", "baseline", "aarch64"
FORWARD, INPUT, WEIGHT = "forward", "grad_input", "grad_weight"

#: By path: the tunables that switch it off, and what is timed: operation, (K, n, m), and the dtype
#: if only one takes the path.
PATHS: dict[str, tuple[dict[str, object], list[tuple]]] = {
    "few multiply-adds (`small.py`)": (
        {"FEW_WORK": 0, "VECTOR_WORK": 0},
        [(FORWARD, (1, 8, 8)), (INPUT, (16, 64, 64)), (WEIGHT, (16, 8, 8))],
    ),
    "the same, pairs of rows": (
        {"PAIR_TERMS": NEVER},
        [(WEIGHT, (64, 2, 2)), (WEIGHT, (16, 3, 2))],
    ),
    "the same, few features packed": (
        {"PACKED_SUMS": NEVER},
        [(FORWARD, (32, 3, 8)), (FORWARD, (64, 3, 24))],
    ),
    "the same, but not if rows evict each other": (
        {"SMALL_EVICT": NEVER},
        [(INPUT, (1, 1024, 64)), (INPUT, (1, 512, 128))],
    ),
    "short rows (`short.py`)": (
        {"SHORT_ROW": 0},
        [(FORWARD, (1, 24, 32)), (FORWARD, (8, 32, 32)), (FORWARD, (4, 8, 4))],
    ),
    "few rows, by columns (`gemv.py`)": (
        {"DOT_ROWS": 0},
        [(FORWARD, (1, 1000, 1000)), (FORWARD, (8, 1024, 1024))],
    ),
    "the same, two sides staggered": (
        {"STAGGER": 0},
        [(FORWARD, (1, 1000, 1000)), (FORWARD, (1, 1024, 1024), "float64")],
    ),
    "the same, rows prefetched in runs": (
        {"LONG_ROW": NEVER},
        [(FORWARD, (1, 3000, 3000)), (FORWARD, (1, 5000, 5000))],
    ),
    "few rows, by rows (`gemv.py`)": (
        {"FEW_ROWS": 0, "MORE_ROWS": 0},
        [(INPUT, (1, 1024, 1024)), (INPUT, (2, 4096, 4096))],
    ),
    "the same, for up to four from memory": (
        {"MORE_ROWS": 0},
        [(INPUT, (3, 4096, 11008)), (INPUT, (4, 4096, 11008))],
    ),
    "pairs of leaves (`leaf_pairs.py`)": (
        {"PAIRED_ROW": dict.fromkeys(KINDS, (NEVER, NEVER))},
        [(FORWARD, (1, 1024, 1024), "float32"), (FORWARD, (1, 2048, 2048))],
    ),
    "by the transpose (`transposed.py`)": (
        {"TRANSPOSED_ROW": 0},
        [(FORWARD, (32, 256, 256)), (FORWARD, (64, 784, 256))],
    ),
    "few terms, along C's rows (`strips.py`)": (
        {"STRIP_ROW_TERMS": 0},
        [(WEIGHT, (2, 1024, 1024)), (WEIGHT, (4, 4096, 11008)), (FORWARD, (200000, 10, 64))],
    ),
    "C's panels aligned": (
        {"ALIGNED_C": NEVER},
        [(FORWARD, (50000, 72, 320)), (INPUT, (20000, 640, 70))],
    ),
    "tiles taller than A": (
        {"TALL_PANELS": NEVER},
        [(INPUT, (7, 1024, 1024)), (INPUT, (5, 1000, 1000))],
    ),
    "tiles of A prefetched": (
        {"PREFETCH_TILES": NEVER},
        [(FORWARD, (200000, 64, 10)), (FORWARD, (200000, 128, 10))],
    ),
    "A packed": (
        {"PACK_A_PANELS": NEVER, "PACK_A_PANELS_EVICT": NEVER},
        [(WEIGHT, (512, 768, 3072)), (FORWARD, (512, 2048, 512))],
    ),
}
DTYPES = ("float32", "float64")
ROUNDS = 5
#: Seconds of each measurement, at least.
SECONDS = 0.1


def cells_of(name):
    return [
        (call, shape, dtype) for call, shape, *only in PATHS[name][1] for dtype in only or DTYPES
    ]


def time_cells(name: str) -> list[float]:
    """The least seconds of each of a path's cells, in this process, on one thread."""
    import numpy as np
    from numba import njit

    from numba_linear import forward, grad_input, grad_weight

    @njit
    def forwards(count, x, w, b, g, out):
        for _ in range(count):
            forward(x, w, b, out)

    @njit
    def grad_inputs(count, x, w, b, g, out):
        for _ in range(count):
            grad_input(g, w, out)

    @njit
    def grad_weights(count, x, w, b, g, out):
        for _ in range(count):
            grad_weight(g, x, "sum", out)

    times = []
    for operation, (samples, n, m), dtype in cells_of(name):
        shapes = (samples, n), (samples, m), (m, n), m
        x, g, w, b = (np.ones(shape, dtype) for shape in shapes)
        calls, like = {FORWARD: (forwards, g), INPUT: (grad_inputs, x), WEIGHT: (grad_weights, w)}[
            operation
        ]
        out = np.empty_like(like)
        count = max(1, 1_000_000 // (samples * n * m))
        calls(count, x, w, b, g, out)
        least, end = math.inf, perf_counter() + SECONDS
        while least == math.inf or perf_counter() < end:
            start = perf_counter()
            calls(count, x, w, b, g, out)
            least = min(least, (perf_counter() - start) / count)
        times.append(least)
    return times


def run(name: str, without: bool, cache: Path) -> list[float]:
    """The times of a new process, with the path or without it."""
    changed = json.dumps(PATHS[name][0] if without else {})
    paths = f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'cpu'}"
    done = subprocess.run(
        [sys.executable, __file__, name, changed],
        env=os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def measure() -> None:
    from common import facts, write

    measured = []
    with tempfile.TemporaryDirectory() as folder:
        for i, name in enumerate(PATHS):
            caches = Path(folder) / "whole", Path(folder) / str(i)
            rounds = [
                (run(name, True, caches[1]), run(name, False, caches[0])) for _ in range(ROUNDS)
            ]
            for cell, without, whole in zip(
                cells_of(name),
                zip(*(r[0] for r in rounds), strict=True),
                zip(*(r[1] for r in rounds), strict=True),
                strict=True,
            ):
                ratios = sorted(a / b for a, b in zip(without, whole, strict=True))
                measured.append(
                    {
                        "path": name,
                        "cell": cell,
                        "without": min(without),
                        "with": min(whole),
                        "ratios": [ratios[1], ratios[-2]],  # without the least and the most
                    }
                )
    write("paths", {"facts": facts(), "rounds": ROUNDS, "cells": measured})


def time_of(seconds: float) -> str:
    for unit, scale in (("ns", 1e9), ("µs", 1e6), ("ms", 1e3)):
        if seconds * scale < 1000:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def table(measured) -> str:
    lines = [
        "| path | shape | float32: without, with | ratio | float64: without, with | ratio |",
        "|---|---|---|---|---|---|",
    ]
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for cell in measured["cells"]:
        operation, shape, dtype = cell["cell"]
        low, high = cell["ratios"]
        rows.setdefault((cell["path"], f"({', '.join(map(str, shape))}) {operation}"), {})[
            dtype
        ] = f"{time_of(cell['without'])}, {time_of(cell['with'])} | {low:.2f} to {high:.2f}"
    former = None
    for (path, shape), found in rows.items():
        texts = [found.get(dtype, "– | –") for dtype in DTYPES]
        lines.append(f"| {path if path != former else ''} | {shape} | {' | '.join(texts)} |")
        former = path
    return "\n".join(lines)


def words() -> dict[str, str]:
    """What the notebook says of it."""
    from common import machine, read

    measured = read("paths")
    return {"paths": table(measured), "paths_machine": machine(measured["facts"])}


if __name__ == "__main__":
    import tuned

    tuned.install(json.loads(sys.argv[2]))
    print(json.dumps(time_cells(sys.argv[1])))

"""What each special path of the engine brings: the time without it, divided by the time with it.

On a quiet machine, `python docs/figures/measure.py paths` measures it in ten minutes and writes
`paths.json`, which the engineers' notebook shows. Each path is switched off by its tunables, in a
process of its own, as `tests/cpu/tuned.py` does.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).parents[2]
NEVER, ALWAYS = 1 << 40, 0

#: By what is switched off: the tunables that do it.
WITHOUT = {
    "small.py": {"FEW_WORK": 0, "VECTOR_WORK": 0},
    "small.py, weights whose rows evict each other left to gemv.py": {"SMALL_EVICT": NEVER},
    "short.py": {"SHORT_ROW": 0},
    "gemv.py, by columns": {"DOT_ROWS": 0},
    "gemv.py, by columns, two sides staggered": {"STAGGER": 0},
    "gemv.py, by columns, rows prefetched in runs": {"LONG_ROW": NEVER},
    "gemv.py, by rows": {"FEW_ROWS": 0, "MORE_ROWS": 0},
    "gemv.py, by rows, up to eight of them": {"MORE_ROWS": 0},
    "leaf_pairs.py": {"EVICT": NEVER},
    "transposed.py": {"TRANSPOSED_ROW": 0},
    "few terms: blocks of C in L2": {"FEW_TERMS": 0},
    "C's panels aligned": {"ALIGNED_C": NEVER},
    "tiles taller than A": {"TALL_PANELS": NEVER},
    "tiles of A prefetched": {"PREFETCH_TILES": NEVER},
    "A packed": {"PACK_A_PANELS": NEVER, "PACK_A_PANELS_EVICT": NEVER},
}
OPERATIONS = ("forward", "grad_input", "grad_weight")
GROUPS = ("small", "medium", "one", "tall")
DTYPES = ("float32", "float64")
ROUNDS = 2
#: Seconds of each cell, at least.
SECONDS = 0.02
#: What stays must bring so much to a group's mean, or to a shape.
WORTH = 1.03


def time_all() -> list[float]:
    """The least seconds of each cell, in this process, on one thread."""
    import numpy as np

    import numba_linear

    times = []
    for _, shape, operation, dtype in cells():
        samples, n, m = shape
        x, g, w = (np.ones(s, dtype) for s in ((samples, n), (samples, m), (m, n)))
        call = getattr(numba_linear, operation)
        given = {"forward": (x, w), "grad_input": (g, w), "grad_weight": (g, x)}[operation]
        out = call(*given)
        least, end = math.inf, perf_counter() + SECONDS
        while least == math.inf or perf_counter() < end:
            start = perf_counter()
            call(*given, out=out, parallel=False)
            least = min(least, perf_counter() - start)
        times.append(least)
    return times


def cells():
    """Group, shape, operation and dtype of what is timed."""
    from numba_linear.commands import groups

    return [
        (group, shape, operation, dtype)
        for group in GROUPS
        for shape in groups.GROUPS[group].shapes
        for operation in OPERATIONS
        for dtype in DTYPES
    ]


def run(name: str | None, cache: Path) -> list[float]:
    """The times of a new process without what is named."""
    changed = json.dumps(WITHOUT[name] if name else {})
    paths = f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'cpu'}"
    done = subprocess.run(
        [sys.executable, __file__, changed],
        env=os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def measure() -> None:
    from common import facts, write

    ratios: dict[str, list[list[float]]] = {name: [] for name in WITHOUT}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            for i, name in enumerate(WITHOUT):
                if i % 3 == 0:
                    whole = run(None, Path(folder) / "whole")
                without = run(name, Path(folder) / str(i))
                each = [a / b for a, b in zip(without, whole, strict=True)]
                # most cells do not take the path: they tell how the machine's clock has changed
                steady = statistics.median(each)
                ratios[name].append([ratio / steady for ratio in each])
    brought = {
        name: list(map(statistics.median, zip(*ratios[name], strict=True))) for name in ratios
    }
    write("paths", {"facts": facts(), "cells": cells(), "ratios": brought})


def table(measured) -> str:
    """A row for each path: the groups whose mean it changes, and the cell it changes most."""
    lines = []
    for name, ratios in measured["ratios"].items():
        groups = []
        for group in GROUPS:
            own = [
                r for r, cell in zip(ratios, measured["cells"], strict=True) if cell[0] == group
            ]
            mean = math.exp(statistics.mean(map(math.log, own)))
            groups.append(f"{mean:.2f}" if abs(mean - 1) >= WORTH - 1 else "")
        most, (_, shape, operation, dtype) = max(zip(ratios, measured["cells"], strict=True))
        cell = f"{most:.2f} at ({', '.join(map(str, shape))}) {operation}, {dtype}"
        lines.append(f"| {name} | {' | '.join(groups)} | {cell} |")
    head = f"| without | {' | '.join(GROUPS)} | most |\n|---|{'---|' * len(GROUPS)}---|\n"
    return head + "\n".join(lines)


def words() -> dict[str, str]:
    """What the notebook says of it."""
    from common import machine, read

    measured = read("paths")
    return {"paths": table(measured), "paths_machine": machine(measured["facts"])}


if __name__ == "__main__":
    import tuned

    tuned.install(json.loads(sys.argv[1]))
    print(json.dumps(time_all()))

"""Seconds of what is compiled or read from the cache, with the package's passes and Numba's own.

On a quiet machine, `python docs/figures/measure.py compiling` measures in four minutes and writes
`compiling.json`, which the page on performance shows. Each round runs two processes, the first
with an empty cache, the second with what that one left; and a third, with an empty cache too,
whose first call is in a user's `@njit` function.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import types
from time import perf_counter

ROUNDS = 3
PIPELINES = {"package": "the package's passes", "numba": "all of Numba's passes"}
#: What is timed, and whether the cache is empty then.
ROWS = {
    "forward": ("first `forward`, empty cache", True),
    "backward": ("`backward` after it", True),
    "threads": ("first call on threads after that", True),
    "njit": ("a user's `@njit` function with `forward`, empty cache", True),
    "forward, warm": ("first `forward`, warm cache", False),
    "first @njit forward": ("a user's `@njit` function with `forward`, with its compiling", False),
    "second @njit forward": ("in a further function", False),
    "first @njit backward": ("`backward` in a further function", False),
}


def take_away() -> None:
    """Numba's pipeline, from the package alone, which then compiles with all of Numba's passes."""
    import numba

    module = importlib.import_module("numba.core.typed_passes")
    copy = types.ModuleType(module.__name__)
    vars(copy).update(vars(module))
    del copy.NativeLowering
    sys.modules[module.__name__] = numba.core.typed_passes = copy


def seconds_of(call) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def time_all(pipeline: str, world: str) -> dict[str, float]:
    """The seconds of each row, in this process, which calls the package from `world` first."""
    import numpy as np
    from numba import njit

    njit(lambda x, w, b: x)(*[np.ones((1, 1), np.float32)] * 3)  # loads what Numba itself needs
    if pipeline == "numba":
        take_away()
    from numba_linear import backward, forward

    x, w, b, g = (np.ones(s, np.float32) for s in ((256, 200), (100, 200), (100,), (256, 100)))
    if world == "njit":
        own = njit(lambda x, w, b: forward(x, w, b))
        return {"njit": seconds_of(lambda: own(x, w, b))}
    found = {"forward": seconds_of(lambda: forward(x, w, b, parallel=False))}
    found["backward"] = seconds_of(lambda: backward(g, x, w, parallel=False))
    found["threads"] = seconds_of(lambda: forward(x, w, b, parallel=True))
    layer = njit(lambda x, w, b: forward(x, w, b))
    found["first @njit forward"] = seconds_of(lambda: layer(x, w, b))
    further = njit(lambda x, w, b: forward(x, w, b))
    found["second @njit forward"] = seconds_of(lambda: further(x, w, b))
    gradients = njit(lambda g, x, w: backward(g, x, w))
    found["first @njit backward"] = seconds_of(lambda: gradients(g, x, w))
    return found


def run(pipeline: str, cache: str, world: str = "Python") -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, pipeline, world],
        env=os.environ | {"NUMBA_CACHE_DIR": cache},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def measure() -> None:
    from common import facts, write

    least: dict[str, dict[str, float]] = {pipeline: {} for pipeline in PIPELINES}
    for _ in range(ROUNDS):
        for pipeline, seconds in least.items():
            with tempfile.TemporaryDirectory() as cache:
                cold, warm = run(pipeline, cache), run(pipeline, cache)
            with tempfile.TemporaryDirectory() as cache:
                cold |= run(pipeline, cache, "njit")
            warm["forward, warm"] = warm["forward"]
            for row, (_, empty) in ROWS.items():
                now = (cold if empty else warm)[row]
                seconds[row] = min(now, seconds.get(row, now))
    write("compiling", {"facts": facts(), "rounds": ROUNDS, "seconds": least})


def table(measured) -> str:
    lines = [f"| | {' | '.join(PIPELINES.values())} |", "|---|---|---|"]
    for row, (what, _) in ROWS.items():
        numbers = [f"{seconds[row]:.2f} s" for seconds in measured["seconds"].values()]
        lines.append(f"| {what} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def words() -> dict[str, str]:
    """What the pages say of it."""
    from common import machine, read

    measured = read("compiling")
    found = {"compiling": table(measured), "compiling_machine": machine(measured["facts"])}
    for row, seconds in measured["seconds"]["package"].items():
        word = row.translate(str.maketrans(" ", "_", ",@"))
        found[f"compiling_{word}"] = f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2f} s"
    return found


if __name__ == "__main__":
    print(json.dumps(time_all(*sys.argv[1:])))

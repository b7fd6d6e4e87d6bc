"""What the benchmarks share: contestants, threads, and a clock for calls of microseconds."""

import functools
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numba_linear


def _yardstick() -> None:
    """Make `numba_linear.commands` that of this checkout, whatever commit is installed.

    asv runs these modules against old commits. Inputs, contestants and timing are always today's,
    those of `python -m numba_linear bench`. So a step in a graph is the engine's, and an old
    commit needs the public calls only.
    """
    folder = Path(__file__).parents[1] / "numba_linear" / "commands"
    spec = importlib.util.spec_from_file_location(
        "numba_linear.commands", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = package
    spec.loader.exec_module(package)
    setattr(numba_linear, "commands", package)  # noqa: B010


if "numba_linear.commands" not in sys.modules:
    _yardstick()

from numba_linear.commands import peers  # noqa: E402
from numba_linear.commands.peers import Shape  # noqa: E402
from numba_linear.commands.timing import Contestant, calls_for  # noqa: E402

if peers.installed("torch"):
    # asv forks each benchmark from a process that has imported these modules. This saves two
    # seconds for each of a hundred.
    import torch  # noqa: F401

OPERATIONS = ("forward", "grad_input", "grad_weight", "grad_bias", "backward")
IMPLEMENTATIONS = ("numba_linear", "numpy", "torch")
DTYPES = ("float32", "float64")
THREADS = (1, 2)

#: Seconds of a sample: thousands of ticks of the clock, but short enough for many samples.
SAMPLE = 2e-3

Run = Callable[[int], float]
Contest = Callable[[str, Shape, str, int], list[Contestant]]


def set_threads(threads: int) -> None:
    """Give every implementation this number of threads, or skip if there are fewer cores."""
    cores = os.cpu_count() or 1
    if threads > cores:
        raise NotImplementedError(f"{threads} threads on {cores} cores")
    peers.set_threads(threads)


def need(package: str) -> None:
    """Skip if a package is not installed."""
    if not peers.installed(package):
        raise NotImplementedError(f"{package} is not installed")


@functools.lru_cache(maxsize=1)
def ready(
    contest: Contest, operation: str, shape: Shape, dtype: str, threads: int, implementation: str
) -> tuple[Run, int]:
    """One contestant, compiled and warm, and the number of its calls that make a sample.

    asv calls `setup` before each sample, in the same process: after the first this is a lookup.
    """
    set_threads(threads)
    if implementation == "torch":
        need("torch")
    contestants = contest(operation, shape, dtype, threads)
    run = next(each.run for each in contestants if each.name == implementation)
    run(1)
    return run, calls_for(run, SAMPLE)


class Timed:
    """Base of benchmarks that time one contestant.

    With a `setup` asv reads the clock around every single call, which takes as long as the
    shortest of these calls. So here asv times `count` calls at once, by a clock that runs slower
    by `count`.
    """

    # Set by hand. asv's own is a digest of the source, so after any edit the kept results would
    # count no more. Raise it if something else is measured.
    version = "1"
    number = 1
    rounds = 1
    warmup_time = 0.02
    repeat = (5, 30, 0.1)
    timeout = 600

    def prepare(
        self,
        contest: Contest,
        operation: str,
        shape: Shape,
        dtype: str,
        threads: int,
        implementation: str,
    ) -> None:
        self.run, self.count = ready(contest, operation, shape, dtype, threads, implementation)
        self.timer = lambda: perf_counter() / self.count

    def calls(self) -> None:
        self.run(self.count)

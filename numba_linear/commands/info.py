"""The ``info`` command: versions, machine and settings, for results and bug reports."""

import importlib.metadata
import os
import platform
import re
import time
from pathlib import Path

import llvmlite.binding
import numba
import numpy as np

from numba_linear import forward
from numba_linear.cpu.caches import quota
from numba_linear.cpu.launch import missing_threads


def run() -> None:
    """Print versions and the engine's settings on this machine."""
    from numba_linear.cpu.machine import describe
    from numba_linear.jit.private import pipeline
    from numba_linear.jit.resident import cache_state

    facts = versions("numba_linear", "numba", "llvmlite", "numpy") | threads() | describe()
    print_facts(facts | {"cache": cache_state(), "compiled by": pipeline()})


def print_facts(facts: dict[str, str]) -> None:
    """Print facts one to a line."""
    width = max(map(len, facts))
    for name, fact in facts.items():
        print(f"  {name:{width}}  {fact}")


def versions(*packages: str) -> dict[str, str]:
    """The versions of packages and of Python, and the machine."""
    return {package: _version(package) for package in packages} | {
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "processor": f"{_processor()} (LLVM: {llvmlite.binding.get_host_cpu_name()})",
    }


def threads() -> dict[str, str]:
    """The number of threads, and the layer that starts them, which has no name until then."""
    reason = missing_threads()
    if reason:
        return {"threads": "1", "threading layer": f"none can be started: {reason}"}
    operand = np.ones((2, 2), np.float32)
    forward(operand, operand, parallel=True)
    number = numba.get_num_threads()
    named = "NUMBA_NUM_THREADS" in os.environ
    told = "NUMBA_NUM_THREADS" if named else "Numba's count of the processors it may use"
    facts = {"threads": f"{number}, {told}", "threading layer": numba.threading_layer()}
    allowed = quota()
    if allowed:
        facts["quota"] = f"{allowed:g} processors' time, of the control group"
    if allowed and allowed < number:
        facts["quota"] += f": set NUMBA_NUM_THREADS={max(1, round(allowed))}"
    return facts


class BusyCores:
    """How many cores other programs have kept busy since this was made."""

    STAT = Path("/proc/stat")

    def __init__(self) -> None:
        self.start = self._now()

    def __call__(self) -> float | None:
        """The mean until now; None if not known."""
        if not self.STAT.exists():
            return None
        ticks, idle, own, seconds = (b - a for a, b in zip(self.start, self._now(), strict=True))
        return max(0.0, (1 - idle / max(1, ticks)) * (os.cpu_count() or 1) - own / seconds)

    def _now(self) -> tuple[float, ...]:
        clocks = time.process_time(), time.perf_counter()
        if not self.STAT.exists():
            return clocks
        # The first line: user, nice, system, idle, iowait, …, in ticks, summed over all cores.
        ticks = [int(word) for word in self.STAT.read_text().split("\n", 1)[0].split()[1:9]]
        return sum(ticks), ticks[3] + ticks[4], *clocks


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """The processor's name, which `platform` does not know on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        name = re.search(
            r"^model name\s*:\s*(.+)$", cpuinfo.read_text("utf-8", "replace"), re.MULTILINE
        )
        if name:
            return name[1]
    return platform.processor() or platform.machine()

"""The ``info`` command: what stands behind a result or a report of a fault."""

import importlib.metadata
import importlib.util
import os
import platform

import llvmlite.binding


def run() -> None:
    """Print versions and what the engine says of itself on this machine."""
    from numba_linear.cpu.machine import describe

    table(versions() | describe())


def table(facts: dict[str, object]) -> None:
    """Print facts one to a line."""
    width = max(map(len, facts))
    for name, fact in facts.items():
        print(f"  {name:{width}}  {fact}")


def versions() -> dict[str, object]:
    """The versions of the package and of what it stands on, and the processor."""
    names = ("numba_linear", "numba", "llvmlite", "numpy")
    return {name: importlib.metadata.version(name) for name in names} | {
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "processor": f"{_processor()}, {llvmlite.binding.get_host_cpu_name()} to LLVM",
    }

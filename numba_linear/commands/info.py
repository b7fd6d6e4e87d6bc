"""The ``info`` command: what stands behind a result or a report of a fault."""

import importlib.metadata
import platform
import re
from pathlib import Path

import llvmlite.binding


def run() -> None:
    """Print versions and what the engine says of itself on this machine."""
    from numba_linear.cpu.machine import describe

    print_facts(versions("numba_linear", "numba", "llvmlite", "numpy") | describe())


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


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """The processor's name, which `platform` does not tell on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        name = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        if name:
            return name[1]
    return platform.processor() or platform.machine()

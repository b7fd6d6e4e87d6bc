"""Measure commits for the dashboard, each installed by itself: `python -m benchmarks.history`.

It is `asv run` in an environment of its own. The machine is named after its processor, not its
host. Results go to benchmarks/results/: commit them there.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.publish import CONFIG

#: What `asv run -b` is given: the quick set, and of the large shapes one, for their graphs.
BENCH = r"^(?!large)|^large.*1024\), 'float32', 1"


def machine() -> dict[str, str]:
    """What asv records of a machine, without its name on a network."""
    cpuinfo = Path("/proc/cpuinfo")
    name = None
    if cpuinfo.exists():
        name = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
    cpu = name[1].strip() if name else platform.processor() or platform.machine()
    cores = os.cpu_count() or 1
    slug = re.sub(r"[^a-z0-9]+", "-", cpu.lower()).strip("-")
    return {
        "machine": f"{slug}-{cores}-cores",
        "os": platform.system(),
        "arch": platform.machine(),
        "cpu": cpu,
        "num_cpu": str(cores),
        "ram": "",
    }


def run(commits: list[str], bench: str, packages: list[str]) -> None:
    """Run asv on commits, with these package versions besides those of its configuration."""
    from asv.machine import MachineCollection

    hashes = subprocess.run(
        ["git", "rev-parse", *(f"{commit}^{{commit}}" for commit in commits)],
        cwd=CONFIG.parent,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    here = machine()
    # `asv machine` asks, or takes the host's name.
    MachineCollection.save(here["machine"], here)
    config = json.loads(CONFIG.read_text())
    for package in packages:
        name, _, version = package.partition("==")
        config["matrix"]["req"][name] = [version]
    # Beside the configuration itself, since its paths are relative to it.
    ours = CONFIG.with_name(".history.conf.json")
    ours.write_text(json.dumps(config))
    try:
        subprocess.run(
            [
                *(sys.executable, "-m", "asv", "run", "--config", ours),
                *("--machine", here["machine"], "--bench", bench, "HASHFILE:-"),
            ],
            input=hashes,
            text=True,
            check=True,
        )
    finally:
        ours.unlink()


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=__doc__)
    parser.add_argument("commits", nargs="*", default=["HEAD"], help="by default HEAD")
    parser.add_argument("--bench", default=BENCH, help="a regular expression, as for asv run")
    parser.add_argument(
        "--with",
        dest="packages",
        action="append",
        default=[],
        metavar="PACKAGE==VERSION",
        help="install this as well: torch, where the registry's is the CPU build",
    )
    arguments = parser.parse_args()
    run(arguments.commits, arguments.bench, arguments.packages)


if __name__ == "__main__":
    main()

"""The regression alarm: `python -m benchmarks.alarm [BASE [HEAD]]`.

The ratios to the best peer are measured for two commits, several times in turn, each time in a
fresh process; the exit status is 1 if one ratio or their mean has lost more than noise explains.
"""

import argparse
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"

#: Runs of each commit. A median of five shrugs off two runs that something else disturbed.
RUNS = 5

#: Seconds for each ratio in a run.
SECONDS = 0.15

#: Losses that raise the alarm, as factors: of one ratio, by its number of threads, and of the
#: geometric mean of all. docs/benchmarks.md tells how they follow from measured noise.
CELL = {1: 1.15, 2: 1.5}
MEAN = 1.05

#: From a cell's name to our time / the best peer's.
Ratios = Mapping[str, float]


def losses(base: Sequence[Ratios], head: Sequence[Ratios]) -> dict[str, float]:
    """For each cell the factor by which our time has grown beside the best peer's."""

    def middle(runs: Sequence[Ratios], cell: str) -> float:
        return statistics.median(run[cell] for run in runs)

    return {cell: middle(head, cell) / middle(base, cell) for cell in base[0] if cell in head[0]}


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


def alarms(lost: Mapping[str, float]) -> list[str]:
    """What has lost too much, in words."""
    found = [
        f"{cell}: {factor:.2f} times as slow beside the best peer, limit {limit:.2f}"
        for cell, factor in sorted(lost.items(), key=lambda each: -each[1])
        if factor > (limit := CELL[threads_of(cell)])
    ]
    mean = geometric_mean(list(lost.values()))
    if mean > MEAN:
        found.append(f"geometric mean: {mean:.3f} times as slow, limit {MEAN:.3f}")
    return found


def threads_of(cell: str) -> int:
    """The number of threads in a cell's name, its last word but one."""
    return int(cell.split()[-2])


def cells() -> Iterator[tuple[str, tuple[str, tuple[int, int, int], str, int]]]:
    """Names and parameters of the ratios that this machine has the cores for."""
    from benchmarks.ratio import Peers

    for parameters in itertools.product(*Peers.params):
        operation, shape, dtype, threads = parameters
        if threads <= (os.cpu_count() or 1):
            plural = "thread" if threads == 1 else "threads"
            yield f"{operation} {shape} {dtype}, {threads} {plural}", parameters


def measure_here() -> Ratios:
    """All ratios, in this process and of the package that it imports."""
    from benchmarks.common import peers
    from benchmarks.ratio import ratio

    found = {}
    for cell, (operation, shape, dtype, threads) in cells():
        peers.set_threads(threads)
        found[cell] = ratio(peers.vendors, operation, shape, dtype, threads, SECONDS)
    return found


def measure(tree: Path) -> Ratios:
    """All ratios of the package in that folder, in a process of its own."""
    output = subprocess.run(
        # -P: the package shall come from the folder, not from where the command was given.
        [sys.executable, "-P", "-m", "benchmarks.alarm", "--measure"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(tree), str(ROOT)))},
        cwd=tree,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    answer = json.loads(output)
    assert Path(answer["package"]).is_relative_to(tree), answer["package"]
    return answer["ratios"]


def unpack(commit: str, folder: Path) -> Path:
    """The package as a commit has it, in a folder of its own."""
    archive = _git("archive", "--format=tar", commit, "numba_linear")
    tree = folder / commit.replace("/", "-")
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        tar.extractall(tree, filter="data")
    return tree.resolve()


def chosen_base() -> str:
    """The last release, or before the first the newest commit whose results are kept."""
    tags = _git("tag", "--merged", "HEAD", "--sort=-creatordate", "v*").decode().split()
    if tags:
        return tags[0]
    kept = {path.name.split("-")[0] for path in RESULTS.glob("*/*-*.json")}
    for commit in _git("rev-list", "HEAD").decode().split():
        if commit[:8] in kept:
            return commit
    raise SystemExit("there is no release and there are no results: name a commit to compare with")


def compare(base: str, head: str, runs: int = RUNS) -> list[str]:
    """Measure two commits in turn, print what each ratio has lost, and return the alarms."""
    names = [
        _git("rev-parse", "--short", f"{name}^{{commit}}").decode().strip()
        for name in (base, head)
    ]
    print(f"alarm: {names[0]} and {names[1]} in turn, {runs} runs each", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        trees = [
            unpack(name, Path(folder) / side)
            for side, name in zip(("base", "head"), names, strict=True)
        ]
        found: list[list[Ratios]] = [[], []]
        for _ in range(runs):
            for tree, ratios in zip(trees, found, strict=True):
                ratios.append(measure(tree))
    lost = losses(*found)
    print(f"  {'our time / best peer’s':44}{'base':>8}{'head':>8}{'loss':>8}")
    for cell, factor in lost.items():
        before, after = (statistics.median(run[cell] for run in side) for side in found)
        print(f"  {cell:44}{before:8.2f}{after:8.2f}{factor:8.2f}")
    print(f"  geometric mean of the losses {geometric_mean(list(lost.values())):.3f}")
    raised = alarms(lost)
    for alarm in raised:
        print(f"  ALARM: {alarm}")
    if not raised:
        print("  passed: no loss beyond noise")
    return raised


def noise(runs: int, file: Path) -> None:
    """Measure HEAD over and over, and write all ratios to a file; the limits follow from them."""
    with tempfile.TemporaryDirectory() as folder:
        tree = unpack("HEAD", Path(folder))
        found = [measure(tree) for _ in range(runs)]
    rounded = [{cell: float(f"{value:.4g}") for cell, value in run.items()} for run in found]
    file.write_text(json.dumps(rounded, indent=1) + "\n")
    print(spread(found))


def null_losses(runs: Sequence[Ratios]) -> Iterator[dict[str, float]]:
    """Losses between every two halves of runs of one commit: nothing but noise."""
    for half in itertools.combinations(range(len(runs)), len(runs) // 2):
        other = [number for number in range(len(runs)) if number not in half]
        yield losses([runs[number] for number in half], [runs[number] for number in other])


def spread(runs: Sequence[Ratios]) -> str:
    """What `null_losses` come to, in words."""
    worst = {threads: 1.0 for threads in CELL}
    mean = 1.0
    for lost in null_losses(runs):
        mean = max(mean, geometric_mean(list(lost.values())))
        for cell, factor in lost.items():
            worst[threads_of(cell)] = max(worst[threads_of(cell)], factor)
    each = ", ".join(f"{factor:.3f} on {threads}" for threads, factor in worst.items())
    return f"largest loss by noise alone: {each} threads; of the geometric mean {mean:.4f}"


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout


def main() -> int:
    """Compare, or measure noise; 1 if there was an alarm."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alarm", description=__doc__)
    parser.add_argument("base", nargs="?", help="a commit; by default the last release")
    parser.add_argument("head", nargs="?", default="HEAD")
    parser.add_argument(
        "--runs", type=int, default=RUNS, help=f"of each commit; by default {RUNS}"
    )
    parser.add_argument(
        "--noise", type=Path, metavar="FILE", help="measure HEAD alone, and write its ratios"
    )
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        import numba_linear

        print(json.dumps({"package": numba_linear.__file__, "ratios": measure_here()}))
        return 0
    if arguments.noise:
        noise(arguments.runs, arguments.noise)
        return 0
    return 1 if compare(arguments.base or chosen_base(), arguments.head, arguments.runs) else 0


if __name__ == "__main__":
    sys.exit(main())

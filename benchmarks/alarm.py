"""The regression alarm: `python -m benchmarks.alarm [BASE [HEAD]]`.

The ratios to the best peer are measured for two commits, alternating, several times, each time in
a fresh process. The exit status is 1 if one ratio or their mean has lost more than noise explains.
"""

import argparse
import itertools
import json
import math
import os
import re
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

#: Runs of each commit. Their median is right even if two of them were disturbed.
RUNS = 5

#: Seconds for each ratio in a run.
SECONDS = 0.15

#: Losses that raise the alarm, as factors: of one ratio, and of the geometric mean of all. Twelve
#: runs of one commit on a busy machine are in noise.json. Between halves of six of them the worst
#: ratio lost 1.10 by noise alone and the mean 1.008; between halves of all twelve, 1.05 and 1.006.
CELL = 1.12
MEAN = 1.02

#: Left out: its time is that of fresh pages for the result, and NumPy's is one of two at random,
#: which differ by a factor of four.
ERRATIC = {("grad_weight", (1, 1024, 1024))}

#: From a ratio's name to our time / the best peer's, in each run.
Runs = Mapping[str, list[float]]


def losses(base: Runs, head: Runs) -> dict[str, float]:
    """For each ratio, the factor by which our time has grown beside the best peer's."""
    return {
        name: statistics.median(head[name]) / statistics.median(ratios)
        for name, ratios in base.items()
    }


def mean_of(lost: Mapping[str, float]) -> float:
    """The geometric mean of losses."""
    return math.exp(statistics.fmean(map(math.log, lost.values())))


def alarms(lost: Mapping[str, float]) -> list[str]:
    """What has lost too much, in words; the worst first."""
    found = [
        f"{name}: {factor:.2f} times as slow beside the best peer, limit {CELL}"
        for name, factor in sorted(lost.items(), key=lambda each: -each[1])
        if factor > CELL
    ]
    if mean_of(lost) > MEAN:
        found.append(f"geometric mean: {mean_of(lost):.3f} times as slow, limit {MEAN}")
    return found


def compare(base: Path, head: Path, runs: int = RUNS, only: str = "") -> list[str]:
    """Measure the packages in two folders in turn, print the losses, and return the alarms."""
    before, after = measure((base, head), runs, only)
    lost = losses(before, after)
    print(f"  {'our time / best peer’s':40}{'base':>8}{'head':>8}{'loss':>8}")
    for name, factor in lost.items():
        medians = (statistics.median(side[name]) for side in (before, after))
        print(f"  {name:40}" + "".join(f"{value:8.2f}" for value in (*medians, factor)))
    print(f"  geometric mean of the losses {mean_of(lost):.3f}")
    found = alarms(lost)
    for alarm in found:
        print(f"  ALARM: {alarm}")
    if not found:
        print("  passed: no loss beyond noise")
    return found


def measure(trees: Sequence[Path], runs: int, only: str = "") -> Sequence[Runs]:
    """The ratios of the packages in several folders, a process for each in turn."""
    found: list[dict[str, list[float]]] = [{} for _ in trees]
    for _ in range(runs):
        for tree, ratios in zip(trees, found, strict=True):
            output = subprocess.run(
                # -P: import the package from the folder, not from the current directory.
                [sys.executable, "-P", "-m", "benchmarks.alarm", "--here", "--only", only],
                env=os.environ | {"PYTHONPATH": os.pathsep.join((str(tree), str(ROOT)))},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            ).stdout
            answer = json.loads(output)
            if not Path(answer["package"]).is_relative_to(tree):
                raise SystemExit(f"measured {answer['package']}, expected a package in {tree}")
            for name, ratio in answer["ratios"].items():
                ratios.setdefault(name, []).append(ratio)
    return found


def measure_here(only: str) -> dict[str, float]:
    """The ratios on one thread, in this process and of the package that it imports.

    On several threads one busy core turns a ratio of 1 into 400.
    """
    from benchmarks.common import peers
    from benchmarks.ratio import Peers, ratio

    peers.set_threads(1)
    found = {}
    for operation, shape, dtype in itertools.product(*Peers.params[:3]):
        name = f"{operation} {shape} {dtype}"
        if re.search(only, name) and (operation, shape) not in ERRATIC:
            found[name] = ratio(peers.vendors, operation, shape, dtype, 1, SECONDS)
    return found


def null_losses(runs: Runs) -> Iterator[dict[str, float]]:
    """Losses between any two halves of the runs of one commit, which are noise alone."""
    count = len(next(iter(runs.values())))
    for half in map(set, itertools.combinations(range(count), count // 2)):
        sides = (
            {
                name: [ratios[i] for i in range(count) if (i in half) == first]
                for name, ratios in runs.items()
            }
            for first in (True, False)
        )
        yield losses(*sides)


def noise(tree: Path, runs: int, file: Path) -> None:
    """Measure one package over and over; write the ratios, and say what the limits follow from."""
    (found,) = measure((tree,), runs)
    lines = (
        f" {json.dumps(name)}: {json.dumps([round(ratio, 4) for ratio in ratios])}"
        for name, ratios in found.items()
    )
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    lost = list(null_losses(found))
    worst = max(max(each.values()) for each in lost)
    print(
        f"largest loss by noise between two halves of {runs} runs: of one ratio {worst:.3f}, "
        f"of the mean {max(map(mean_of, lost)):.3f}"
    )


def chosen_base() -> str:
    """The last release, or before the first the newest commit whose results are kept."""
    tags = _git("tag", "--merged", "HEAD", "--sort=-creatordate", "v*").decode().split()
    if tags:
        return tags[0]
    kept = {path.name.split("-")[0] for path in RESULTS.glob("*/*-*.json")}
    for commit in _git("rev-list", "HEAD^").decode().split():
        if commit[:8] in kept:
            return commit
    raise SystemExit("there is no release and there are no results: name a commit to compare with")


def unpack(commit: str, folder: Path) -> Path:
    """The package as a commit has it, in a folder of its own."""
    with tarfile.open(fileobj=BytesIO(_git("archive", commit, "numba_linear"))) as tar:
        tar.extractall(folder, filter="data")
    return folder.resolve()


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout


def main() -> int:
    """Compare, or measure noise; 1 if there was an alarm."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alarm", description=__doc__)
    parser.add_argument("base", nargs="?", help="a commit; by default the last release")
    parser.add_argument("head", nargs="?", default="HEAD", help="a commit; by default HEAD")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"of each, by default {RUNS}")
    parser.add_argument("--only", default="", metavar="REGEX", help="ratios by their names")
    parser.add_argument("--noise", type=Path, metavar="FILE", help="measure HEAD alone")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        import numba_linear

        package = str(Path(numba_linear.__file__).resolve())
        print(json.dumps({"package": package, "ratios": measure_here(given.only)}))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        head = unpack(given.head, Path(folder) / "head")
        if given.noise:
            noise(head, given.runs, given.noise)
            return 0
        commit = given.base or chosen_base()
        base = unpack(commit, Path(folder) / "base")
        names = (
            _git("rev-parse", "--short", each).decode().strip() for each in (commit, given.head)
        )
        print(f"alarm: {' and '.join(names)} in turn, {given.runs} runs each", flush=True)
        return 1 if compare(base, head, given.runs, given.only) else 0


if __name__ == "__main__":
    sys.exit(main())

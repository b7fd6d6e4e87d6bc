"""The ``bench`` command: ratios to the peers, all timed in one process and in turn."""

import json
import math
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numba

from numba_linear.commands import UserError, counted, cuda, info, peers, plot
from numba_linear.commands.groups import BUSY, CUDA_GROUPS, GROUPS, Cell, Table
from numba_linear.commands.timing import measure
from numba_linear.cpu.launch import missing_threads

DTYPES = ("float32", "float64")

#: Default seconds for each cell, in the quick profile and in the full one.
QUICK, FULL = 0.1, 0.4

#: Prefixes of environment variables that configure a contestant.
SET = ("NUMBA_", "OPENBLAS_", "MKL_", "ONEDNN_", "OMP_", "GOMP_", "KMP_")


def run(
    names: Sequence[str] | None = None,
    threads: Sequence[int] | None = None,
    dtypes: Sequence[str] = DTYPES,
    seconds: float = FULL,
    json_file: Path | None = None,
    plot_file: Path | None = None,
    device: str = "cpu",
) -> None:
    """Measure groups and print a table of each.

    Parameters
    ----------
    names : sequence of str, optional
        The groups; by default all.
    threads : sequence of int, optional
        Numbers of threads; by default 1 and all.
    dtypes : sequence of str
    seconds : float
        The time for each cell.
    json_file, plot_file : Path, optional
        Files for all times and for a plot of the ratios.
    device : {"cpu", "cuda"}

    Raises
    ------
    UserError
        If a group, number of threads or device does not exist, or a file cannot be written.
    """
    groups = CUDA_GROUPS if device == "cuda" else GROUPS
    for name in names or ():
        if name not in groups:
            raise UserError(f"there is no group {name!r}, expected one of {', '.join(groups)}")
    most = _most_threads()
    for count in threads or ():
        if not 1 <= count <= most:
            raise UserError(f"{counted(count, 'thread')}: expected 1 to {most}")
    if device == "cuda":
        if threads:
            raise UserError("a number of threads is for the CPU")
        cuda.check()
        threads = (cuda.GPU,)
    for path in filter(None, (json_file, plot_file)):
        if not path.parent.is_dir() or path.is_dir():
            raise UserError(f"{path}: cannot be written, expected a file in an existing folder")
    if plot_file:
        plot.check(plot_file)

    tables = [
        Table(name, groups[name].shapes, dtype, count)
        for name in dict.fromkeys(names or groups)
        for count in dict.fromkeys(threads or (1, most))
        for dtype in dtypes
        # By default a group is measured on the numbers of threads that it is meant for.
        if threads or groups[name].allows(count)
    ]
    facts = _facts() | (cuda.facts() if device == "cuda" else {})
    cells = _measure(tables, facts, seconds)
    if not cells:
        raise UserError("nothing of this could be measured")
    try:
        if json_file:
            json_file.write_text(json.dumps(_as_json(cells, facts), indent=1) + "\n")
        if plot_file:
            plot.draw(cells, facts, plot_file)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None


def run_quick() -> None:
    """Measure a few shapes of most groups on all threads, and print them."""
    most = _most_threads()
    tables = [
        Table(name, group.quick, dtype, most)
        for name, group in GROUPS.items()
        for dtype in DTYPES
        if group.quick
    ]
    _measure(tables, _facts(), QUICK)


def _most_threads() -> int:
    reason = missing_threads()
    if reason:
        raise UserError(f"Numba can start no threads ({reason}), and nobody their number")
    return numba.get_num_threads()


def _facts() -> dict[str, str]:
    """What the ratios depend on: machine, versions, and the peers' libraries."""
    facts = info.versions("numba_linear", "numba", "numpy", "torch") | info.threads()
    if peers.installed("threadpoolctl"):
        from threadpoolctl import threadpool_info

        facts["BLAS"] = ", ".join(
            f"{library['internal_api']} {library['version']}, kernels {library['architecture']}"
            for library in threadpool_info()
            if library["user_api"] == "blas"
        )
    else:
        facts["BLAS"] = "its threads could not be set: threadpoolctl is not installed"
    # Above all OPENBLAS_CORETYPE, set by users if OpenBLAS takes a new processor for an old one.
    settings = [
        f"{name}={os.environ[name]}" for name in sorted(os.environ) if name.startswith(SET)
    ]
    facts["environment"] = ", ".join(settings) or "sets nothing for these"
    busy_cores = info.BusyCores()
    time.sleep(0.25)
    busy = busy_cores()
    if busy is not None:
        facts["other programs"] = f"keep {busy:.1f} of {os.cpu_count()} cores busy" + (
            ", so that ratios mean little" if busy > BUSY else ""
        )
    return facts


def _measure(tables: Iterable[Table], facts: dict[str, str], seconds: float) -> list[Cell]:
    """Measure each table, and print each row when it is ready."""
    print("bench: several in turn, the least time of each; a ratio above 1 is in our favour")
    info.print_facts(facts)
    cells: list[Cell] = []
    before = numba.get_num_threads()
    try:
        for table in tables:
            print(f"\n{table.title}", end="")
            obstacle = table.kind.obstacle(table.threads)
            if obstacle:
                print(f": skipped, {obstacle}")
            else:
                print(f": {table.kind.ratio}")
                if table.threads != cuda.GPU:
                    peers.set_threads(table.threads)
                cells += _measure_table(table, seconds)
    finally:
        peers.set_threads(before)
    return cells


def _measure_table(table: Table, seconds: float) -> list[Cell]:
    group = table.kind
    print(f"  {'(K, n, m)':22}" + "".join(f"{operation:>20}" for operation in group.operations))
    cells = []
    for shape in table.shapes:
        print(f"  {shape!s:22}", end="", flush=True)
        for operation in group.operations:
            contestants = group.contest(operation, shape, table.dtype, table.threads)
            busy_cores = info.BusyCores()
            times = measure(contestants, seconds, table.threads)
            cell = Cell(table, shape, operation, times, busy_cores() or 0.0)
            cells.append(cell)
            best = f" {cell.best:5}" if len(cell.times) > 2 else ""
            ratio = f"{'' if cell.steady else '?'}{cell.ratio:.2f}"
            print(f"{ratio:>{20 - len(best)}}{best}", end="", flush=True)
        print()
    mean, worst = _summary(cells)
    if mean and worst:
        place = f"{worst.operation} {worst.shape}"
        print(f"  geometric mean {mean:.2f}, worst {worst.ratio:.2f}: {place}")
    unsteady = sum(not cell.steady for cell in cells)
    if unsteady:
        print(f"  {unsteady} of {counted(len(cells), 'ratio')} not steady, marked ?, left out")
    return cells


def _summary(cells: Sequence[Cell]) -> tuple[float | None, Cell | None]:
    """The geometric mean of the steady ratios, and the worst cell; None if no ratio is steady."""
    steady = [cell for cell in cells if cell.steady]
    if not steady:
        return None, None
    mean = math.exp(sum(math.log(cell.ratio) for cell in steady) / len(steady))
    return mean, min(steady, key=lambda cell: cell.ratio)


def _as_json(cells: Sequence[Cell], facts: dict[str, str]) -> dict[str, Any]:
    """Everything measured: tables with their summary, cells with the time of every round."""
    tables = []
    for table in dict.fromkeys(cell.table for cell in cells):
        rows = [cell for cell in cells if cell.table == table]
        mean, worst = _summary(rows)
        tables.append(
            {
                "group": table.group,
                "ratio": table.kind.ratio,
                "dtype": table.dtype,
                "threads": table.threads,
                "geometric_mean": mean,
                "worst": worst and worst.ratio,
                "cells": [
                    {
                        "shape": cell.shape,
                        "operation": cell.operation,
                        "ratio": cell.ratio,
                        "best_peer": cell.best,
                        "steady": cell.steady,
                        "spread": cell.spread,
                        "busy": cell.busy,
                        "seconds": {name: min(times) for name, times in cell.times.items()},
                        "rounds": cell.times,
                    }
                    for cell in rows
                ],
            }
        )
    statements = {"numba_linear": peers.OURS, "numpy": peers.NUMPY, "torch": peers.TORCH}
    return {"facts": facts, "statements": statements, "tables": tables}

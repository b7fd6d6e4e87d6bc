"""Measure what the pages state.

`python docs/figures/measure.py NAME …` writes a JSON file of each name into this folder. The
site's next build draws its tables and figures from these:

    rows, pytorch                bits
    error                        rounding errors
    bench                        times, all groups of `python -m numba_linear bench`
    policy                       times in a simulation
    cluster                      times with Dask
    pytorch_speed                times in PyTorch
    gallery, gallery_speed       the gallery's examples and their times

Times need a quiet machine. All need PyTorch and the extra `bench`, except `cluster`, which needs
only the extra `dask`.
"""

import json
import os
import sys

import cluster
import error
import gallery
import policy
import pytorch
import rows
from common import HERE, write


def bench() -> None:
    """All groups of the command; only the least of each contestant's rounds is kept."""
    from numba_linear.commands import bench

    bench.run(json_file=HERE / "bench.json")
    measured = json.loads((HERE / "bench.json").read_text())
    for table in measured["tables"]:
        for cell in table["cells"]:
            del cell["rounds"]
    write("bench", measured)


MEASURES = {
    "rows": rows.measure,
    "error": error.measure,
    "bench": bench,
    "cluster": cluster.measure,
    "policy": policy.measure,
}
MEASURES |= {"pytorch": pytorch.measure, "pytorch_speed": pytorch.measure_speed}
MEASURES |= {"gallery": gallery.measure, "gallery_speed": gallery.measure_speed}


def main(names: list[str]) -> None:
    held = [name for name in os.environ if name.startswith("OPENBLAS_")]
    if held:
        raise SystemExit(f"{', '.join(held)}: unset, so that OpenBLAS takes its own kernels")
    if not names or not set(names) <= set(MEASURES):
        raise SystemExit(f"what to measure? Some of: {', '.join(MEASURES)}")
    for name in names:
        MEASURES[name]()


if __name__ == "__main__":
    main(sys.argv[1:])

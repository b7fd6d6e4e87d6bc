"""Measure what the pages state: of bits (`rows`), of rounding errors (`error`), of time (`bench`,
in a simulation `policy`, on a cluster `cluster`), and what the gallery shows (`gallery`,
`gallery_speed`).

`python docs/figures/measure.py rows error bench cluster`, or some of them, writes a JSON file of
each name into this folder; the pages and their figures follow when the site is next built. It
needs PyTorch and the extra `bench`, for `cluster` only the extra `dask`, and `bench`, which is all
of `python -m numba_linear bench`, a quiet machine for some minutes.
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
    """All groups of the command; of the rounds of each contestant only the least is kept."""
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

"""Measure what the pages state.

`python docs/figures/measure.py NAME …` writes a JSON file of each name into this folder. The
site's next build draws its tables and figures from these:

    rows, pytorch                bits
    error                        rounding errors
    bench                        times, all groups of `python -m numba_linear bench`
    bench_avx2                   times of some groups, all contestants limited to AVX2
    policy                       times in a simulation
    stored                       times with a weight stored transposed
    compiling                    times of compiling, and with a cache
    paths                        times without each of the engine's special paths
    cluster                      times with Dask
    pytorch_speed                times in PyTorch
    gallery, gallery_speed       the gallery's examples and their times

Times need a quiet machine. All need PyTorch and the extra `bench`, except `cluster`, which needs
only the extra `dask`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence

import cluster
import compiling
import error
import gallery
import paths
import policy
import pytorch
import rows
import stored
from common import HERE, write

#: Variables that limit each contestant to AVX2 when its process starts, and the groups.
AVX2 = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx2,+fma",
    "OPENBLAS_CORETYPE": "Haswell",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
}
AVX2_GROUPS = ("large", "medium", "one", "tall")


def bench(name: str = "bench", groups: Sequence[str] = (), **environment: str) -> None:
    """Groups of the command, by default all, with only the least round of each contestant."""
    file = HERE / f"{name}.json"
    command = [sys.executable, "-m", "numba_linear", "bench", "--json", str(file)]
    for group in groups:
        command += ["--group", group]
    subprocess.run(command, env=os.environ | environment, check=True)
    measured = json.loads(file.read_text())
    for table in measured["tables"]:
        for cell in table["cells"]:
            del cell["rounds"]
    write(name, measured)


def bench_avx2() -> None:
    """The groups of AVX2's table."""
    bench("bench_avx2", AVX2_GROUPS, **AVX2)


MEASURES = {
    "rows": rows.measure,
    "error": error.measure,
    "bench": bench,
    "bench_avx2": bench_avx2,
    "cluster": cluster.measure,
    "policy": policy.measure,
    "compiling": compiling.measure,
    "stored": stored.measure,
    "paths": paths.measure,
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

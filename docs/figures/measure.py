"""Measure what the pages state of bits and of rounding errors: `rows`, `error`, or both.

`python docs/figures/measure.py` writes `rows.json` and `error.json`, and needs PyTorch and
threadpoolctl. The times of `bench.json` are what `python -m numba_linear bench --json` writes.
"""

import os
import sys

import error
import rows


def main(names: list[str]) -> None:
    held = [name for name in os.environ if name.startswith("OPENBLAS_")]
    if held:
        raise SystemExit(f"{', '.join(held)}: unset, so that OpenBLAS takes its own kernels")
    measures = {"rows": rows.measure, "error": error.measure}
    for name in names or measures:
        measures[name]()


if __name__ == "__main__":
    main(sys.argv[1:])

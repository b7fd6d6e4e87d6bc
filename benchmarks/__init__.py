"""Benchmarks for asv over the package's history; docs/benchmarks.md says how to run them."""

import os

if {"ASV_ENV_DIR", "ASV_COMMIT"} <= os.environ.keys():
    # asv installs one commit after another in the same folder. Each gets a cache of its own, since
    # older commits cannot read what newer ones compiled. Numba reads this when it is imported.
    os.environ["NUMBA_CACHE_DIR"] = os.path.join(
        os.environ["ASV_ENV_DIR"], "numba-cache", os.environ["ASV_COMMIT"]
    )

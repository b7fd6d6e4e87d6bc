"""Prints `digest.of_package` computed with other tunables, for `test_tunables`.

Argument: the name of a set of them. It replaces the package's own table before anything imports
that, so that every function reads it.
"""

import importlib.util
import sys

ALWAYS, NEVER = 1 << 40, 0
KINDS = "avx512", "avx2", "baseline", "aarch64"

#: Every path wherever possible, and threads for every call.
PATHS = {
    "FEW_WORK": NEVER,
    "VECTOR_WORK": NEVER,
    "FEW_ROWS": 20,
    "MORE_ROWS": 30,
    "MORE_ROWS_BYTES": NEVER,
    "SMALL_ROWS_BYTES": dict.fromkeys(KINDS, NEVER),
    "ROWS_STRETCH": 256,
    "ROWS_PREFETCH": NEVER,
    "DOT_ROWS": 8,
    "DOT_LEAVES": 1,
    "DOT_COLUMNS": 1,
    "DOTXF_VECTORS": dict.fromkeys(KINDS, (2, 3)),
    "DOTXF_ROWS": 5,
    "DOTXF_NEAR": 1,
    "DOTXF_FAR": 1 << 20,
    "STAGGER_FROM": NEVER,
    "STAGGER": 128,
    "LONG_ROW": 1 << 10,
    "PAIRED_ROW": dict.fromkeys(KINDS, (1, 1)),
    "TRANSPOSED_BLOCK": 1 << 10,
    "TRANSPOSED_ROW": ALWAYS,
    "TRANSPOSED_B": NEVER,
    "STRIDED_BLOCK": 16,
    "STACK": NEVER,
    "SAVED": -ALWAYS,
    "LAUNCH": -ALWAYS,
    "WORKQUEUE_LAUNCH": -ALWAYS,
    "MULTIPLIED": 1,
    "READ": 1,
    "TURNED": 1,
    "WRITES": 100,
    "SPLIT_K_BYTES": ALWAYS,
    "SPLIT_K_TERMS": NEVER,
    "SPLIT_K_LEAVES": NEVER,
    "SPLIT_K_PARTS": 2,
}
#: Everything in tiles, in the smallest blocks, packed.
PACKED = {
    "FEW_WORK": NEVER,
    "VECTOR_WORK": NEVER,
    "FEW_ROWS": NEVER,
    "DOT_ROWS": NEVER,
    "TRANSPOSED_ROW": NEVER,
    "BLOCK_LEAVES_BYTES": 8,
    "A_SHARE": (0, 1),
    "B_SHARE": (0, 1),
    "ALIGNED_C": NEVER,
    "APART_ROWS": dict.fromkeys(KINDS, NEVER),
    "APART_TERMS": dict.fromkeys(KINDS, NEVER),
    "PACK_A_PANELS": NEVER,
    "PACK_A_PANELS_EVICT": NEVER,
    "DIRECT_TILES": NEVER,
    "DIRECT_TILES_ALIGNED": NEVER,
    "DIRECT_TILES_EVICT": NEVER,
    "PACK_TERMS": 7,
    "PACK_TERMS_EVICT": 3,
    "PACKED_TERMS": 2,
    "PACK_AHEAD": 3,
    "PACK_PANELS": 2,
    "STRIP_BYTES": 0,
    "STRIP_FEW": 0,
    "STRIP_ROWS": 5,
    "STRIP_TERMS": dict.fromkeys(KINDS, NEVER),
    "STRIP_WORK": NEVER,
}
#: The paths for few multiply-adds where they can go; else tiles of other heights, nothing packed.
IN_PLACE = {
    "FEW_WORK": 200,
    "PAIR_TERMS": 1,
    "VECTOR_WORK": ALWAYS,
    "SMALL_PACKED": 1 << 16,
    "PACKED_SUMS": 0,
    "SMALL_EVICT": 1 << 30,
    "SMALL_EVICT_BYTES": 0,
    "SMALL_ROWS_BYTES": dict.fromkeys(KINDS, ALWAYS),
    "SHORT_ROW": ALWAYS,
    "SHORT_ROWS": ALWAYS,
    "SHORT_WORK": ALWAYS,
    "SHORT_ALONE": ALWAYS,
    "TILE": {"avx512": (8, 1), "avx2": (5, 2), "baseline": (3, 2), "aarch64": (6, 2)},
    "HEIGHTS": {8: (8, 5, 3), 6: (6, 1), 5: (5, 1), 3: (3, 2)},
    "B_MOST": 1 << 10,
    "DIRECT_TILES": ALWAYS,
    "DIRECT_TILES_ALIGNED": ALWAYS,
    "DIRECT_EVICT": dict.fromkeys(KINDS, 64),
    "TALL_PANELS": NEVER,
    "TALL_BYTES": NEVER,
    "PREFETCH_TERMS": NEVER,
    "PREFETCH_BYTES": NEVER,
    "PREFETCH_EACH": {"avx512": 0, "avx2": 1, "baseline": 0, "aarch64": 1},
    "PREFETCH_TILES": 1,
    "PREFETCH_ROW": dict.fromkeys(KINDS, NEVER),
    "SWEEP_LINES": ALWAYS,
    "STRIP_TERMS": dict.fromkeys(KINDS, 256),
    "STRIP_ROW_TERMS": ALWAYS,
}
SETS = {"paths": PATHS, "packed": PACKED, "in place": IN_PLACE}


def install(changed):
    """Put the changed table in the place of the package's."""
    package = importlib.util.find_spec("numba_linear").submodule_search_locations[0]
    name = "numba_linear.cpu.tuning"
    spec = importlib.util.spec_from_file_location(name, f"{package}/cpu/tuning.py")
    tuning = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tuning)
    for tunable, value in changed.items():
        assert hasattr(tuning, tunable), f"there is no tunable {tunable}"
        setattr(tuning, tunable, value)
    sys.modules[name] = tuning


if __name__ == "__main__":
    install(SETS[sys.argv[1]])
    import digest

    print(digest.of_package())

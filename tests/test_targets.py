"""AVX-512, AVX2 and baseline code give the same bits, each in a process of its own."""

import platform
from pathlib import Path

import digest
import pytest
from processes import finish, start

TARGETS = {
    "this machine": {},
    "AVX2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"},
    "baseline x86-64, no FMA": {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "+sse2"},
}


def supported(target):
    if target == "this machine":
        return True
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    cpuinfo = Path("/proc/cpuinfo")
    return target != "AVX2" or (cpuinfo.exists() and " avx2 " in cpuinfo.read_text())


@pytest.fixture(scope="module")
def digests(tmp_path_factory):
    """One digest for each target; the processes run side by side.

    This machine's code may be in the cache already; the others' is compiled.
    """
    started = {}
    for target, settings in TARGETS.items():
        if supported(target):
            cache = {"NUMBA_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))} if settings else {}
            started[target] = start(digest.__file__, "package", **settings, **cache)
    outputs = finish(*started.values())
    return {target: output.strip() for target, output in zip(started, outputs, strict=True)}


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_gives_the_bits_of_the_equations(target, digests):
    if target not in digests:
        pytest.skip(f"this machine does not run {target} code")
    assert digests[target] == digest.of_equations()

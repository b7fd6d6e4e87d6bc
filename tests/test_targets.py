"""AVX-512, AVX2 and baseline code give the same bits, each in a process of its own."""

import platform
import sys
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
def settings(tmp_path_factory):
    """The variables of each target. This machine's code may be in the cache already; the others'
    is compiled into a cache of its own."""
    known = {}
    for target, names in TARGETS.items():
        if supported(target):
            cache = {"NUMBA_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))} if names else {}
            known[target] = names | cache
    return known


@pytest.fixture(scope="module")
def digests(settings):
    """One digest for each target; the processes run side by side."""
    started = {t: start(digest.__file__, "package", **own) for t, own in settings.items()}
    outputs = finish(*started.values())
    return {target: output.strip() for target, output in zip(started, outputs, strict=True)}


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_gives_the_bits_of_the_equations(target, digests):
    if target not in digests:
        pytest.skip(f"this machine does not run {target} code")
    assert digests[target] == digest.of_equations()


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages by mprotect")
def test_no_target_touches_what_is_beyond_an_array(settings, digests):
    """This machine's own code has `robust/test_bounds.py`."""
    tests = Path(digest.__file__).parent
    fences = tests / "robust" / "fences.py"
    others = [own for own in settings.values() if own]
    finish(*(start(fences, "12", "0", PYTHONPATH=str(tests), **own) for own in others))

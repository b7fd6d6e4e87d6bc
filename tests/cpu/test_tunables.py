"""Tunables change no bit: other tiles, blocks and thresholds give the same digest."""

from pathlib import Path

import digest
import pytest
from processes import finish, start

TILINGS = {
    "narrower vectors, blocks of one leaf": (6, 16, 1, 4, 16),
    "large blocks": (12, 32, 16, 2048, 65536),
    "nothing fits": (12, 32, 1, 1, 1),
}


@pytest.fixture(scope="module")
def digests(tmp_path_factory):
    script = Path(__file__).with_name("tuned.py")
    tests = str(Path(digest.__file__).parent)
    started = [
        start(script, *tiling, PYTHONPATH=tests, NUMBA_CACHE_DIR=str(tmp_path_factory.mktemp("c")))
        for tiling in TILINGS.values()
    ]
    return dict(zip(TILINGS, finish(*started), strict=True))


@pytest.mark.parametrize("name", TILINGS)
def test_the_bits_are_those_of_the_equations(name, digests):
    assert digests[name].strip() == digest.of_equations()

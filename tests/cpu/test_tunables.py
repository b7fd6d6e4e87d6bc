"""Tunables change no bit: other tiles, blocks and thresholds give the same digest."""

from pathlib import Path

import digest
import pytest
from processes import finish, start
from tuned import SETS

from numba_linear.cpu import tuning


def test_every_tunable_is_changed():
    tunables = {name for name in vars(tuning) if name.isupper()}
    assert set().union(*SETS.values()) == tunables


@pytest.fixture(scope="module")
def digests(tmp_path_factory):
    script = Path(__file__).with_name("tuned.py")
    tests = str(Path(digest.__file__).parent)
    started = [
        start(script, name, PYTHONPATH=tests, NUMBA_CACHE_DIR=str(tmp_path_factory.mktemp("c")))
        for name in SETS
    ]
    return dict(zip(SETS, finish(*started), strict=True))


@pytest.mark.parametrize("name", SETS)
def test_the_bits_are_those_of_the_equations(name, digests):
    assert digests[name].strip() == digest.of_equations()

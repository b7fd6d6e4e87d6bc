"""Nothing outside an array is read or written: on both sides of each is a page whose access
crashes the process."""

import sys
from pathlib import Path

import digest
import pytest
from processes import finish, start
from scale import FULL

FENCES = Path(__file__).parent / "fences.py"


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages by mprotect")
@pytest.mark.parametrize("seed", range(5) if FULL else [0])
def test_nothing_beyond_an_array_is_touched(seed):
    tests = str(Path(digest.__file__).parent)
    finish(start(FENCES, "300" if FULL else "25", str(seed), PYTHONPATH=tests))

"""The tests for a GPU, in Numba's CUDA simulator with an exact multiply-add."""

import re
from pathlib import Path

import pytest

pytest.importorskip("numba_cuda", reason="the extra is not installed: pip install -e '.[cuda]'")

from processes import finish, start


def test_simulated():
    tests = Path(__file__).with_name("test_cuda_gpu.py")
    (output,) = finish(
        start(
            "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", tests, NUMBA_ENABLE_CUDASIM="1"
        )
    )
    skipped = re.findall(r"^SKIPPED .*?: (?:\d+: )?(.*)$", output, re.MULTILINE)
    print(output)
    assert int(re.search(r"(\d+) passed", output)[1]) >= 40
    # Only tests that need a GPU are skipped.
    assert set(skipped) <= {
        "its shapes would take the simulator an hour",
        "CuPy is not installed",
        "PyTorch is not installed",
        "PyTorch has no CUDA",
        "there is one GPU",
    }

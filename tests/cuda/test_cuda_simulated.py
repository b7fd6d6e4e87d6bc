"""All calls in Numba's CUDA simulator, with an exact multiply-add, equal the equations."""

from pathlib import Path

import pytest

pytest.importorskip("numba_cuda", reason="the extra is not installed: pip install -e '.[cuda]'")

from processes import finish, start


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_simulated(dtype):
    here = Path(__file__).parent
    (output,) = finish(
        start(
            here / "simulated.py",
            dtype,
            NUMBA_ENABLE_CUDASIM="1",
            PYTHONPATH=str(here.parent),
        )
    )
    # How many comparisons each part made.
    assert output.split() == "shapes 32 cuts 3 calls 24 streams 1".split()

"""All calls in Numba's CUDA simulator, with an exact multiply-add, equal the equations."""

import needs_cuda  # noqa: F401, I001
from pathlib import Path

import pytest
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

"""What the tests of compiled kernels need, or they are skipped."""

import importlib.util

import pytest

REASON = "numba-cuda is not installed: pip install -e '.[cuda]'"

if importlib.util.find_spec("numba_cuda") is None:
    pytest.skip(REASON, allow_module_level=True)

"""The package without Dask: nothing of it is imported, and what needs it says what is missing."""

from processes import finish, start


def test_import_does_not_touch_dask():
    finish(start("-c", "import sys, numba_linear; assert 'dask' not in sys.modules"))


def test_without_the_extra():
    program = """
import sys
sys.modules["dask"] = None
try:
    import numba_linear.dask
except ImportError as error:
    print(error)
"""
    (said,) = finish(start("-c", program))
    assert said.startswith("numba_linear.dask: Dask can not be imported (")
    assert said.endswith("install it with: pip install 'numba-linear[dask]'\n")

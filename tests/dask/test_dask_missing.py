"""The package without Dask: it imports none of it, and what needs it says what is missing."""

import sys

from processes import finish, start

from numba_linear.__main__ import main


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
    assert said.startswith("numba_linear.dask: Dask cannot be imported (")
    assert said.endswith("install it with, in a clone: pip install -e '.[dask]'\n")


def test_train_without_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "dask", None)
    assert main(["train", "--dask"]) == 2
    assert "install it with, in a clone: pip install -e '.[dask]'" in capsys.readouterr().err

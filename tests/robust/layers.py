"""Numba's threading layers, and a fresh Python on each."""

import sys
from pathlib import Path

import pytest
from processes import finish, start

LAYERS = ("omp", "tbb", "workqueue")

# where pip installs libtbb, which Numba finds by its name alone
LIBRARIES = str(Path(sys.prefix) / "lib")

# from Python 3.12 on os.fork warns if the process has several threads
FORKED = "ignore:This process:DeprecationWarning"


def on_layer(layer, script, *arguments, **settings):
    """What the script prints on a layer, by default with four threads; it must succeed.

    A layer that this machine lacks is skipped.
    """
    if layer == "tbb" and not any(Path(LIBRARIES).glob("libtbb*")):
        pytest.skip("TBB is not installed")
    settings = {
        "NUMBA_THREADING_LAYER": layer,
        "NUMBA_NUM_THREADS": "4",
        "LD_LIBRARY_PATH": LIBRARIES,
        **settings,
    }
    (output,) = finish(start("-W", FORKED, "-c", script, *arguments, **settings))
    return output

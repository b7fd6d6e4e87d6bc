"""A fresh Python, for what must not happen in the tests' own process."""

import os
import subprocess
import sys
from pathlib import Path

import numba_linear


def start(*arguments, **settings):
    """Start Python with these arguments; it imports the package under test.

    Keywords are environment variables. Every warning is an error.
    """
    home = str(Path(numba_linear.__file__).parents[1])
    inherited = settings.pop("PYTHONPATH", os.environ.get("PYTHONPATH"))
    path = os.pathsep.join(filter(None, (home, inherited)))
    return subprocess.Popen(
        [sys.executable, "-W", "error", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": path} | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes):
    """The standard outputs of processes that run side by side; all must succeed."""
    outputs = [process.communicate() for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, (
            f"{process.args} ended with {process.returncode}:\n{errors}"
        )
    return [output for output, _ in outputs]

"""Other systems, as far as they can be imitated: the package is imported and runs with another
`sys.platform` and without Linux's calls and files."""

import pytest
from processes import finish, start

SYSTEM = """
import builtins
import os
import pathlib
import sys
import time

import numba
import numpy as np

system, missing = sys.argv[1], sys.argv[2].split(",")
for name in missing:
    module, _, word = name.partition(".")
    delattr({"os": os, "time": time}[module], word)

numba.get_num_threads()  # starts the layer, by modules of this system's
opened, exists = builtins.open, os.path.exists


def is_linux(path):
    return str(path).startswith(("/proc", "/sys"))


def elsewhere(path, *arguments, **keywords):
    if is_linux(path):
        raise FileNotFoundError(path)
    return opened(path, *arguments, **keywords)


builtins.open = elsewhere
pathlib.Path.open = lambda self, *arguments, **keywords: elsewhere(self, *arguments)
read_bytes = pathlib.Path.read_bytes
pathlib.Path.read_bytes = lambda self: (elsewhere if is_linux(self) else read_bytes)(self)
os.path.exists = lambda path: not is_linux(path) and exists(path)
pathlib.Path.exists = lambda self, **_: os.path.exists(self)
sys.platform = system

from numba_linear import backward, forward
from numba_linear.commands import info
from numba_linear.cpu import caches, launch

assert not launch.younger_than_python()
assert not launch.forked
assert info.BusyCores()() is None
assert caches.quota() is None
assert {size.source for size in caches.cache_sizes().values()} == {
    "assumed, as the system does not tell"
}
x, w = np.ones((300, 200), np.float32), np.ones((250, 200), np.float32)
for parallel in (None, False, True):
    assert (forward(x, w, parallel=parallel) == 200).all()
    assert (backward(forward(x, w), x, w, parallel=parallel).input == 200 * 250).all()
sys.platform = "linux"  # for Python's own modules
info.run()
"""

MISSING = {
    "darwin": "time.CLOCK_BOOTTIME,os.sched_getaffinity",
    "win32": "time.CLOCK_BOOTTIME,os.sched_getaffinity,os.register_at_fork,os.fork,os.sysconf",
}


@pytest.mark.parametrize("system", MISSING)
def test_it_runs_without_what_only_linux_has(system):
    names = [name for name in MISSING[system].split(",") if _is_here(name)]
    (output,) = finish(start("-c", SYSTEM, system, ",".join(names)))
    assert "level-2 cache    1024 KiB, assumed" in output


def _is_here(name):
    module, _, word = name.partition(".")
    return hasattr(__import__(module), word)

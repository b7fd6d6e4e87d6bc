"""The calls' use of the driver through NVIDIA's cuda.core, on a driver written in C."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba_cuda", reason="the extra is not installed: pip install -e '.[cuda]'")

from processes import finish, start

HERE = Path(__file__).parent
COMPILER = shutil.which("cc")

pytestmark = [
    pytest.mark.skipif(not COMPILER, reason="there is no C compiler"),
    pytest.mark.skipif(sys.platform != "linux", reason="the driver is a library of Linux"),
]


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """Settings for a process that finds the driver; the folder is its cache too."""
    folder = tmp_path_factory.mktemp("driver")
    library = folder / "libcuda.so.1"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, HERE / "driver.c"], check=True)
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("LD_LIBRARY_PATH"))))
    return {"LD_LIBRARY_PATH": path, "NUMBA_CACHE_DIR": str(folder / "cache")}


def test_what_is_asked_of_the_driver(driver):
    (output,) = finish(start(HERE / "driven.py", **driver))
    names = re.findall(r"^def (test_\w+)", (HERE / "driven.py").read_text(), re.MULTILINE)
    assert output.splitlines() == [f"{name} passed" for name in names]


FIRST_USE = """
import sys
import numpy as np
from types import SimpleNamespace
from numba import cuda
import numba_linear.cuda as nl

compiled, compile = [], cuda.compile
def counted(function, *arguments, **keywords):
    compiled.append(function.__name__)
    return compile(function, *arguments, **keywords)
cuda.compile = counted
g, out = (np.zeros(shape, np.float32).__array_interface__ for shape in ((300, 10), (10,)))
g, out = (SimpleNamespace(__cuda_array_interface__=interface) for interface in (g, out))
nl.grad_bias(g, out=out)
print(*compiled)
"""


def test_a_second_process_compiles_nothing(driver, tmp_path):
    folder = tmp_path / "cache"
    settings = driver | {"NUMBA_CACHE_DIR": str(folder)}
    assert finish(start("-c", FIRST_USE, **settings)) == ["contract merge\n"]
    files = sorted(folder.iterdir())
    assert len(files) == 2
    assert finish(start("-c", FIRST_USE, **settings)) == ["\n"]
    files[0].write_bytes(files[0].read_bytes()[:-1])  # as on a full disk
    (output,) = finish(start("-c", FIRST_USE, **settings))
    assert len(output.split()) == 1 and sorted(folder.iterdir()) == files
    assert finish(start("-c", FIRST_USE, **settings)) == ["\n"]

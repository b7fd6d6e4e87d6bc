"""Numba's cache, shared, torn, stale or out of reach: never a crash, never old bits."""

import compileall
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import finish, start
from scale import FULL, full

import numba_linear

#: One function of the package that compiles quickly, through the package's cache.
ONE_FUNCTION = """
import sys

from numba import float32, float64
from numba_linear.entry import interleaved
from numba_linear.operand import Operand

for name in sys.argv[1:]:
    interleaved.resident.load(Operand({"float32": float32, "float64": float64}[name]))
stats = interleaved.resident.dispatcher.stats
print(sum(stats.cache_hits.values()), "read", sum(stats.cache_misses.values()), "compiled")
"""

CALL = """
import sys

import numpy as np

from numba_linear import grad_bias
from numba_linear.jit.resident import cache_state

for dtype in sys.argv[1:]:
    g = np.arange(600, dtype=dtype).reshape(300, 2)
    assert grad_bias(g).tolist() == [299, 300]
    assert grad_bias(g, "sum").tolist() == [299 * 300, 300 * 300]
print(cache_state())
"""


def load(folder, *dtypes):
    return start("-c", ONE_FUNCTION, *dtypes, NUMBA_CACHE_DIR=str(folder))


def call(folder, *dtypes, **settings):
    return start("-c", CALL, *(dtypes or ["float64"]), NUMBA_CACHE_DIR=str(folder), **settings)


def files(folder, ending):
    found = sorted(folder.rglob(f"*.{ending}"))
    assert found
    return found


def test_the_second_process_compiles_nothing(tmp_path):
    folder = tmp_path / "mit Leerzeichen, ünïcode ✓"
    states = finish(load(folder, "float32")) + finish(load(folder, "float32"))
    assert states == ["0 read 1 compiled\n", "1 read 0 compiled\n"]


def test_cold_processes_at_once(tmp_path):
    """Numba chooses a file's name by the index that it last read: two types may get the same."""
    processes = 64 if FULL else 4
    dtypes = ["float32", "float64"]
    finish(*(load(tmp_path, dtypes[i % 2], dtypes[(i + 1) % 2]) for i in range(processes)))
    finish(load(tmp_path, *dtypes))
    (state,) = finish(load(tmp_path, *dtypes))
    assert state == "2 read 0 compiled\n"


@full
def test_64_cold_processes_at_once(tmp_path):
    finish(*(call(tmp_path, "float32" if i % 2 else "float64") for i in range(64)))
    (state,) = finish(call(tmp_path, "float32", "float64"))
    assert " read" in state


def test_files_changed_for_one_another(tmp_path):
    """The race of the test above can leave this behind."""
    finish(load(tmp_path, "float32", "float64"))
    first, second = files(tmp_path, "nbc")
    shutil.copy(first, second)
    (state,) = finish(load(tmp_path, "float32", "float64"))
    assert state == "1 read 1 compiled\n"
    (state,) = finish(load(tmp_path, "float32", "float64"))
    assert state == "2 read 0 compiled\n"


def test_torn_files(tmp_path):
    finish(load(tmp_path, "float32"))
    for file in files(tmp_path, "nb[ic]"):
        whole = file.read_bytes()
        for length in (
            range(0, len(whole), max(1, len(whole) // 40)) if FULL else [len(whole) // 2]
        ):
            file.write_bytes(whole[:length])
            states = finish(load(tmp_path, "float32")) + finish(load(tmp_path, "float32"))
            assert states == ["0 read 1 compiled\n", "1 read 0 compiled\n"], (file.name, length)


@full
def test_every_file_torn(tmp_path):
    finish(call(tmp_path))
    for file in files(tmp_path, "nb[ic]"):
        os.truncate(file, file.stat().st_size // 2)
    finish(call(tmp_path))
    (state,) = finish(call(tmp_path))
    assert state.strip().endswith(", 0 compiled")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("renames", [0, 1])
def test_a_writer_killed_while_it_saves(tmp_path, renames):
    """Before its index gets its name, and after, when the index names a missing file."""
    kill = f"""
import os
import signal

replace, renamed = os.replace, []

def replace_or_die(*arguments):
    if len(renamed) == {renames}:
        os.kill(os.getpid(), signal.SIGKILL)
    renamed.append(arguments)
    replace(*arguments)

os.replace = replace_or_die
"""
    process = start("-c", kill + ONE_FUNCTION, "float32", NUMBA_CACHE_DIR=str(tmp_path))
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert list(tmp_path.rglob("*.tmp.*"))
    states = finish(load(tmp_path, "float32")) + finish(load(tmp_path, "float32"))
    assert states == ["0 read 1 compiled\n", "1 read 0 compiled\n"]


@full
def test_a_writer_killed_at_any_time(tmp_path):
    """Compiling and saving the whole layer takes some 7 s."""
    killed = 0
    for i in range(20):
        folder = tmp_path / str(i)
        process = call(folder)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.35 * i)
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        finish(call(folder))
    assert killed > 10


def test_no_space(tmp_path):
    """Files cannot grow, as on a full disk."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))"
    (state,) = finish(start("-c", limit + ONE_FUNCTION, "float32", NUMBA_CACHE_DIR=str(tmp_path)))
    assert state == "0 read 1 compiled\n"


def copy_of_the_package(folder):
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(Path(numba_linear.__file__).parent, folder, ignore=ignored))


def run(home, *arguments, cwd=None, **settings):
    """What a script prints with the package in the folder or archive `home`."""
    process = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env=os.environ | {"PYTHONPATH": str(home)} | settings,
        cwd=cwd or home,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_nowhere_to_write(tmp_path):
    """A read-only install and no home: compiled in every process.

    Files are in the folders' places, since permissions do not bind root.
    """
    package = copy_of_the_package(tmp_path / "numba_linear")
    for folder in [package, *(path for path in package.rglob("*") if path.is_dir())]:
        (folder / "__pycache__").touch()
    nowhere = str(package / "__init__.py" / "home")
    script = tmp_path / "call.py"
    script.write_text(CALL)
    homes = {"HOME": nowhere, "XDG_CACHE_HOME": nowhere, "NUMBA_CACHE_DIR": ""}
    output = run(tmp_path, script, "float64", **homes)
    assert output.strip() == "off, for want of a folder that Numba can write to"


USER = """
import sys

import numpy as np
from numba import njit

from numba_linear import grad_bias


@njit(cache=True)
def mean(g):
    return grad_bias(g)


g = np.array([[1.0], [2.0], [3.0]])
print(grad_bias(g)[0], mean(g)[0], sum(mean.stats.cache_hits.values()))
"""


@pytest.mark.once
def test_another_version_of_the_package(tmp_path):
    """Neither the package nor a caller's cached function uses code of an older version."""
    package = copy_of_the_package(tmp_path / "numba_linear")
    script = tmp_path / "user.py"
    script.write_text(USER)
    settings = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert run(tmp_path, script, **settings) == "2.0 2.0 0\n"
    assert run(tmp_path, script, **settings) == "2.0 2.0 1\n"
    # what the cached functions call, in another file
    entry = package / "entry.py"
    text = entry.read_text(encoding="utf-8")
    assert text.count("return float(K)") == 1
    entry.write_text(text.replace("return float(K)", "return 2.0 * K"), encoding="utf-8")
    assert run(tmp_path, script, **settings) == "1.0 1.0 0\n"


def compiled_alone(package):
    """The package as .pyc files and nothing else."""
    assert compileall.compile_dir(package, quiet=2, legacy=True)
    for source in package.rglob("*.py"):
        source.unlink()
    return package


def zipped(package):
    archive = package.parent.with_suffix(".zip")
    shutil.make_archive(archive.with_suffix(""), "zip", package.parent)
    shutil.rmtree(package.parent)
    return archive


#: Ways to install the package: each takes its folder and returns where it is imported from.
INSTALLS = {
    "sources": lambda package: package.parent,
    "bytecode": lambda package: compiled_alone(package).parent,
    "zip": zipped,
    "zip of bytecode": lambda package: zipped(compiled_alone(package)),
}


#: A change of the results, one of the version alone, and one of a constant.
WRONG = "entry.py", "return float(K)", "return 2.0 * K"
NEWER = "__init__.py", '__version__ = "', '__version__ = "1'
OTHER = "cpu/rule.py", "LEAF = 256", "LEAF = 128"


def install(how, folder, file="", old="", new=""):
    """Install the package in this way, with `new` in place of `old` in one file; returns where it
    is imported from."""
    package = copy_of_the_package(folder / "numba_linear")
    if file:
        text = (package / file).read_text(encoding="utf-8")
        assert text.count(old) == 1
        (package / file).write_text(text.replace(old, new), encoding="utf-8")
    return INSTALLS[how](package)


@pytest.mark.once
@pytest.mark.parametrize("how", ["bytecode", "zip"])
def test_another_version_however_it_is_installed(how, tmp_path):
    """A cached caller of the old version is compiled anew."""
    script = tmp_path / "user.py"
    script.write_text(USER)
    settings = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    first = install(how, tmp_path / "first")
    assert run(first, script, cwd=tmp_path, **settings) == "2.0 2.0 0\n"
    second = install(how, tmp_path / "second", *WRONG)
    assert run(second, script, cwd=tmp_path, **settings) == "1.0 1.0 0\n"


BUILD = "from numba_linear.jit.build import build; print(build())"


def build_of(home, **settings):
    return run(home, "-c", BUILD, cwd=home.parent, **settings)


@pytest.mark.once
@pytest.mark.parametrize("how", list(INSTALLS))
def test_builds_are_told_apart(how, tmp_path):
    """By every module and by the version, not by the place and time of installation."""
    home = install(how, tmp_path / "a")
    assert len(build_of(home)) == 17
    builds = {
        build_of(home),
        build_of(install(how, tmp_path / "b", *NEWER)),
        build_of(install(how, tmp_path / "c", *OTHER)),
    }
    assert len(builds) == 3
    if how in ("sources", "zip"):  # a .pyc names its source
        assert build_of(install(how, tmp_path / "e")) == build_of(home)


@pytest.mark.once
def test_a_build_that_is_frozen_into_a_program(tmp_path):
    """A loader may have only code, as in programs of one file."""
    frozen = """
import importlib.machinery
import sys


class Frozen(importlib.machinery.SourceFileLoader):
    def get_data(self, path):
        if sys._getframe(1).f_code.co_name == "content":
            raise OSError("there are no files")
        return super().get_data(path)


def hook(path, home=sys.path[1]):
    if not path.startswith(home):
        raise ImportError(path)
    return importlib.machinery.FileFinder(path, (Frozen, importlib.machinery.SOURCE_SUFFIXES))


sys.path_hooks.insert(0, hook)
sys.path_importer_cache.clear()
"""
    builds = set()
    for name, change in (("a", ()), ("b", OTHER)):
        home = install("sources", tmp_path / name, *change)
        for seed in "12":  # it orders sets
            builds.add(run(home, "-c", frozen + BUILD, PYTHONHASHSEED=seed))
    assert len(builds) == 2


def test_strange_names_beside_the_sources(tmp_path):
    """Files that an editor or user left there do not belong to the package and are not read."""
    package = copy_of_the_package(tmp_path / "numba_linear")
    clean = build_of(tmp_path)
    for folder in (package, package / "cpu"):
        if sys.platform != "win32":
            (folder / ".#layer.py").symlink_to("user@host.1234:1700000000")
            (folder / "gone.py").symlink_to("nowhere")
            (folder / "round.py").symlink_to("round.py")
            os.mkfifo(folder / "pipe.py")  # reading it would wait for ever
        (folder / "old.py").mkdir()
        (folder / "old.py" / "layer.py").write_text("1 +")
        (folder / "copy of layer.py.orig").write_text("1 +")
        (folder / "notes").mkdir()
        (folder / "notes" / "draft.py").write_text("1 +")
    script = tmp_path / "load.py"
    script.write_text(ONE_FUNCTION)
    assert build_of(tmp_path) == clean
    for state in ("0 read 1 compiled\n", "1 read 0 compiled\n"):
        assert run(tmp_path, script, "float64", NUMBA_CACHE_DIR=str(tmp_path / "cache")) == state


@pytest.mark.once
def test_a_version_that_changes_under_a_running_program(tmp_path):
    """Code that it compiles later is not taken for the new version's."""
    package = copy_of_the_package(tmp_path / "numba_linear")
    script = tmp_path / "user.py"
    script.write_text(USER)
    upgrade = """
import sys
from pathlib import Path

import numba_linear
from numba_linear import grad_bias

if len(sys.argv) > 1:
    entry = Path(sys.argv[1])
    text = entry.read_text(encoding="utf-8")
    entry.write_text(text.replace("return float(K)", "return 2.0 * K"), encoding="utf-8")
"""
    script.write_text(upgrade + USER)
    settings = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert run(tmp_path, script, package / "entry.py", **settings) == "2.0 2.0 0\n"
    assert run(tmp_path, script, **settings) == "1.0 1.0 0\n"


@full
def test_another_processor(tmp_path):
    """One cache folder serves several: each compiles its own code."""
    targets = [{}, {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "+sse2"}, {}]
    for settings in targets:
        (state,) = finish(call(tmp_path, **settings))
    assert state.strip().endswith(", 0 compiled")

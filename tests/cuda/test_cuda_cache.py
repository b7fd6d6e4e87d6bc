"""Machine code on disk: found again, and compiled anew if the file is not what was written."""

import pytest

pytest.importorskip("numba_cuda", reason="the extra is not installed: pip install -e '.[cuda]'")

from pathlib import Path

from numba.core import config

from numba_linear.cuda import compiled
from numba_linear.cuda.compiled import Kernel

CODE = b"machine code"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Counted(Kernel):
    """A kernel that records how often it was compiled, and for what."""

    def __init__(self, name="kernel", code=CODE):
        super().__init__(name, None, 32, 1, ())
        self.code, self.compiled = code, []

    def compile(self, capability):
        self.compiled.append(capability)
        return self.code


def test_compiled_once(folder):
    first, second = Counted(), Counted()
    assert first.machine_code((9, 0)) == second.machine_code((9, 0)) == CODE
    assert first.compiled == [(9, 0)] and not second.compiled
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("what", ["name", "architecture", "package", "toolkit", "sources"])
def test_a_file_of_another_is_not_taken(folder, monkeypatch, what):
    """Another kernel, GPU, version of the package, its files, or the toolkit."""
    Counted().machine_code((9, 0))
    other = Counted("other" if what == "name" else "kernel", b"other code")
    found = compiled.foundations()
    place = {"sources": 0, "package": 1, "toolkit": len(found) - 1}.get(what)
    if place is not None:
        changed = (*found[:place], "other", *found[place + 1 :])
        monkeypatch.setattr(compiled, "foundations", lambda: changed)
    assert other.machine_code((8, 6) if what == "architecture" else (9, 0)) == b"other code"
    assert other.compiled and len(list(folder.iterdir())) == 2


def test_foundations():
    digest, package, *others = compiled.foundations()
    assert len(digest) == 64 and package.startswith("numba_linear ")
    assert {x.split()[0] for x in others} == {
        *("numba", "numba-cuda", "llvmlite", "nvvm", "nvjitlink")
    }


@pytest.mark.parametrize(
    "harm",
    [
        lambda whole: b"",
        lambda whole: whole[:40],
        lambda whole: whole[:-1],
        lambda whole: whole + b"!",
        lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
        lambda whole: bytes(len(whole)),
        lambda whole: CODE,
    ],
)
def test_a_broken_file_is_written_anew(folder, harm):
    Counted().machine_code((9, 0))
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(harm(whole))
    again = Counted()
    assert again.machine_code((9, 0)) == CODE and again.compiled
    assert list(folder.iterdir()) == [file] and file.read_bytes() == whole


def test_where_nothing_can_be_written(tmp_path, monkeypatch):
    """A file is in the folder's place. The call works, as it does on a full or read-only disk."""
    place = tmp_path / "place"
    place.write_text("a file")
    monkeypatch.setattr(config, "CACHE_DIR", str(place / "cache"))
    kernel = Counted()
    assert kernel.machine_code((9, 0)) == kernel.machine_code((9, 0)) == CODE
    assert len(kernel.compiled) == 2


def test_folders(monkeypatch, tmp_path):
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    beside, own = compiled.folders()
    assert beside == Path(compiled.__file__).parent / "__pycache__"
    assert own == tmp_path / "numba_linear"

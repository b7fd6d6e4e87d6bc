"""AArch64's tiles, compiled on any machine: the instructions of their inner loops, and the rate on
paper if there is an `llvm-mca` that knows the cores."""

import re
import shutil
import subprocess

import assembly
import pytest
from llvmlite import binding
from processes import finish, start

if binding.llvm_version_info < (16,):
    pytest.skip("LLVM does not know the cores", allow_module_level=True)

DTYPES = ("float32", "float64")
#: Sums of a tile in vectors of 128 bits: rows, then numbers per row.
ROWS, BYTES = 5, 64
TERMS = {"float32": 4, "float64": 2}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The tiles' assembly for each core, and for x86-64 as it was at first."""
    targets = {core: ("aarch64-unknown-linux-gnu", core) for core in assembly.CORES}
    targets["x86-64"] = ("x86_64-unknown-linux-gnu", "x86-64")
    folders = {target: tmp_path_factory.mktemp("assembly") for target in targets}
    finish(
        *(
            start(
                assembly.__file__,
                folders[target],
                triple,
                NUMBA_CPU_NAME=cpu,
                NUMBA_CPU_FEATURES="",
                NUMBA_CACHE_DIR=str(tmp_path_factory.mktemp("cache")),
            )
            for target, (triple, cpu) in targets.items()
        )
    )
    return folders


def largest(folder, dtype):
    columns = BYTES // {"float32": 4, "float64": 8}[dtype]
    return assembly.loops((folder / f"tile_{dtype}_{ROWS}x{columns}.s").read_text())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("core", assembly.CORES)
def test_every_sum_stays_in_a_register(core, dtype, folders):
    by_registers, one_by_one = largest(folders[core], dtype)
    sums = ROWS * BYTES // 16
    assert assembly.multiply_adds(by_registers) == sums * TERMS[dtype]
    assert assembly.multiply_adds(one_by_one) == sums
    for loop in (by_registers, one_by_one):
        assert not [line for line in loop if re.search(r"\[sp|\bst", line)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("core", assembly.CORES)
def test_multiply_adds_take_a_s_numbers_by_element(core, dtype, folders):
    loop, _ = largest(folders[core], dtype)
    by_element = [line for line in loop if re.search(r"fmla.*\.[sd]\[\d\]$", line)]
    assert len(by_element) == assembly.multiply_adds(loop)
    # a register for each of A's rows, and B's vectors, two of which one instruction may load
    loaded = sum(2 if line.startswith("ldp") else line.startswith("ld") for line in loop)
    assert loaded == ROWS + TERMS[dtype] * BYTES // 16


def test_baseline_x86_keeps_its_own_tile(folders):
    assert (folders["x86-64"] / "tile_float32_4x8.s").exists()
    assert not (folders["x86-64"] / "tile_float32_5x16.s").exists()


def mca():
    """The path of an llvm-mca that has a model of every core, or None."""
    for name in ("llvm-mca", *(f"llvm-mca-{version}" for version in range(30, 16, -1))):
        path = shutil.which(name)
        if path and all(
            subprocess.run(
                [path, "-mtriple=aarch64", f"-mcpu={core}"],
                input="nop",
                capture_output=True,
                text=True,
                check=False,
            ).returncode
            == 0
            for core in assembly.CORES
        ):
            return path
    return None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("core", assembly.CORES)
def test_rate_on_paper(core, dtype, folders):
    path = mca()
    if path is None:
        pytest.skip("there is no llvm-mca that knows these cores")
    got = assembly.rate(largest(folders[core], dtype)[0], core, path)
    most = 2 if (core, dtype) == ("apple-m1", "float64") else assembly.CORES[core]
    assert got >= (0.75 if core == "neoverse-n1" else 0.825) * most

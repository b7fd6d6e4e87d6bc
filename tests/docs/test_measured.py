"""The pages' measurements name their machine and satisfy the rule."""

import json
import math
from pathlib import Path

import pytest

FIGURES = Path(__file__).parents[2] / "docs" / "figures"
LEAF, U = 256, 2.0**-24


def read(name):
    return json.loads((FIGURES / f"{name}.json").read_text())


@pytest.mark.parametrize(
    "name",
    [
        "rows",
        "error",
        "bench",
        "bench_avx2",
        "compiling",
        "paths",
        "pytorch",
        "pytorch_speed",
        "stored",
    ],
)
def test_a_measurement_names_its_machine_and_versions(name):
    facts = read(name)["facts"]
    for fact in ("processor", "Python", "numba", "numpy", "torch", "BLAS"):
        assert facts[fact] not in ("", "not installed")


@pytest.mark.parametrize("name", ["gallery", "gallery_speed"])
def test_the_gallery_names_its_machine_and_versions(name):
    facts = read(name)["facts"]
    for fact in ("processor", "Python", "numba", "numpy", "torch", "dask"):
        assert facts[fact] not in ("", "not installed")


def test_the_gallery_s_hashes_are_what_its_page_says():
    same = read("gallery")["same_bits"]
    assert len(same["numba_linear"]) == 4
    assert len({sha for sha, _ in same["numba_linear"].values()}) == 1
    assert len({sha for sha, _ in same["NumPy"].values()}) == 2
    models = read("gallery")["pytorch_digits"]
    assert models["numba_linear"]["1"] == models["numba_linear"]["2"]
    assert models["PyTorch"]["1"]["sha256"] != models["PyTorch"]["2"]["sha256"]


def test_a_cluster_s_times_name_their_machine_and_versions():
    facts = read("cluster")["facts"]
    for fact in ("processor", "Python", "numba", "numpy", "dask", "distributed"):
        assert facts[fact] not in ("", "not installed")


def test_no_row_of_the_package_changed():
    cells = [cell for cell in read("rows")["cells"] if cell["name"] == "numba_linear"]
    assert len(cells) >= 20
    assert all(cell["rows"] == cell["threads"] == cell["layout"] == 0 for cell in cells)


def test_a_trained_layer_of_the_package_changed_nothing():
    (cell,) = (cell for cell in read("pytorch")["trained"] if cell["name"] == "Linear")
    assert len(set(cell["sha256"].values())) == 1 < len(cell["sha256"])
    assert cell["rows"] == 0 < cell["samples"]


@pytest.mark.parametrize("kind", ["positive", "normal"])
@pytest.mark.parametrize("operation", ["forward", "grad_weight"])
def test_every_error_is_below_the_bound(kind, operation):
    measured = read("error")
    errors = measured[kind][operation]["numba_linear"]
    for terms, error in zip(measured["lengths"], errors, strict=True):
        depth = min(terms, LEAF) + math.ceil(math.log2(-(-terms // LEAF)))
        assert 0 < error < depth / (1 - depth * U)

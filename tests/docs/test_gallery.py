"""The gallery's examples, at a small size: each does what its page says."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

GALLERY = Path(__file__).parents[2] / "docs" / "gallery"
SCRIPTS = sorted(script.stem for script in GALLERY.glob("*.py"))
NEEDS = {"pytorch_digits": "torch"}


@pytest.fixture
def gallery(monkeypatch):
    monkeypatch.syspath_prepend(GALLERY)

    def load(name):
        if name in NEEDS:
            pytest.importorskip(NEEDS[name])
        return importlib.import_module(name)

    yield load
    for name in SCRIPTS:
        sys.modules.pop(name, None)


def test_a_script_has_less_than_a_hundred_lines_and_a_place_on_the_page():
    page = (GALLERY.parent / "gallery.md").read_text()
    assert len(SCRIPTS) == 6
    for name in SCRIPTS:
        assert len((GALLERY / f"{name}.py").read_text().splitlines()) < 100, name
        assert f"literalinclude:: gallery/{name}.py" in page


def test_evolution(gallery):
    module = gallery("evolution")
    cost = module.example(generations=20, population=64, steps=200)["cost"]
    assert np.mean(cost[-5:]) < 0.8 * cost[0]
    # A network's episode is the same alone and in the population.
    networks = module.networks(np.random.default_rng(0).standard_normal((8, 353)) / 4)
    costs = module.generation(*networks, 50)
    for p in range(8):
        assert costs[p] == module.episode(*(part[p] for part in networks), np.empty(50))


def test_surrogate(gallery):
    found = gallery("surrogate").example(rounds=4000, steps=300)
    assert np.abs(np.subtract(found["exact"], found["surrogate"])).max() < 0.4


def test_same_bits(gallery):
    found = gallery("same_bits").example(steps=5)["numba_linear"]
    assert {"1 thread", "2 threads", "micro-batches"} <= set(found)
    assert len({sha for sha, _ in found.values()}) == 1
    assert all(right > 0.8 for _, right in found.values())


def test_private(gallery):
    module = gallery("private")
    accuracy = module.example(epochs=5)["accuracy"]
    assert accuracy["0.0"][-1] > 0.7 > 0.4 > accuracy["0.0"][0]


def test_pytorch_digits(gallery):
    found = gallery("pytorch_digits").example(epochs=4)["numba_linear"]
    assert found["1"] == found["2"]
    assert found["1"]["changed"] == 0 and found["1"]["accuracy"] > 0.9


def test_online(gallery):
    errors = gallery("online").example(samples=20_000)["errors"]
    assert np.mean(errors[80:95]) < 0.1 * errors[0]
    assert max(errors[98:105]) > 2 * np.mean(errors[80:95])


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_usual_way_computes_the_same(gallery, name):
    """`contest` compares both where possible, and everything that is timed runs."""
    for run in gallery(name).contest().values():
        run()

"""The regression alarm: silent on noise as measured, and not on a larger loss."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

import numba_linear
from benchmarks import alarm

#: Runs of one commit.
NOISE = json.loads((alarm.ROOT / "benchmarks" / "noise.json").read_text())

NAMES = list(NOISE)


def slowed(runs, factor, *names):
    """Runs in which some ratios have grown."""
    return {
        name: [ratio * (factor if name in names else 1) for ratio in ratios]
        for name, ratios in runs.items()
    }


def test_silent_on_measured_noise():
    lost = list(alarm.null_losses(NOISE))
    assert len(lost) == 924
    assert all(alarm.alarms(each) == [] for each in lost)
    # And not because the limits are out of reach: noise reaches half of them.
    assert max(max(each.values()) for each in lost) > 1 + (alarm.CELL - 1) / 3
    assert max(map(alarm.mean_of, lost)) > 1 + (alarm.MEAN - 1) / 4


def test_runs_that_were_disturbed_raise_nothing():
    disturbed = {
        name: [*ratios[:10], 5 * ratios[10], 5 * ratios[11]] for name, ratios in NOISE.items()
    }
    assert alarm.alarms(alarm.losses(NOISE, disturbed)) == []


@pytest.mark.parametrize("name", NAMES)
def test_one_ratio_that_lost(name):
    first = {each: ratios[:6] for each, ratios in NOISE.items()}
    second = {each: ratios[6:] for each, ratios in NOISE.items()}
    (found,) = alarm.alarms(alarm.losses(first, slowed(second, 1.2, name)))
    assert found.startswith(f"{name}: 1.")
    assert found.endswith(f"limit {alarm.CELL}")


def test_a_little_lost_everywhere():
    first = {each: ratios[:6] for each, ratios in NOISE.items()}
    second = {each: ratios[6:] for each, ratios in NOISE.items()}
    (found,) = alarm.alarms(alarm.losses(first, slowed(second, 1.04, *NAMES)))
    assert found.startswith("geometric mean: 1.0")


def test_the_worst_stands_first():
    lost = {"a": 1.2, "b": 1.5, "c": 0.5}
    assert [each.split(":")[0] for each in alarm.alarms(lost)] == ["b", "a"]


# A real measurement of one ratio, by two processes that each compile their own copy.


@pytest.fixture
def copies(tmp_path):
    """Two copies of the package; the second calls `forward` twice for each call."""
    if importlib.util.find_spec("threadpoolctl") is None:
        pytest.skip("threadpoolctl is not installed: pip install -e '.[bench]'")
    for name in ("base", "head"):
        shutil.copytree(
            Path(numba_linear.__file__).parent,
            tmp_path / name / "numba_linear",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    with (tmp_path / "head" / "numba_linear" / "__init__.py").open("a") as file:
        file.write(
            "\n_once = forward\n"
            "def forward(*arguments):\n"
            "    _once(*arguments)\n"
            "    return _once(*arguments)\n"
        )
    return (tmp_path / "base").resolve(), (tmp_path / "head").resolve()


def test_a_package_that_is_slower(copies, capsys):
    name = r"forward \(32, 64, 64\) float32"
    found = alarm.compare(*copies, runs=1, only=name)
    assert len(found) == 2
    assert found[0].startswith("forward (32, 64, 64) float32: ")
    out = capsys.readouterr().out
    assert "ALARM: forward (32, 64, 64) float32" in out
    assert "passed" not in out

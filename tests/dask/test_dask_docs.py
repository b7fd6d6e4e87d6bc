"""The docstrings' examples, and the command that trains on workers."""

import doctest
import re

import pytest

pytest.importorskip("dask.array")
pytest.importorskip("distributed")

import numba_linear.dask
from numba_linear.__main__ import main
from numba_linear.commands import cluster


@pytest.mark.parametrize(
    "name", [name for name in numba_linear.dask.__all__ if name != "Gradients"]
)
def test_a_docstring_s_example_runs(name):
    function = getattr(numba_linear.dask, name)
    (example,) = doctest.DocTestFinder(recurse=False).find(function, name)
    result = doctest.DocTestRunner().run(example)
    assert result.attempted > 0
    assert result.failed == 0


def test_train_on_workers_ends_with_the_bits_of_memory(monkeypatch, capsys):
    monkeypatch.setattr(cluster, "STEPS", 6)
    monkeypatch.setattr(cluster, "ACCURACY", 0.2)
    assert main(["train", "--dask"]) == 0
    out = capsys.readouterr().out
    first, again = re.findall(r"weights (\w+)", out)
    assert first == again
    assert "passed: both end with the same bits" in out


def test_train_on_workers_fails_where_a_bit_differs(monkeypatch, capsys):
    monkeypatch.setattr(cluster, "STEPS", 1)
    right = cluster.step

    def wrong(calls, *arguments):
        state = right(calls, *arguments)
        if calls is numba_linear:
            state.network.b2[0] = 0
        return state

    monkeypatch.setattr(cluster, "step", wrong)
    assert main(["train", "--dask"]) == 1
    assert "FAILED: both end with the same bits" in capsys.readouterr().out

"""The benchmarks: what they measure, what they skip, and which results are kept."""

import json
import re
import subprocess
from time import perf_counter

import numpy as np
import pytest

import numba_linear
from benchmarks import bits, dispatch, history, layer, publish
from benchmarks.common import OPERATIONS, peers, ready, set_threads
from numba_linear import equations
from numba_linear.commands.integers import floats
from numba_linear.commands.timing import Contestant

#: The one machine whose results are kept; others' may be beside them.
RESULTS = publish.HERE / "results" / "amd-epyc-2-cores"


# --------------------------------------------------------------------------------------
# What is measured
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_digest_is_that_of_the_equations(dtype):
    want = bits.digest(bits.results(equations, dtype))
    for parallel in (False, True):
        assert bits.digest(bits.results(numba_linear, dtype, parallel=parallel)) == want


def test_the_digest_knows_one_bit():
    y = floats(1, (3, 5), "float32")
    other = y.copy()
    other[2, 4] = np.nextafter(other[2, 4], np.float32(2))
    assert bits.digest(iter([y])) != bits.digest(iter([other]))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_peers_compute_the_same(operation):
    K, n, m = 6, 5, 4
    shapes = {"x": (K, n), "w": (m, n), "b": (m,), "g": (K, m)}
    names = {name: floats(i, shape, "float64") for i, (name, shape) in enumerate(shapes.items())}
    names = vars(numba_linear) | names | {"K": K}
    ours = eval(peers.OURS[operation], names)
    # All but the last are statements whose results the benchmark discards.
    theirs = [eval(part, names) for part in peers.NUMPY[operation].split(";")]
    for got, want in zip(ours if operation == "backward" else [ours], theirs, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_a_sample_is_seconds_of_one_call():
    calls = []

    def contest(*arguments):
        return [Contestant("numba_linear", lambda count: calls.append(count) or count * 1e-4)]

    benchmark = dispatch.Dispatch()
    benchmark.prepare(contest, "forward", (1, 4, 4), "float32", 1, "numba_linear")
    assert benchmark.count == 32  # 3.2 ms, the first above the 2 ms of a sample
    assert calls == [1, 1, 2, 4, 8, 16, 32, 32]
    benchmark.calls()
    assert calls[-1] == 32
    before = perf_counter()
    assert before / 32 <= benchmark.timer() <= perf_counter() / 32


def test_setting_up_again_is_a_lookup():
    benchmark = layer.Forward()
    benchmark.setup("numba_linear", (32, 64, 64), "float32", 1)
    before = ready.cache_info()
    benchmark.setup("numba_linear", (32, 64, 64), "float32", 1)
    assert ready.cache_info().hits == before.hits + 1


# --------------------------------------------------------------------------------------
# What is skipped
# --------------------------------------------------------------------------------------


def test_more_threads_than_cores_are_skipped():
    with pytest.raises(NotImplementedError, match="1000 threads on"):
        set_threads(1000)


def test_a_peer_that_is_not_installed_is_skipped(monkeypatch):
    monkeypatch.setattr(peers, "installed", lambda package: False)
    ready.cache_clear()
    with pytest.raises(NotImplementedError, match="torch is not installed"):
        layer.Forward().setup("torch", (32, 64, 64), "float32", 1)


# --------------------------------------------------------------------------------------
# What is kept
# --------------------------------------------------------------------------------------


def kept():
    """The results of every commit, as asv writes them."""
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*-*.json"))]


def test_results_of_at_least_eight_commits_of_one_machine():
    results = kept()
    assert len({each["commit_hash"] for each in results}) >= 8
    assert {each["params"]["machine"] for each in results} == {RESULTS.name}
    for each in results:
        assert any(name.startswith("layer.") for name in each["results"])


def test_every_kept_commit_is_drawn():
    """asv draws only first parents of HEAD, and its warning about others helps no reader."""

    def git(*arguments):
        return subprocess.check_output(["git", *arguments], cwd=publish.HERE, text=True).split()

    if not (publish.HERE.parent / ".git").exists():
        pytest.skip("not a git clone")
    if git("rev-parse", "--is-shallow-repository") != ["false"]:
        pytest.skip("a shallow clone")
    drawn = git("rev-list", "--first-parent", "HEAD")
    assert {each["commit_hash"] for each in kept()} <= set(drawn)


def test_no_commit_changed_the_bits():
    digests = {tuple(each["results"]["bits.Bits.track_bits"][0]) for each in kept()}
    assert len(digests) == 1
    ((float32, again, float64, once_more),) = digests
    assert float32 == again == bits.digest(bits.results(equations, "float32"))
    assert float64 == once_more == bits.digest(bits.results(equations, "float64"))


def test_results_tell_nothing_of_whose_machine_it_is():
    for path in RESULTS.glob("*.json"):
        assert not re.search(r'"(?:/|[A-Za-z]:\\)', path.read_text()), f"{path} names a folder"
    here = history.machine()
    assert re.fullmatch(r"[a-z0-9-]+-\d+-cores", here["machine"])
    assert here["os"].isalpha()

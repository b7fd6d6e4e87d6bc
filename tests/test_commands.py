"""``python -m numba_linear``: what it proves, what it says, and how it fails."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

import numba_linear
from numba_linear.__main__ import main
from numba_linear.commands import bench, dataset, groups, plot, timing, train, verify
from numba_linear.commands.groups import GROUPS, SMALL, Cell, Table
from numba_linear.commands.integers import floats, integers, permutation

# --------------------------------------------------------------------------------------
# Numbers from integers
# --------------------------------------------------------------------------------------


def test_integers_are_splitmix64():
    want = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert integers(0, 3).tolist() == want


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 24), ("float64", 53)])
def test_floats_use_the_whole_significand(dtype, bits):
    a = floats(1, (100, 10), dtype)
    assert a.dtype == dtype and a.shape == (100, 10)
    assert (np.abs(a) <= 1).all() and abs(a.mean()) < 0.1
    scaled = a.astype(np.longdouble) * 2.0 ** (bits - 1)
    assert (scaled == np.floor(scaled)).all() and (scaled % 2 == 1).any()


def test_permutation_holds_each_number_once():
    order = permutation(3, 1000)
    assert sorted(order) == list(range(1000))
    assert (order != permutation(4, 1000)).any()


# --------------------------------------------------------------------------------------
# verify
# --------------------------------------------------------------------------------------


def test_verify_passes(capsys):
    assert main(["verify"]) == 0
    out = capsys.readouterr().out
    assert "FAILED" not in out
    assert out.count("passed: ") == 4
    for equal, compared in re.findall(r"(\d+) of (\d+)", out):
        assert equal == compared


def test_verify_fails_where_the_digest_is_another(monkeypatch, capsys):
    monkeypatch.setitem(verify.RECORDED, "float64", "0" * 64)
    assert main(["verify"]) == 1
    out = capsys.readouterr().out
    assert "FAILED: float64: the results' SHA-256" in out
    assert f"recorded   {'0' * 64}" in out


def test_verify_fails_where_one_bit_differs(monkeypatch, capsys):
    def off_by_one_bit(x, w, b=None, **options):
        y = numba_linear.forward(x, w, b, **options)
        if y.shape == (257, 31):
            y[256, 30] = np.nextafter(y[256, 30], np.inf, dtype=y.dtype)
        return y

    monkeypatch.setattr(verify, "forward", off_by_one_bit)
    monkeypatch.setattr(verify, "SHAPES", ((1, 5, 7), (257, 65, 31)))
    assert main(["verify"]) == 1
    out = capsys.readouterr().out
    assert "forward, float32, (K, n, m) = (257, 65, 31), one thread: 1 of 7967" in out
    assert re.search(r"first at \(256, 30\): got .* = 0x[0-9a-f]+, expected .* = 0x[0-9a-f]+", out)


def test_verify_fails_where_a_gradient_is_not_the_derivative(monkeypatch, capsys):
    def doubled(g, x, w, *arguments, **options):
        gradients = numba_linear.backward(g, x, w, *arguments, **options)
        return gradients._replace(weight=2 * gradients.weight)

    monkeypatch.setattr(verify, "backward", doubled)
    monkeypatch.setattr(verify, "SHAPES", ((1, 5, 7),))
    assert main(["verify"]) == 1
    assert "FAILED: gradients agree with 137 finite differences" in capsys.readouterr().out


# --------------------------------------------------------------------------------------
# train
# --------------------------------------------------------------------------------------


def test_train_learns_the_digits_twice_with_the_same_bits(capsys):
    assert main(["train"]) == 0
    out = capsys.readouterr().out
    (accuracy, first), (again, second) = re.findall(r"accuracy ([\d.]+) %.* weights (\w+)", out)
    assert float(accuracy) >= 96 and accuracy == again
    assert first == second


def test_train_fails_below_the_accuracy(monkeypatch, capsys):
    monkeypatch.setattr(train, "ACCURACY", 1.01)
    assert main(["train"]) == 1
    assert "FAILED: accuracy at least 101 %" in capsys.readouterr().out


def test_micro_batches_train_to_the_same_bits(capsys):
    weights = set()
    for few in (1, 7, 32, None):
        network, _ = train._train(dataset.load(dataset.DIGITS), few)
        weights.add(hashlib.sha256(b"".join(a.tobytes() for a in network)).hexdigest())
    assert len(weights) == 1
    assert main(["train", "--micro-batch", "7"]) == 0
    out = capsys.readouterr().out
    first, second = re.findall(r"weights (\w+)", out)
    assert first == second == weights.pop()[:16]
    assert ", 7 samples at a time" in out


@pytest.mark.parametrize("arguments", [["--micro-batch", "0"], ["--micro-batch", "3", "--dask"]])
def test_train_names_a_wrong_micro_batch(arguments, capsys):
    assert main(["train", *arguments]) == 2
    assert "micro-batch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--epochs", "0"], "0 epochs: expected 1 or more"),
        (
            ["--save", "net"],
            "net: cannot be written, expected an .npz file in an existing folder",
        ),
        (["--save", "no/such/net.npz"], "cannot be written"),
        (["--epochs", "3", "--dask"], "--epochs is for this process alone"),
        (["--save", "net.npz", "--dask"], "--save is for this process alone"),
    ],
)
def test_train_names_a_wrong_option(option, message, capsys):
    assert main(["train", *option]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and not captured.out


def page_s_classify():
    """The function by which docs/train.md reads a saved network."""
    page = pathlib.Path(__file__).parents[1] / "docs" / "train.md"
    if not page.exists():
        pytest.skip("the pages are not there")
    (code,) = re.findall(r"```python\n(def classify.*?)```", page.read_text("utf-8"), re.DOTALL)
    names = {"np": np, "forward": numba_linear.forward}
    exec(code, names)
    return names["classify"]


def test_a_saved_network_is_the_one_that_was_trained(tmp_path, capsys):
    x, y = samples()
    labels = np.array([7, 0, 10**6])[y]
    np.savez(tmp_path / "data.npz", x=x, y=labels)
    path = tmp_path / "net.npz"
    assert main(["train", str(tmp_path / "data.npz"), "--epochs", "5", "--save", str(path)]) == 0
    out = capsys.readouterr().out
    with np.load(path) as file:
        net = dict(file)
    assert sorted(net) == ["b1", "b2", "deviation", "labels", "mean", "w1", "w2"]
    weights = b"".join(net[name].tobytes() for name in ("w1", "b1", "w2", "b2"))
    assert hashlib.sha256(weights).hexdigest()[:16] in out

    data = dataset.load(tmp_path / "data.npz")
    network, _ = train._train(data, epochs=5)
    assert b"".join(a.tobytes() for a in network) == weights
    test = permutation(0, len(x))[: len(x) // 4]
    want = data.labels[train.predict(network, data.x_test)]
    got = page_s_classify()(path, x[test])
    assert (got == want).all() and (got == labels[test]).mean() > 0.8


def test_few_epochs_owe_no_accuracy(tmp_path, capsys):
    assert main(["train", "--epochs", "1", "--save", str(tmp_path / "net.npz")]) == 0
    assert "accuracy at least" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert f"(default: {train.EPOCHS};" in capsys.readouterr().out


def test_calls_of_any_length_train_alike(monkeypatch):
    data = dataset.load(dataset.DIGITS)
    whole, _ = train._train(data)
    monkeypatch.setattr(train, "CALL", 1)
    for a, c in zip(whole, train._train(data)[0], strict=True):
        assert a.tobytes() == c.tobytes()


def samples():
    """200 samples of three classes that are easy to tell apart."""
    y = np.arange(200) % 3
    x = floats(0, (200, 4), np.float64)
    x[:, 1] += 2 * y
    x[:, 3] = 0.1  # a constant column
    return x, y


def test_train_takes_npz_and_csv_alike(tmp_path, capsys):
    x, y = samples()
    np.savez(tmp_path / "data.npz", x=x, y=y)
    rows = np.column_stack([x, y]).tolist()
    table = "\n".join(",".join(map(repr, row)) for row in rows)
    (tmp_path / "plain.csv").write_text(table)
    (tmp_path / "named.CSV").write_text("\ufeffa,b,c,d,label\n" + table + "\n\n", "utf-8")
    weights = set()
    for name in ("data.npz", "plain.csv", "named.CSV"):
        assert main(["train", str(tmp_path / name)]) == 0
        out = capsys.readouterr().out
        assert "4 → 128 → 3" in out and "150 samples to train and 50 to test" in out
        assert "features standardised" in out and "classes" not in out
        accuracies = re.findall(r"accuracy ([\d.]+) %", out)
        assert min(map(float, accuracies)) > 90
        weights |= set(re.findall(r"weights (\w+)", out))
    assert len(weights) == 1


def test_labels_may_be_any_integers_from_0(tmp_path):
    x, y = samples()
    np.savez(tmp_path / "data.npz", x=x, y=np.array([7.0, 0.0, 1e6])[y])
    data = dataset.load(tmp_path / "data.npz")
    assert data.labels.tolist() == [0, 7, 10**6]
    assert set(data.y) == {0, 1, 2}


def npz(**arrays):
    return lambda path: np.savez(path, **arrays)


def text(content):
    return lambda path: path.write_text(content, "utf-8")


X, Y = samples()
LINES = "".join(f"{k},{k * k},{k % 2}\n" for k in range(10))
with_nan = X.copy()
with_nan[5, 2] = np.nan
halves = Y.astype(float)
halves[7] = 1.5

BAD_FILES = {
    "missing": ("a.npz", lambda path: None, "No such file"),
    "directory": ("a.npz", lambda path: path.mkdir(), "is a directory"),
    "other kind": ("a.txt", text("1,2\n"), "ends in .npz or .csv"),
    "no npz": ("a.npz", text("1,2\n"), "is not an .npz file"),
    "empty npz": ("a.npz", text(""), "is not an .npz file"),
    "no x": ("a.npz", npz(X=X, y=Y), "has no array 'x', found 'X', 'y'"),
    "no y": ("a.npz", npz(x=X), "has no array 'y', found 'x'"),
    "x 1-D": ("a.npz", npz(x=X[:, 0], y=Y), "'x' has shape (200,), expected (samples, features)"),
    "y 2-D": ("a.npz", npz(x=X, y=X), "'y' has shape (200, 4), expected (samples,)"),
    "lengths": ("a.npz", npz(x=X, y=Y[:-1]), "'x' holds 200 samples and 'y' 199 labels"),
    "no features": ("a.npz", npz(x=X[:, :0], y=Y), "expected at least one feature"),
    "strings": ("a.npz", npz(x=X.astype(str), y=Y), "'x' does not hold numbers"),
    "complex": ("a.npz", npz(x=X * 1j, y=Y), "'x' does not hold numbers"),
    "objects": ("a.npz", npz(x=X.astype(object), y=Y), "'x' cannot be read"),
    "nan": ("a.npz", npz(x=with_nan, y=Y), "x[5, 2] is nan, expected a finite number"),
    "too large": ("a.npz", npz(x=X * 1e300, y=Y), "in the range of float32"),
    "fraction": ("a.npz", npz(x=X, y=halves), "y[7] is 1.5, expected a label"),
    "negative": ("a.npz", npz(x=X, y=Y - 1), "y[0] is -1.0, expected a label"),
    "one class": ("a.npz", npz(x=X, y=0 * Y + 3), "every label is 3, expected at least two"),
    "few": ("a.npz", npz(x=X[:7], y=Y[:7]), "has 7 samples, expected at least 8"),
    "none": ("a.npz", npz(x=X[:0], y=Y[:0]), "has 0 samples"),
    "empty csv": ("a.csv", text(""), "holds no samples"),
    "only names": ("a.csv", text("a,b\n"), "holds no samples"),
    "one column": ("a.csv", text("1\n2\n"), "line 1: one column"),
    "word": ("a.csv", text("a,b,c\n1,2,0\n3,x,1\n"), "line 3, column 2: 'x' is not a number"),
    "half names": ("a.csv", text("a,2,c\n" + LINES), "line 1, column 1: 'a' is not a number"),
    "blank cell": ("a.csv", text(LINES + "1,,0\n"), "line 11, column 2: '' is not a number"),
    "ragged": ("a.csv", text("1,2,0\n\n1,2\n"), "line 3: 2 columns, expected 3"),
    "csv inf": ("a.csv", text("a,b,c\n" + LINES + "1,inf,0\n"), "line 12, column 2 is inf"),
    "csv label": (
        "a.csv",
        text(LINES + "1,2,0.5\n"),
        "line 11, column 3 is 0.5, expected a label",
    ),
    "bytes": ("a.csv", lambda path: path.write_bytes(b"\xff\xfe\x00"), "is not a text file"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_named_with_place_and_expectation(case, tmp_path, capsys):
    name, write, message = BAD_FILES[case]
    path = tmp_path / name
    write(path)
    assert main(["train", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"numba_linear: {path}")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not captured.out


def test_a_damaged_npz_names_the_array(tmp_path, capsys):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=X, y=Y)
    damaged = bytearray(path.read_bytes())
    damaged[200:300] = bytes(100)
    path.write_bytes(damaged)
    assert main(["train", str(path)]) == 2
    assert "array 'x' cannot be read" in capsys.readouterr().err


# --------------------------------------------------------------------------------------
# bench
# --------------------------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch):
    """The groups with two shapes and operations only, and very short turns."""
    for name, group in GROUPS.items():
        cut = dataclasses.replace(
            group,
            shapes=SMALL[:2],
            quick=group.quick and SMALL[:1],
            operations=group.operations[:2],
        )
        monkeypatch.setitem(GROUPS, name, cut)
    monkeypatch.setattr(timing, "TURN", 0)
    monkeypatch.setattr(timing, "SETTLE", 0)


def test_bench_prints_a_table_and_writes_json_and_picture(tiny, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(groups, "SPREAD", math.inf)  # a ratio that is not steady has no mean
    table, picture = tmp_path / "bench.json", tmp_path / "bench.png"
    files = ["--json", str(table), "--plot", str(picture)]
    options = ["--threads", "1", "--dtype", "float64", "--seconds", "0"]
    assert main(["bench", "--group", "small", "--group", "tall", *options, *files]) == 0
    out = capsys.readouterr().out
    assert "small, float64, 1 thread: best peer's time / ours" in out
    assert out.count("geometric mean") == 2

    written = json.loads(table.read_text())
    assert written["facts"]["numpy"] == np.__version__
    assert [each["group"] for each in written["tables"]] == ["small", "tall"]
    for each in written["tables"]:
        assert (each["dtype"], each["threads"]) == ("float64", 1)
        assert len(each["cells"]) == 4
        for cell in each["cells"]:
            seconds = dict(cell["seconds"])
            ours = seconds.pop("numba_linear")
            assert cell["ratio"] == min(seconds.values()) / ours
            assert {"numpy"} <= set(seconds) and len(cell["rounds"]["numpy"]) >= 5
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000


def test_quick_bench_runs_every_quick_group(tiny, capsys):
    bench.run_quick()
    out = capsys.readouterr().out
    for name, group in GROUPS.items():
        assert (f"\n{name}, float32, " in out) == bool(group.quick)


def test_limit_is_a_part_of_the_machine(tiny, tmp_path, capsys):
    options = ["--dtype", "float32", "--seconds", "0", "--json", str(tmp_path / "bench.json")]
    assert main(["bench", "--group", "limit", *options]) == 0
    for each in json.loads((tmp_path / "bench.json").read_text())["tables"]:
        assert all(0 < cell["ratio"] < 1.1 for cell in each["cells"])


def test_compiled_group_needs_scipy(tiny, monkeypatch, capsys):
    monkeypatch.setattr("numba_linear.commands.peers.installed", lambda package: False)
    assert main(["bench", "--group", "njit", "--seconds", "0"]) == 2
    captured = capsys.readouterr()
    assert "njit, float32, 1 thread: skipped, scipy is not installed" in captured.out
    assert "nothing of this could be measured" in captured.err


def test_compiled_group_against_np_dot(tiny, capsys):
    pytest.importorskip("scipy")
    assert main(["bench", "--group", "njit", "--dtype", "float32", "--seconds", "0"]) == 0
    assert "time of np.dot + b / ours" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--group", "huge"], "there is no group 'huge', expected one of large, medium"),
        (["--threads", "0"], "0 threads: expected 1 to"),
        (["--json", "no/such/folder/a.json"], "cannot be written"),
        (["--plot", "."], "cannot be written"),
    ],
)
def test_bench_refuses_before_it_measures(options, message, capsys):
    assert main(["bench", *options]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and not captured.out


def test_plot_without_matplotlib_says_so(monkeypatch, capsys):
    monkeypatch.setattr(plot, "installed", lambda package: False)
    assert main(["bench", "--plot", "a.png"]) == 2
    assert "--plot needs matplotlib" in capsys.readouterr().err


def test_plot_of_another_kind_says_so(capsys):
    pytest.importorskip("matplotlib")
    assert main(["bench", "--plot", "a.doc"]) == 2
    assert "a.doc: expected a name that ends in" in capsys.readouterr().err


def test_ratio_is_the_best_peer_over_ours():
    table = Table("small", SMALL, "float32", 1)
    cell = Cell(table, (1, 4, 4), "forward", {"a": [2.0, 1.0], "b": [5.0, 3.0], "c": [4.0, 9.0]})
    assert (cell.ratio, cell.best) == (3.0, "b")


def cell(ours, peer, threads=1, busy=0.0, operation="forward"):
    table = Table("small", SMALL, "float32", threads)
    return Cell(table, (1, 4, 4), operation, {"a": ours, "b": peer, "c": [99.0, 9.0]}, busy)


@pytest.mark.parametrize(
    ("measured", "steady"),
    [
        (cell([1.0, 1.2, 9.0], [2.0, 2.1, 2.2]), True),
        (cell([1.0, 8.0, 9.0], [2.0, 2.1, 2.2]), False),
        (cell([1.0, 1.2, 1.2], [2.0, 4.0, 4.0]), False),
        (cell([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], threads=2, busy=1.0), False),
        (cell([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], threads=2, busy=0.1), True),
        (cell([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], threads=1, busy=1.0), True),
    ],
)
def test_a_ratio_is_steady_or_noise(measured, steady):
    assert measured.steady == steady


def test_no_mean_has_noise_in_it():
    cells = [cell([1.0], [2.0]), cell([1.0], [8.0]), cell([1.0, 7.0, 7.0], [0.01, 0.01, 0.01])]
    mean, worst = bench._summary(cells)
    assert (round(mean, 12), worst) == (4, cells[0])
    assert bench._summary(cells[2:]) == (None, None)


def test_bench_marks_noise(tiny, monkeypatch, tmp_path, capsys):
    noise = iter([True, False, True, True])

    def measure(contestants, seconds, threads):
        ours = [1.0, 9.0, 9.0] if next(noise) else [1.0, 1.0, 1.0]
        return {"numba_linear": ours, "numpy": [2.0, 2.0, 2.0], "torch": [3.0, 3.0, 3.0]}

    monkeypatch.setattr(bench, "measure", measure)
    options = ["--threads", "1", "--dtype", "float32", "--json", str(tmp_path / "a.json")]
    assert main(["bench", "--group", "small", *options]) == 0
    out = capsys.readouterr().out
    assert out.count("?2.00 numpy") == 3 and out.count(" 2.00 numpy") == 1
    assert "geometric mean 2.00, worst 2.00: grad_input (1, 4, 4)" in out
    assert "3 of 4 ratios not steady, marked ?, left out" in out
    (table,) = json.loads((tmp_path / "a.json").read_text())["tables"]
    assert [each["steady"] for each in table["cells"]] == [False, True, False, False]


@pytest.mark.parametrize("threads", [1, 2])
def test_on_several_threads_a_turn_begins_unmeasured(threads, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(timing, "perf_counter", lambda: clock[0])
    since = [0.0]

    def start():
        since[0] = clock[0]

    def run(count):
        """Ten times as slow in the first tenth of a second of a turn."""
        seconds = count * (1e-3 if clock[0] > since[0] + 0.1 else 1e-2)
        clock[0] += seconds
        return seconds

    times = timing.measure([timing.Contestant("a", run, start)], 0.05, threads)["a"]
    if threads == 1:
        assert len(times) == timing.MIN_ROUNDS and min(times) == 1e-2
    else:
        assert len(times) == timing.SETTLED_ROUNDS and max(times) == 1e-3


def test_one_interruption_does_not_leave_few_calls():
    runs = itertools.count()

    def run(count):
        """A microsecond from Python, ten nanoseconds a call, and once a hundredth of a second."""
        return (0.01 if next(runs) == 2 else 1e-6) + count * 1e-8

    count = timing.calls_for(run, 1e-3)
    assert count * 1e-8 >= 0.99e-3


def test_contestants_take_turns():
    turns = []

    def contestant(name):
        return timing.Contestant(name, lambda count: 1.0, lambda: turns.append(name))

    times = timing.measure([contestant("a"), contestant("b"), contestant("c")], 0)
    assert "".join(turns).startswith("abc" + "abc" + "bca" + "cab" + "abc")
    assert all(len(each) == timing.MIN_ROUNDS for each in times.values())


# --------------------------------------------------------------------------------------
# The whole
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verified", "trained"), [(True, True), (False, True), (True, False)])
def test_everything_fails_with_any_part(verified, trained, monkeypatch, capsys):
    monkeypatch.setattr(verify, "run", lambda: verified)
    monkeypatch.setattr(train, "run", lambda: trained)
    monkeypatch.setattr(bench, "run_quick", lambda: None)
    assert main([]) == (0 if verified and trained else 1)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("numba_linear: verify")
    assert last.count("FAILED") == (not verified) + (not trained)


def test_info_names_versions_and_vectors(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for word in ("numba_linear", "numba", "numpy", "threading layer", "vector", "tile", "block"):
        assert word in out


@pytest.mark.parametrize("command", [[], ["verify"], ["train"], ["bench"], ["info"]])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    assert "usage: python -m numba_linear" in capsys.readouterr().out


@pytest.mark.parametrize(("command", "sign"), [("verify", "verify:"), ("train", "compiled in")])
def test_ctrl_c_stops_cleanly(command, sign, tmp_path):
    arguments = [command]
    if command == "train":
        # Enough for many seconds of training.
        x = (integers(0, 400_000 * 64) >> np.uint64(56)).astype(np.uint8).reshape(-1, 64)
        np.savez(tmp_path / "large.npz", x=x, y=np.arange(len(x)) % 10)
        arguments.append(str(tmp_path / "large.npz"))
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "numba_linear", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stdout:
            if sign in line:
                break
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
        assert process.poll() is None, "ended before it could be stopped"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.strip() == "stopped"
    assert "FAILED" not in out and "passed" not in out


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"numba_linear {numba_linear.__version__}\n"


def test_bench_lists_the_groups_that_it_has(capsys):
    """Its help and its error show one list."""
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert f"one of {', '.join(GROUPS)}; may be repeated" in told
    assert main(["bench", "--group", "huge"]) == 2
    assert capsys.readouterr().err.endswith(f"expected one of {', '.join(GROUPS)}\n")


def test_one_of_a_thing_is_no_plural(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", x=X[:1], y=Y[:1])
    np.savez(tmp_path / "b.npz", x=X, y=Y[:1])
    (tmp_path / "c.csv").write_text("1,2,0\n1\n")
    for name, words in (
        ("a.npz", "has 1 sample, expected at least 8"),
        ("b.npz", "'x' holds 200 samples and 'y' 1 label, expected"),
        ("c.csv", "line 2: 1 column, expected 3"),
    ):
        assert main(["train", str(tmp_path / name)]) == 2
        assert words in capsys.readouterr().err


# --------------------------------------------------------------------------------------
# Standard output
# --------------------------------------------------------------------------------------

BENCH = ["bench", "--group", "small", "--threads", "1", "--dtype", "float32", "--seconds", "0"]
COMMANDS = (["info"], ["verify"], ["train"], BENCH, ["--help"], ["bench", "--help"], ["--version"])


#: `verify` at one shape. The digest differs, so it fails and prints all that it can.
ONE_SHAPE = """
import runpy

from numba_linear.commands import verify

verify.SHAPES = ((2, 5, 7),)
runpy.run_module("numba_linear", run_name="__main__", alter_sys=True)
"""


def begin(arguments, stdout=subprocess.PIPE, **settings):
    """A command with a given standard output; buffered, which is Python's default."""
    program = ["-m", "numba_linear"]
    if arguments == ["verify"]:
        program = ["-c", ONE_SHAPE]
        settings = {"NUMBA_DISABLE_JIT": "1"} | settings  # it prints the same, sooner
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": ""} | settings,
    )


def end(process):
    try:
        return process.communicate(timeout=600)
    finally:
        process.kill()


PLAIN_LOCALE = {
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONIOENCODING": "",
}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_output_in_ascii(command):
    """To a pipe or a file too, and in a locale without other letters."""
    for settings in ({"PYTHONIOENCODING": "ascii"}, PLAIN_LOCALE):
        process = begin(command, **settings)
        out, err = end(process)
        assert process.returncode == (command == ["verify"]), err
        assert out.decode("ascii") and not err
        if command == ["train"]:
            assert b"train: 64 -> 128 -> 10 on digits.npz" in out
        if command == ["info"]:
            assert re.search(rb"float32 tile +\d+ x \d+\n", out)
        if command == ["verify"]:
            assert re.search(rb"SHA-256 +[0-9a-f]{16}\.\.\.", out)


def test_what_an_encoding_has_instead():
    text = "→ × … é \udce9"
    for encoding, want in (
        ("ascii", b"-> x ... \\xe9 \\udce9"),
        ("cp1252", b"-> \xd7 \x85 \xe9 \\udce9"),
        ("utf-8", text[:-1].encode() + b"\\udce9"),
    ):
        assert text.encode(encoding, "numba_linear.plain") == want
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", "numba_linear.plain")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252", "latin-1:replace"])
def test_output_in_other_encodings(encoding):
    out, err = end(begin(["info"], PYTHONIOENCODING=encoding))
    assert not err
    assert re.search(r"float32 tile +\d+ × \d+", out.decode(encoding.split(":")[0]))


def test_a_name_in_no_encoding(tmp_path):
    """A file's name may have bytes that are not text."""
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.npz")
    try:
        np.savez(name, x=X, y=Y)
    except OSError:
        pytest.skip("this file system has no such names")
    process = begin(["train", name], PYTHONIOENCODING="utf-8")
    out, err = end(process)
    assert process.returncode == 0, err
    assert rb"on caf\udce9.npz" in out


@pytest.mark.parametrize("command", COMMANDS[:-1], ids=" ".join)
def test_a_reader_that_goes_away(command):
    """As with `| head -1`: no traceback, and the status that a shell gives to such a program."""
    process = begin(command, PYTHONUNBUFFERED="1" if command == ["train"] else "")
    if command == ["info"] or "--help" in command:
        process.stdout.close()  # they write all at once
    else:
        assert process.stdout.readline()
        process.stdout.close()
    process.stdout = None
    _, err = end(process)
    assert not err
    assert process.returncode == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
def test_a_full_disk():
    with open("/dev/full", "wb") as full:
        process = begin(["info"], full)
        _, err = end(process)
    assert err == b"numba_linear: [Errno 28] No space left on device\n"
    assert process.returncode == 2


@pytest.mark.skipif(sys.platform == "win32", reason="uses a shell")
def test_no_standard_output():
    command = f'"{sys.executable}" -m numba_linear info >&-'
    process = subprocess.run(command, shell=True, stderr=subprocess.PIPE, timeout=600)
    assert (process.returncode, process.stderr) == (0, b"")


def test_a_file_that_can_not_be_written(monkeypatch, tmp_path, capsys):
    """Only writing shows it, after measuring; the earlier check does not."""
    cell = Cell(
        Table("small", SMALL, "float32", 1), (1, 4, 4), "forward", {"a": [2.0], "b": [1.0]}
    )
    monkeypatch.setattr(bench, "_measure", lambda tables, facts, seconds: [cell])
    path = tmp_path / "a.json"
    path.symlink_to(tmp_path / "missing" / "a.json")
    assert main(["bench", "--group", "small", "--json", str(path)]) == 2
    assert capsys.readouterr().err == f"numba_linear: {path}: No such file or directory\n"


def test_main_in_a_thread():
    """A thread cannot set a handler for Ctrl-C."""
    program = """
import runpy
import sys
import threading

def run():
    sys.argv = ["numba_linear", "--version"]
    try:
        runpy.run_module("numba_linear", run_name="__main__")
    except SystemExit as stop:
        assert stop.code == 0, stop.code

thread = threading.Thread(target=run)
thread.start()
thread.join()
"""
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=600
    )
    assert process.returncode == 0 and not process.stderr, process.stderr
    assert process.stdout == f"numba_linear {numba_linear.__version__}\n"

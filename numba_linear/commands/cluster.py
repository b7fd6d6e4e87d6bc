"""The ``train --dask`` command: workers train a classifier to the bits of one machine."""

import hashlib
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from numba_linear.commands import UserError, train
from numba_linear.commands.dataset import DIGITS, load

STEPS = 40
RATE, MOMENTUM = np.float32(0.05), np.float32(0.9)
WORKERS = 2

#: The accuracy that the digits must reach on samples kept apart.
ACCURACY = 0.9

#: Samples of a chunk: not a multiple of 256, so that every chunk cuts leaves of the sums.
CHUNK = 300


class State(NamedTuple):
    """Weights, biases and their velocities: arrays, or Dask arrays."""

    network: train.Network
    velocity: train.Network


def step(calls: Any, x: Any, target: Any, state: State) -> State:
    """One step of gradient descent on the whole batch; the loss is half the squared error.

    `calls` is `numba_linear` or `numba_linear.dask`; x and target are arrays of that kind.
    """
    w1, b1, w2, b2 = state.network
    hidden = calls.forward(x, w1, b1)
    active = hidden * (hidden > 0)
    g2 = calls.forward(active, w2, b2) - target
    second = calls.backward(g2, active, w2)
    g1 = second.input * (hidden > 0)
    slopes = (calls.grad_weight(g1, x), calls.grad_bias(g1), second.weight, second.bias)
    velocity = train.Network(
        *(MOMENTUM * v - RATE * d for v, d in zip(state.velocity, slopes, strict=True))
    )
    moved = (a + v for a, v in zip(state.network, velocity, strict=True))
    return State(train.Network(*moved), velocity)


def run(path: Path | None = None) -> bool:
    """Train on workers and in memory, and report; True if both end with the same bits.

    Parameters
    ----------
    path : Path, optional
        The data. By default the bundled digits, which must reach an accuracy as well.

    Raises
    ------
    UserError
        If Dask is missing, or the file is not as expected.
    """
    import numba_linear

    try:
        import dask
        import dask.array as da
        from distributed import Client, LocalCluster, progress

        import numba_linear.dask
    except ImportError as error:
        raise UserError(
            f"train --dask: Dask cannot be imported ({error}); install it with, in a clone:"
            " pip install -e '.[dask]'"
        ) from None
    data = load(path or DIGITS)
    K, n = data.x.shape
    target = np.eye(len(data.labels), dtype=np.float32)[data.y]
    samples = max(CHUNK, K // 100)
    print(
        f"train: {n} → {train.HIDDEN} → {len(data.labels)} on {(path or DIGITS).name},"
        f" {K} samples in chunks of {samples}, {WORKERS} workers, {STEPS} steps, float32"
    )

    network = train.initial(data)
    start = State(network, train.Network(*map(np.zeros_like, network)))
    # The whole training is one graph: each step takes the weights of the one before.
    lazy = State(*(train.Network(*map(da.from_array, part)) for part in start))
    x_chunks, target_chunks = (da.from_array(a, chunks=(samples, -1)) for a in (data.x, target))
    for _ in range(STEPS):
        lazy = step(numba_linear.dask, x_chunks, target_chunks, lazy)
    began = time.perf_counter()
    with (
        LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0"
        ) as cluster,
        Client(cluster),
    ):
        print(f"  workers started in {time.perf_counter() - began:.1f} s", flush=True)
        began = time.perf_counter()
        results = dask.persist(*lazy.network)
        if sys.stdout.isatty():
            progress(results, notebook=False)
            print()
        on_workers = train.Network(*dask.compute(*results))
    print(f"  on {WORKERS} workers: {_told(on_workers)}, {time.perf_counter() - began:.1f} s")

    began = time.perf_counter()
    state = start
    for _ in range(STEPS):
        state = step(numba_linear, data.x, target, state)
    print(f"  in memory:    {_told(state.network)}, {time.perf_counter() - began:.1f} s")

    same = _digest(on_workers) == _digest(state.network)
    print(f"  {'passed' if same else 'FAILED'}: both end with the same bits")
    accuracy = float((train.predict(on_workers, data.x_test) == data.y_test).mean())
    print(f"  accuracy {100 * accuracy:.2f} % on {len(data.y_test)} samples kept apart")
    if path is not None:
        return same
    learned = accuracy >= ACCURACY
    print(f"  {'passed' if learned else 'FAILED'}: accuracy at least {100 * ACCURACY:.0f} %")
    return same and learned


def _digest(network: train.Network) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in network)).hexdigest()


def _told(network: train.Network) -> str:
    return f"weights {_digest(network)[:16]}"

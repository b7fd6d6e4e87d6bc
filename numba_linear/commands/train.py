"""The ``train`` command: a two-layer classifier, trained inside one @njit function, by whole
batches or by a few samples at a time, to the same bits."""

import hashlib
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from numba_linear import accumulate, accumulated, accumulator, backward, forward, grad_input
from numba_linear.commands import UserError, counted
from numba_linear.commands.dataset import DIGITS, Dataset, load
from numba_linear.commands.integers import floats, permutation

HIDDEN = 128
BATCH = 32
EPOCHS = 20
RATE = np.float32(0.02)
MOMENTUM = np.float32(0.9)

#: The accuracy that the digits must reach on samples kept apart.
ACCURACY = 0.96

#: Multiply-adds in one compiled call. Compiled code does not see Ctrl-C, so it returns to Python
#: several times a second.
CALL = 2**28


class Network(NamedTuple):
    """Weights and biases of both layers; another one holds their velocities."""

    w1: NDArray[np.float32]
    b1: NDArray[np.float32]
    w2: NDArray[np.float32]
    b2: NDArray[np.float32]


@njit
def train(x, labels, order, network, velocity):
    """Train on minibatches of the samples in `order`; changes `network` and `velocity` in place.

    Parameters
    ----------
    x : array of float32, shape (samples, n)
    labels : array of int64, shape (samples,)
    order : array of int64
        The samples to take, `BATCH` at a time.
    network, velocity : Network

    Returns
    -------
    float
        The sum of the samples' losses, each at the time of its batch.
    """
    total = 0.0
    for start in range(0, len(order), BATCH):
        samples = order[start : start + BATCH]
        batch = x[samples]

        hidden, active, g2, loss = losses(batch, labels[samples], network)
        total += loss
        second = backward(g2, active, network.w2)
        g1 = second.input
        relu(g1, hidden)
        first = backward(g1, batch, None)  # the first layer needs no ∂L/∂x
        descend(network, velocity, first, second)
    return total


@njit
def train_by_few(x, labels, order, network, velocity, few):
    """The same with `few` samples at a time, whose gradients are accumulated. Only these are held,
    and the weights end with the same bits."""
    total = 0.0
    sums1, sums2 = accumulator(network.w1, BATCH), accumulator(network.w2, BATCH)
    for start in range(0, len(order), BATCH):
        sums1.samples[0] = sums2.samples[0] = 0
        end = min(start + BATCH, len(order))
        for k in range(start, end, few):
            samples = order[k : min(k + few, end)]
            batch = x[samples]

            hidden, active, g2, loss = losses(batch, labels[samples], network)
            total += loss
            accumulate(sums2, g2, active)
            g1 = grad_input(g2, network.w2)
            relu(g1, hidden)
            accumulate(sums1, g1, batch)
        descend(network, velocity, accumulated(sums1), accumulated(sums2))
    return total


@njit
def losses(batch, labels, network):
    """Both layers: the first's results before and after the ReLU, ∂L/∂y of the second, and the sum
    of the samples' losses."""
    hidden = forward(batch, network.w1, network.b1)
    active = hidden.copy()
    relu(active, hidden)
    g2 = forward(active, network.w2, network.b2)
    loss = cross_entropy(g2, labels)
    return hidden, active, g2, loss


@njit
def descend(network, velocity, first, second):
    """A step of both layers by their gradients; in place."""
    update(network.w1, velocity.w1, first.weight)
    update(network.b1, velocity.b1, first.bias)
    update(network.w2, velocity.w2, second.weight)
    update(network.b2, velocity.b2, second.bias)


@njit
def relu(values, hidden):
    """Set the values of inactive hidden units to 0, in place."""
    for k in range(hidden.shape[0]):
        for i in range(hidden.shape[1]):
            if hidden[k, i] <= 0:
                values[k, i] = 0


@njit
def cross_entropy(y, labels):
    """The batch's sum of -log softmax(y) at the label; y is overwritten by ∂L/∂y."""
    total = 0.0
    for k in range(y.shape[0]):
        # Subtract the largest, so that no exponential overflows.
        peak = y[k].max()
        norm = np.float32(0)
        for i in range(y.shape[1]):
            norm += np.exp(y[k, i] - peak)
        total += np.log(norm) + peak - y[k, labels[k]]
        for i in range(y.shape[1]):
            y[k, i] = np.exp(y[k, i] - peak) / norm
        y[k, labels[k]] -= np.float32(1)
    return total


@njit
def update(values, velocity, gradient):
    """One step of gradient descent with momentum; in place."""
    flat, speed, slope = values.ravel(), velocity.ravel(), gradient.ravel()
    for p in range(flat.size):
        speed[p] = MOMENTUM * speed[p] - RATE * slope[p]
        flat[p] += speed[p]


def run(
    path: Path | None = None,
    few: int | None = None,
    epochs: int = EPOCHS,
    save: Path | None = None,
) -> bool:
    """Train twice and report; True if both runs end with the same bits and learned enough.

    Parameters
    ----------
    path : Path, optional
        The data. By default the bundled digits, which must reach `ACCURACY` if there are `EPOCHS`
        epochs or more.
    few : int, optional
        Samples that the second run takes at a time. By default it is like the first.
    epochs : int
    save : Path, optional
        Where to write the network, see `_save`; nothing is written if a run failed.

    Raises
    ------
    UserError
        If the file is not as expected, `few` or `epochs` is less than 1, or the network cannot be
        written.
    """
    if few is not None and few < 1:
        raise UserError(f"micro-batches of {few}: expected 1 sample or more")
    if epochs < 1:
        raise UserError(f"{epochs} epochs: expected 1 or more")
    if save and (save.suffix != ".npz" or not save.parent.is_dir() or save.is_dir()):
        raise UserError(f"{save}: cannot be written, expected an .npz file in an existing folder")
    data = load(path or DIGITS)
    K, n = data.x.shape
    print(
        f"train: {n} → {HIDDEN} → {len(data.labels)} on {(path or DIGITS).name}, "
        f"{K} samples to train and {len(data.x_test)} to test, float32, features standardised"
    )
    last = len(data.labels) - 1
    if data.labels[-1] != last:
        print(f"  labels {data.labels[0]} … {data.labels[-1]} are classes 0 … {last}")
    start = time.perf_counter()
    network = initial(data)
    train(data.x, data.y, np.arange(0), network, network)
    if few:
        train_by_few(data.x, data.y, np.arange(0), network, network, few)
    print(f"  compiled in {time.perf_counter() - start:.1f} s", flush=True)

    runs = []
    for number, at_a_time in ((1, None), (2, few)):
        start = time.perf_counter()
        network, loss = _train(data, at_a_time, epochs)
        seconds = time.perf_counter() - start
        weights = hashlib.sha256(b"".join(array.tobytes() for array in network)).hexdigest()
        accuracy = float((predict(network, data.x_test) == data.y_test).mean())
        runs.append((weights, accuracy, loss))
        print(
            f"  run {number}: accuracy {100 * accuracy:.2f} %, loss {loss:.4f}, {seconds:.3f} s, "
            f"weights {weights[:16]}"
            + (f", {counted(at_a_time, 'sample')} at a time" if at_a_time else ""),
            flush=True,
        )
    (weights, accuracy, loss), (again, _, _) = runs
    same = weights == again
    print(f"  {'passed' if same else 'FAILED'}: both runs end with the same bits")
    if not math.isfinite(loss):
        print("  FAILED: the training diverged")
        return False
    if save and same:
        _save(save, network, data)
    if path is not None or epochs < EPOCHS:
        return same
    learned = accuracy >= ACCURACY
    print(f"  {'passed' if learned else 'FAILED'}: accuracy at least {100 * ACCURACY:.0f} %")
    return same and learned


def _save(path: Path, network: Network, data: Dataset) -> None:
    """Write the network, the features' mean and deviation, and the labels, for docs/train.md."""
    arrays: dict[str, Any] = network._asdict()
    arrays |= {"mean": data.mean, "deviation": data.deviation, "labels": data.labels}
    try:
        np.savez(path, **arrays)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    print(f"  written to {path}")


def _train(data: Dataset, few: int | None = None, epochs: int = EPOCHS) -> tuple[Network, float]:
    """A network trained from its initial weights, and the mean loss over the last epoch."""
    K, n = data.x.shape
    network = initial(data)
    velocity = Network(*map(np.zeros_like, network))
    samples = max(1, CALL // (3 * HIDDEN * (n + len(data.labels)) * BATCH)) * BATCH
    loss = math.nan
    shown = time.perf_counter()
    for epoch in range(1, epochs + 1):
        order = permutation(epoch, K)
        total = 0.0
        for start in range(0, K, samples):
            some = order[start : start + samples]
            if few:
                total += train_by_few(data.x, data.y, some, network, velocity, few)
            else:
                total += train(data.x, data.y, some, network, velocity)
        loss = total / K
        if time.perf_counter() - shown > 5:
            shown = time.perf_counter()
            print(f"  epoch {epoch} of {epochs}: loss {loss:.4f}", flush=True)
    return network, loss


def initial(data: Dataset) -> Network:
    """Uniform weights of variance 2 / n, as suits a ReLU; biases 0."""

    def weight(seed: int, m: int, n: int) -> NDArray[np.float32]:
        return floats(seed, (m, n), np.float32) * np.float32(math.sqrt(6 / n))

    def bias(m: int) -> NDArray[np.float32]:
        return np.zeros(m, np.float32)

    n, m = data.x.shape[1], len(data.labels)
    return Network(weight(1, HIDDEN, n), bias(HIDDEN), weight(2, m, HIDDEN), bias(m))


def predict(network: Network, x: NDArray[np.float32]) -> NDArray[np.intp]:
    hidden = np.maximum(forward(x, network.w1, network.b1), 0)
    return np.argmax(forward(hidden, network.w2, network.b2), axis=1)

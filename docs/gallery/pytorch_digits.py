"""A PyTorch model made reproducible in three lines: `import`, `manual_seed` and `replace_linear`.

A classifier of handwritten digits is trained by PyTorch on one thread and on two, first with
`torch.nn.Linear`, then with the layers of `numba_linear.torch`.
"""

import hashlib

import torch
from torch import nn

from numba_linear.commands.dataset import DIGITS, load
from numba_linear.torch import replace_linear

BATCH = 300


def model_of(reproducible):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
    if reproducible:
        replace_linear(model)
    return model


def digits():
    data = load(DIGITS)
    arrays = data.x, data.y, data.x_test, data.y_test
    return [torch.from_numpy(a) for a in arrays]


def epoch(model, optimiser, x, y):
    for start in range(0, len(x), BATCH):
        rows = slice(start, start + BATCH)
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def train(reproducible, threads, epochs):
    """The weights' SHA-256, the accuracy, and how many test scores depend on the batch."""
    x, y, x_test, y_test = digits()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model = model_of(reproducible)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(epochs):
            epoch(model, optimiser, x, y)
        with torch.no_grad():
            scores = model(x_test)
            alone = torch.cat([model(sample) for sample in x_test.split(1)])
    finally:
        torch.set_num_threads(before)
    weights = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
    return {
        "sha256": hashlib.sha256(weights).hexdigest(),
        "accuracy": float((scores.argmax(1) == y_test).float().mean()),
        "changed": float((scores != alone).any(1).float().mean()),
    }


def example(epochs=20):
    return {
        name: {str(threads): train(replaced, threads, epochs) for threads in (1, 2)}
        for name, replaced in (("PyTorch", False), ("numba_linear", True))
    }


def contest():
    """An epoch."""
    x, y, *_ = digits()

    def run(reproducible):
        model = model_of(reproducible)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return lambda: epoch(model, optimiser, x, y)

    return {"numba_linear": run(True), "PyTorch": run(False)}

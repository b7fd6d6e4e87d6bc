"""The rounding error of long sums: this package, NumPy and PyTorch against float64.

`python docs/figures/measure.py error` measures and writes `error.json`, from which the rest draws.
"""

import math

import numba
import numpy as np
from common import COLORS, GREY, MARKERS, PANEL, facts, machine, read, write

#: Unit roundoff of float32.
U = 2.0**-24
SIDE = 16
LENGTHS = [2**e for e in range(4, 21)]
LEAF = 256


def bound(terms):
    """The rule's bound on |S - exact| / (u · Σ|terms|): depth of the chain and of the tree."""
    leaves = max(1, -(-terms // LEAF))
    k = min(terms, LEAF) + math.ceil(math.log2(leaves))
    return k / (1 - k * U)


@numba.njit
def loop(a, b, out):
    """The textbook's loop: one sum, with a product and an addition for each term."""
    for r in range(len(a)):
        for c in range(len(b)):
            s = np.float32(0)
            for p in range(a.shape[1]):
                s += a[r, p] * b[c, p]
            out[r, c] = s


def sums(terms, draw):
    """forward over n = terms and grad_weight over K = terms: the worst relative error of each.

    Errors are in units of u · Σ|terms|, to which every sum's bound is proportional.
    """
    import torch

    from numba_linear import forward, grad_weight

    found = {}
    x, w = draw((SIDE, terms)), draw((SIDE, terms))
    exact, scale = exactly(x, w)
    out = np.empty((SIDE, SIDE), np.float32)
    loop(x, w, out)
    tx, tw = torch.from_numpy(x), torch.from_numpy(w)
    results = {
        "numba_linear": forward(x, w),
        "NumPy": x @ w.T,
        "PyTorch": torch.nn.functional.linear(tx, tw).numpy(),
        "one loop": out,
    }
    found["forward"] = {name: worst(y, exact, scale) for name, y in results.items()}

    g, x = draw((terms, SIDE)), draw((terms, SIDE))
    exact, scale = exactly(g.T, x.T)
    loop(g.T, x.T, out)
    tg, tx = torch.from_numpy(g), torch.from_numpy(x)
    results = {
        "numba_linear": grad_weight(g, x, "sum"),
        "NumPy": g.T @ x,
        "PyTorch": (tg.T @ tx).numpy(),
        "one loop": out,
    }
    found["grad_weight"] = {name: worst(y, exact, scale) for name, y in results.items()}
    return found


def exactly(x, w):
    """x wᵀ and |x| |w|ᵀ, products and sums in float64: exact to 2⁻³⁰ of float32's own error."""
    x, w = x.astype(np.float64), w.astype(np.float64)
    return x @ w.T, abs(x) @ abs(w).T


def worst(y, exact, scale):
    return float((abs(y.astype(np.float64) - exact) / (U * scale)).max())


def measure():
    rng = np.random.default_rng(0)
    kinds = {
        "positive": lambda shape: rng.random(shape, np.float32),
        "normal": lambda shape: rng.standard_normal(shape, np.float32),
    }
    rounds = 4
    measured = {"facts": facts(), "side": SIDE, "lengths": LENGTHS, "rounds": rounds}
    for kind, draw in kinds.items():
        series = {"forward": {}, "grad_weight": {}}
        for terms in LENGTHS:
            several = [sums(terms, draw) for _ in range(rounds)]
            for operation, named in series.items():
                for name in several[0][operation]:
                    errors = [found[operation][name] for found in several]
                    named.setdefault(name, []).append(round(max(errors), 4))
        measured[kind] = series
    write("error", measured)


def panel(kind, operation):
    import matplotlib.pyplot as plt

    measured = read("error")
    lengths = measured["lengths"]
    _, axes = plt.subplots(figsize=PANEL)
    axes.loglog(lengths, [bound(t) for t in lengths], "k--", linewidth=1, label="the rule's bound")
    for name, errors in measured[kind][operation].items():
        style = {"color": COLORS.get(name, GREY), "marker": MARKERS.get(name, ".")}
        # A sum of few terms may be exact, and zero has no logarithm.
        axes.loglog(
            lengths, np.maximum(errors, 0.02), label=name, markersize=3.5, linewidth=1.2, **style
        )
    axes.set_xlabel({"forward": "n", "grad_weight": "K"}[operation] + ", terms of each sum")
    axes.set_ylabel("worst error / (u · Σ|terms|)")
    axes.set_title(f"{operation}, {kind} numbers")
    axes.grid(alpha=0.25)
    # If numbers cancel, there is room for it between the curves and the bound.
    place = {"loc": "upper right", "bbox_to_anchor": (1, 0.92), "ncols": 2}
    axes.legend(fontsize="small", **(place if kind == "normal" else {}))


def forward_positive():
    panel("positive", "forward")


def forward_normal():
    panel("normal", "forward")


def grad_weight_positive():
    panel("positive", "grad_weight")


def grad_weight_normal():
    panel("normal", "grad_weight")


def last_of(series):
    """The errors of the longest sums."""
    digits = {name: max(0, 1 - int(math.log10(errors[-1]))) for name, errors in series.items()}
    return ", ".join(f"{name} {errors[-1]:.{digits[name]}f}" for name, errors in series.items())


def words():
    """What the pages say of it."""
    measured = read("error")
    last = measured["positive"]
    return {
        "error_machine": machine(measured["facts"]),
        "error_terms": f"{measured['lengths'][-1]:,}".replace(",", "\N{NARROW NO-BREAK SPACE}"),
        "error_last": last_of(last["forward"]),
        "error_last_weight": last_of(last["grad_weight"]),
        "error_bound": f"{bound(measured['lengths'][-1]):.0f}",
    }

"""∂y/∂W and ∂y/∂b, drawn by calling ③ and ⑧ for every entry."""

import matplotlib.pyplot as plt
import numpy as np
from common import BLUE, GREY

from numba_linear.equations import dyi_db_j, dyi_dw_kl

m, n = 3, 4


def grid(axes, entries, words, title):
    """A matrix, with a coloured square and a letter for each entry that is not zero."""
    rows, columns = entries.shape
    for k in range(rows):
        for l in range(columns):  # noqa: E741
            full = entries[k, l] != 0
            axes.add_patch(
                plt.Rectangle(
                    (l, k), 0.92, 0.92, facecolor=BLUE if full else "#eeeeee", edgecolor="none"
                )
            )
            word = words(k, l) if full else "0"
            axes.text(
                l + 0.46, k + 0.46, word, ha="center", va="center", color="white" if full else GREY
            )
    axes.set_xlim(-0.1, columns)
    axes.set_ylim(rows, -0.1)
    axes.set_aspect("equal")
    axes.axis("off")
    axes.set_title(title)


def dy_dw():
    """m panels: ∂y_i/∂W has x in row i, and nothing else."""
    x = np.arange(1.0, n + 1)
    _, panels = plt.subplots(1, m, figsize=(5.4, 1.75))
    for i, axes in enumerate(panels):
        entries = np.array([[dyi_dw_kl(x, i, k, c) for c in range(n)] for k in range(m)])
        grid(axes, entries, lambda k, c: f"$x_{c + 1}$", rf"$\partial y_{i + 1} / \partial W$")


def dy_db():
    """∂y/∂b, the identity, once for each of K = 2 samples."""
    _, panels = plt.subplots(1, 2, figsize=(3.4, 1.85))
    for k, axes in enumerate(panels):
        entries = np.array([[dyi_db_j(i, j) for j in range(m)] for i in range(m)])
        grid(axes, entries, lambda i, j: "1", rf"$\partial Y_{k + 1} / \partial b$")

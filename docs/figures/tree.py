"""The summation rule: leaves of 256 terms, added pairwise."""

import matplotlib.pyplot as plt
from common import BLUE, GREY, ORANGE

from numba_linear.equations import LEAF

#: Terms of the sum that is drawn: the last leaf is a short one.
TERMS = 5 * LEAF + 100


def width(q):
    """How wide leaf q is drawn, a whole one 0.9."""
    return 0.9 * min(1, (TERMS - q * LEAF) / LEAF)


def split(first, leaves):
    """The place of the sum of leaves first … first+leaves-1, and all additions below it.

    An addition is a tuple of places: the sum, left, right.
    """
    if leaves == 1:
        return (first + 0.05 + width(first) / 2, 0), []
    left = 1
    while 2 * left < leaves:
        left *= 2
    left_at, below_left = split(first, left)
    right_at, below_right = split(first + left, leaves - left)
    at = ((left_at[0] + right_at[0]) / 2, 1 + max(left_at[1], right_at[1]))
    return at, [*below_left, *below_right, (at, left_at, right_at)]


def tree():
    leaves = -(-TERMS // LEAF)
    _, axes = plt.subplots(figsize=(5.4, 2.9))
    (top, height), additions = split(0, leaves)
    for q in range(leaves):
        axes.add_patch(plt.Rectangle((q + 0.05, -0.35), width(q), 0.35, color=BLUE))
        axes.text(q + 0.5, -0.55, f"leaf {q}", ha="center", va="top", fontsize=8)
        last = min(TERMS, (q + 1) * LEAF) - 1
        axes.text(
            q + 0.5, -0.85, f"{q * LEAF} … {last}", ha="center", va="top", fontsize=7, color=GREY
        )
    circle = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": ORANGE}
    for (x, y), *ends in additions:
        for end_x, end_y in ends:
            axes.plot([end_x, x], [end_y, y], color=ORANGE, linewidth=1.3, zorder=0)
        axes.text(x, y, "+", ha="center", va="center", fontsize=9, bbox=circle)
    axes.text(top + 0.3, height + 0.05, f"S, the sum of {TERMS} terms", va="center", fontsize=9)
    axes.set_xlim(0, leaves)
    axes.set_ylim(-1.2, height + 0.4)
    axes.axis("off")

"""The summation rule: leaves of 256 terms, added pairwise."""

import matplotlib.pyplot as plt
from common import BLUE, GREY, ORANGE

from numba_linear.equations import LEAF


def split(first, leaves):
    """Draw-order of the tree over leaves first … first+leaves-1: (x, depth, x left, x right)."""
    if leaves == 1:
        return first + 0.5, 0, []
    left = 1
    while 2 * left < leaves:
        left *= 2
    left_x, left_height, nodes = split(first, left)
    right_x, right_height, more = split(first + left, leaves - left)
    height = 1 + max(left_height, right_height)
    x = (left_x + right_x) / 2
    joints = [(x, height, (left_x, left_height), (right_x, right_height), leaves)]
    return x, height, nodes + more + joints


def tree():
    terms = 5 * LEAF + 100
    leaves = -(-terms // LEAF)
    _, axes = plt.subplots(figsize=(5.4, 2.9))
    top, height, joints = split(0, leaves)
    for q in range(leaves):
        width = 0.9 * min(1, (terms - q * LEAF) / LEAF)
        axes.add_patch(plt.Rectangle((q + 0.05, -0.35), width, 0.35, color=BLUE))
        axes.text(q + 0.5, -0.55, f"leaf {q}", ha="center", va="top", fontsize=8)
        last = min(terms, (q + 1) * LEAF) - 1
        axes.text(
            q + 0.5, -0.85, f"{q * LEAF} … {last}", ha="center", va="top", fontsize=7, color=GREY
        )
    for x, y, left, right, _ in joints:
        for end in (left, right):
            axes.plot([end[0], x], [end[1], y], color=ORANGE, linewidth=1.3, zorder=0)
    for x, y, _, _, _ in joints:
        axes.text(
            x,
            y,
            "+",
            ha="center",
            va="center",
            fontsize=9,
            bbox={"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": ORANGE},
        )
    axes.text(top + 0.3, height + 0.05, f"S, the sum of {terms} terms", va="center", fontsize=9)
    axes.set_xlim(0, leaves)
    axes.set_ylim(-1.2, height + 0.4)
    axes.axis("off")

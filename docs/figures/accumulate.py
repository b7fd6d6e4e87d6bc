"""Accumulation: the leaf that is not full yet, the tree, and where micro-batches end."""

import matplotlib.pyplot as plt
from common import BLUE, GREY, ORANGE, SKY

from numba_linear.equations import LEAF

#: Samples of the micro-batches that are drawn.
BATCHES = (200, 180, 200, 180, 200, 180, 200, 80)


def accumulate():
    samples = sum(BATCHES)
    full, under_way = divmod(samples, LEAF)
    _, axes = plt.subplots(figsize=(5.4, 3.1))
    end = 0
    for number, size in enumerate(BATCHES):
        axes.add_patch(
            plt.Rectangle((end, -1.15), size, 0.3, color=SKY if number % 2 else BLUE, alpha=0.6)
        )
        axes.text(end + size / 2, -1.0, str(size), ha="center", va="center", fontsize=7)
        end += size
        axes.plot([end, end], [-1.2, -0.3], color=GREY, linewidth=0.8, linestyle=":")
    axes.text(0, -1.4, "micro-batches, of any sizes", va="top", fontsize=8, color=GREY)
    for q in range(full + 1):
        size = LEAF if q < full else under_way
        start = q * LEAF
        axes.annotate(
            "",
            (start + size - 4, -0.5),
            (start + 4, -0.5),
            arrowprops={"arrowstyle": "->", "color": BLUE, "linewidth": 1.8},
        )
        axes.text(start + size / 2, -0.32, f"leaf {q}", ha="center", va="bottom", fontsize=8)

    circle = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": ORANGE}
    held = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": ORANGE}
    level, places = 0, [(q * LEAF + LEAF / 2, 0.0) for q in range(full)]
    while places:
        if len(places) % 2:
            x, y = places.pop()
            axes.plot([x, x], [y, 2.6], color=ORANGE, linewidth=1.3, zorder=0)
            axes.text(x, 2.6, f"level {1 + level}", ha="center", fontsize=8, bbox=held)
        above = []
        for (left, y), (right, _) in zip(places[::2], places[1::2], strict=True):
            x = (left + right) / 2
            for end_x in (left, right):
                axes.plot([end_x, x], [y, y + 0.8], color=ORANGE, linewidth=1.3, zorder=0)
            axes.text(x, y + 0.8, "+", ha="center", va="center", fontsize=9, bbox=circle)
            above.append((x, y + 0.8))
        level, places = level + 1, above
    x = full * LEAF + under_way / 2
    axes.plot([x, x], [0, 2.6], color=BLUE, linewidth=1.3, zorder=0)
    held = held | {"edgecolor": BLUE}
    axes.text(x, 2.6, "level 0", ha="center", fontsize=8, bbox=held)
    axes.text(0, 3.25, f"what is held after {samples} samples", fontsize=8, color=GREY)
    axes.set_xlim(-10, samples + 40)
    axes.set_ylim(-1.8, 3.5)
    axes.axis("off")

"""The layer as a picture: x goes forward, g comes back and leaves three gradients."""

import matplotlib.pyplot as plt
from common import BLUE, GREEN, ORANGE
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch


def flow():
    _, axes = plt.subplots(figsize=(5.6, 3.3))
    axes.set_xlim(0, 11.2)
    axes.set_ylim(0, 6.6)
    axes.axis("off")

    def box(x, y, width, height, text, color, size=10):
        axes.add_patch(
            FancyBboxPatch(
                (x, y),
                width,
                height,
                boxstyle="round,pad=0,rounding_size=0.15",
                facecolor="white",
                edgecolor=color,
                linewidth=1.4,
            )
        )
        axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=size)

    def arrow(start, end, color, text="", at=None, **options):
        axes.add_patch(
            FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=color, lw=1.4)
        )
        if text:
            axes.text(*at, text, color=color, fontsize=9, **{"ha": "center", **options})

    # Forward: from left to right.
    box(3.7, 3.9, 3.8, 1.1, r"$Y = X W^{\mathsf{T}} + b$", BLUE, 11)
    arrow((0.7, 4.45), (3.7, 4.45), BLUE, "$X$, (K, n)", (2.1, 4.6))
    arrow((7.5, 4.45), (10.6, 4.45), BLUE, "$Y$, (K, m)", (9.1, 4.6))
    arrow((4.7, 6.1), (4.7, 5.0), BLUE, "$W$, (m, n)", (4.7, 6.2))
    arrow((6.6, 6.1), (6.6, 5.0), BLUE, "$b$, (m,)", (6.6, 6.2))
    axes.text(11.0, 4.45, "$L$", va="center", fontsize=11)

    # Backward: from right to left.
    box(3.7, 1.9, 3.8, 1.1, r"$G W$     $G^{\mathsf{T}} X$     $\Sigma_k\, G_k$", ORANGE)
    arrow((10.6, 2.45), (7.5, 2.45), ORANGE, r"$G = \partial L/\partial Y$", (9.1, 2.62))
    axes.text(9.1, 2.05, "(K, m)", ha="center", fontsize=9, color=ORANGE)
    arrow((3.7, 2.45), (0.7, 2.45), ORANGE, r"$\partial L/\partial X$", (2.1, 2.62))
    axes.text(2.1, 2.05, "(K, n), a row\nto each sample", ha="center", va="top", fontsize=8)
    arrow((4.7, 1.9), (4.7, 0.95), GREEN)
    axes.text(
        4.6,
        0.85,
        r"$\partial L/\partial W$, (m, n)",
        ha="center",
        va="top",
        fontsize=9,
        color=GREEN,
    )
    arrow((6.9, 1.9), (6.9, 0.95), GREEN)
    axes.text(
        7.1, 0.85, r"$\partial L/\partial b$, (m,)", ha="center", va="top", fontsize=9, color=GREEN
    )
    axes.text(
        5.8,
        0.05,
        "mean, sum, or one for each sample",
        ha="center",
        va="bottom",
        fontsize=8,
    )
    # What the backward pass needs from the forward pass.
    arrow((5.6, 3.9), (5.6, 3.0), "#999999")
    axes.text(5.75, 3.4, "X and W, as they were", fontsize=8, color="#666666", va="center")

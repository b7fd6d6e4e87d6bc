"""The loops around the tile as a picture: the part of A, B and C that each of them takes."""

import matplotlib.pyplot as plt
from common import BLUE, GREEN, GREY, ORANGE

ROWS, COLUMNS, TERMS = 6.0, 8.0, 7.0


def rectangle(axes, x, y, width, height, **style):
    axes.add_patch(plt.Rectangle((x, y), width, height, **style))


def blocks():
    _, axes = plt.subplots(figsize=(5.6, 4.6))
    axes.set_xlim(-1.0, TERMS + COLUMNS + 1.2)
    axes.set_ylim(-ROWS - 1.6, TERMS + 1.5)
    axes.set_aspect("equal")
    axes.axis("off")
    outline = {"fill": False, "edgecolor": GREY, "linewidth": 1}

    # A below on the left, Bᵀ above on the right, C where their rows and columns meet.
    left, gap = TERMS + 0.7, 0.7
    rectangle(axes, 0, -ROWS, TERMS, ROWS, **outline)
    rectangle(axes, left, gap, COLUMNS, TERMS, **outline)
    rectangle(axes, left, -ROWS, COLUMNS, ROWS, **outline)
    for x, y, text in (
        (TERMS / 2, -ROWS - 0.35, "A, rows × terms"),
        (left + COLUMNS / 2, -ROWS - 0.35, "C, rows × columns"),
    ):
        axes.text(x, y, text, ha="center", va="top", fontsize=9)
    axes.text(
        left + COLUMNS / 2, gap + TERMS + 0.25, "Bᵀ, terms × columns", ha="center", fontsize=9
    )

    # 5, 4, 3: a block of columns, of rows, of terms.
    column, columns = left + 1.5, 4.2
    row, rows = -3.9, 2.4
    term, terms = 2.0, 2.0
    top = gap + TERMS - term - terms
    rectangle(axes, column, gap, columns, TERMS, facecolor=BLUE, alpha=0.12)
    rectangle(axes, column, -ROWS, columns, ROWS, facecolor=BLUE, alpha=0.12)
    rectangle(axes, 0, row, TERMS, rows, facecolor=GREEN, alpha=0.15)
    rectangle(axes, column, row, columns, rows, facecolor=GREEN, alpha=0.25)
    rectangle(axes, term, row, terms, rows, facecolor=GREEN, alpha=0.45)
    rectangle(axes, column, top, columns, terms, facecolor=BLUE, alpha=0.3)

    # 2 and 1: a panel of B, a tile of C and its rows of A.
    panel, width, height = column + 1.2, 0.8, 0.6
    tile = row + rows - 2 * height
    rectangle(axes, panel, top, width, terms, facecolor=ORANGE, alpha=0.9)
    rectangle(axes, panel, row, width, rows, facecolor=ORANGE, alpha=0.25)
    rectangle(axes, term, tile, terms, height, facecolor=ORANGE, alpha=0.9)
    rectangle(axes, panel, tile, width, height, facecolor=ORANGE)

    labels = (
        (column + columns - 0.1, gap + 0.15, "5", BLUE, "right"),
        (0.15, row + 0.15, "4", GREEN, "left"),
        (term + 0.12, row + 0.15, "3", "black", "left"),
        (column + columns - 0.1, top + 0.15, "3", "black", "right"),
        (panel + width / 2, top + 0.75, "2", "white", "center"),
        (panel + width / 2, tile + 0.1, "1", "white", "center"),
        (term + terms / 2, tile + 0.1, "1", "white", "center"),
    )
    for x, y, text, color, side in labels:
        axes.text(x, y, text, color=color, ha=side, fontsize=9, fontweight="bold")
    legend = (
        "5   a block of columns: B's panels",
        "     fit the third-level cache",
        "4   a block of rows and",
        "3   of terms: A's panels fit",
        "     the second-level cache",
        "2   a panel of B",
        "1   a tile: its sums in registers",
    )
    for line, text in enumerate(legend):
        axes.text(-0.3, TERMS + 0.2 - 0.8 * line, text, fontsize=8)

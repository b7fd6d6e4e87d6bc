"""The picture of ``bench --plot``: a panel per table and a dot per ratio, faint if not steady."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numba_linear.commands import UserError
from numba_linear.commands.groups import GROUPS, LAYER, Cell, Table
from numba_linear.commands.peers import FORWARD_BACKWARD, FORWARD_STORED, installed

#: Okabe and Ito's colours, which colour-blind readers can tell apart, each with its own marker.
MARKS: dict[str, dict[str, Any]] = {
    operation: {"color": color, "marker": marker, "linestyle": "none", "markersize": 5}
    for operation, color, marker in zip(
        (*LAYER, FORWARD_BACKWARD, FORWARD_STORED),
        ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"),
        "os^Dv",
        strict=True,
    )
}

#: Inches: the shapes' names, a panel's width, a row's height, and the space around a panel's rows.
LABELS, WIDTH, ROW, MARGIN = 1.2, 2.8, 0.22, 0.75


def check(path: Path) -> None:
    """Raise `UserError` if no picture can be written to a file of this name."""
    if not installed("matplotlib"):
        raise UserError("--plot needs matplotlib, which is not installed: pip install matplotlib")
    from matplotlib.backend_bases import FigureCanvasBase

    kinds = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix.lstrip(".").lower() not in kinds:
        raise UserError(f"{path}: expected a name that ends in .{', .'.join(kinds)}")


def draw(cells: Sequence[Cell], facts: dict[str, str], path: Path) -> None:
    """Draw a row of panels for each group, a column for each dtype and number of threads."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    groups: dict[str, list[Table]] = {}
    for table in dict.fromkeys(cell.table for cell in cells):
        groups.setdefault(table.group, []).append(table)
    columns = max(map(len, groups.values()))
    heights = [MARGIN + ROW * len(tables[0].shapes) for tables in groups.values()]
    size = (LABELS + WIDTH * columns, 2 * MARGIN + sum(heights))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(
        len(groups),
        columns,
        squeeze=False,
        sharex="row",
        sharey="row",
        gridspec_kw={"height_ratios": heights},
    )
    for tables, row in zip(groups.values(), panels, strict=True):
        shapes = tables[0].shapes
        row[0].set_yticks(range(len(shapes)), [" × ".join(map(str, shape)) for shape in shapes])
        row[0].set_ylim(len(shapes) - 0.5, -0.5)
        for panel in row[len(tables) :]:
            panel.set_visible(False)
        for table, panel in zip(tables, row, strict=False):
            panel.axvline(1, color="black", linewidth=1)
            for cell in cells:
                if cell.table == table:
                    alpha = 1 if cell.steady else 0.25
                    place = shapes.index(cell.shape)
                    panel.plot(cell.ratio, place, alpha=alpha, **MARKS[cell.operation])
            panel.set_title(table.title, fontsize="medium")
            panel.set_xlabel(GROUPS[table.group].ratio, fontsize="small")
            panel.tick_params(labelsize="small")
            panel.grid(alpha=0.3)

    used = dict.fromkeys(cell.operation for cell in cells)
    figure.legend(
        handles=[Line2D([], [], label=operation, **MARKS[operation]) for operation in used],
        loc="outside upper center",
        ncols=len(used),
        frameon=False,
    )
    figure.supxlabel(
        f"K × n × m; {facts['processor']}, numba {facts['numba']}, numpy {facts['numpy']}, "
        f"torch {facts['torch']}, {facts['BLAS']}",
        fontsize="x-small",
        wrap=True,
    )
    figure.savefig(path, dpi=150)

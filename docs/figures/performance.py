"""The tables and plots of the page on performance, from `bench.json` and `bench_avx2.json`.

On a quiet machine, `python docs/figures/measure.py bench bench_avx2` measures them again.
"""

import functools
import textwrap

from common import BLUE, GREEN, GREY, ORANGE, PANEL, PURPLE, SKY, machine_of_bench, read

STYLE = {
    "forward": (BLUE, "o"),
    "grad_input": (ORANGE, "s"),
    "grad_weight": (GREEN, "^"),
    "forward + backward": (PURPLE, "D"),
    "backward": (PURPLE, "d"),
    "forward, w = wt.T": (SKY, "v"),
    "accumulate": (GREY, "P"),
}
DTYPES = ("float32", "float64")
#: The groups that are drawn. The others are in the table only.
DRAWN = ("large", "medium", "small", "tiny", "one", "tall", "accumulate", "autograd", "njit")
DRAWN += ("limit",)
#: Ticks from fine to coarse: a panel takes the finest of which it has at most MOST_TICKS.
TICKS = (
    (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.4, 1.6, 1.8, 2, 2.5),
    (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 15),
    (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50),
    (0.001, 0.01, 0.1, 1, 10, 100, 1000),
)
MOST_TICKS = 6
NAMES = {
    "large": "large",
    "medium": "medium",
    "small": "small",
    "tiny": "tiny, inside `@njit`, plain loops and `np.dot`",
    "accumulate": "accumulate, NumPy's `+=` and PyTorch",
    "one": "one sample, large weight",
    "tall": "tall",
    "autograd": "forward + backward, PyTorch autograd alone",
    "njit": "inside `@njit`, `np.dot` and a bias loop",
    "limit": "part of the multiply-add limit",
    "speedup": "our one thread / ours on all",
}


def tables(group=None, dtype=None, name="bench"):
    return [
        table
        for table in read(name)["tables"]
        if group in (None, table["group"]) and dtype in (None, table["dtype"])
    ]


def ratios(group, dtype):
    """One panel: a row for each shape, a mark for each operation, hollow on one thread."""
    import matplotlib.pyplot as plt

    found = tables(group, dtype)
    most = max(table["threads"] for table in found)
    shapes = list(dict.fromkeys(tuple(cell["shape"]) for t in found for cell in t["cells"]))
    _, axes = plt.subplots(figsize=(PANEL[0], 0.95 + 0.27 * len(shapes)))
    axes.axvline(1, color="black", linewidth=1)
    for table in found:
        for cell in table["cells"]:
            if not cell.get("steady", True):
                continue
            color, marker = STYLE[cell["operation"]]
            row = shapes.index(tuple(cell["shape"])) + (0.15 if table["threads"] == 1 else -0.15)
            fill = "white" if table["threads"] == 1 < most else color
            axes.plot(
                cell["ratio"], row, marker, color=color, markerfacecolor=fill, markersize=4.5
            )
    if group == "limit":
        axes.set_xlim(0, 1.05)
    else:
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        inside = [[tick for tick in ticks if low <= tick <= high] for ticks in TICKS]
        ticks = next((ticks for ticks in inside if len(ticks) <= MOST_TICKS), inside[-1])
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_ticks([], minor=True)
    axes.set_yticks(range(len(shapes)), [" × ".join(map(str, shape)) for shape in shapes])
    axes.set_ylim(len(shapes) - 0.5, -0.5)
    axes.set_title(f"{group}, {dtype}")
    axes.set_xlabel(textwrap.fill(found[0]["ratio"], 45))
    axes.grid(alpha=0.25)


for _group in DRAWN:
    for _dtype in DTYPES:
        globals()[f"{_group}_{_dtype}"] = functools.partial(ratios, _group, _dtype)


def key():
    """The legend, once for all panels."""
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    figure = plt.figure(figsize=(PANEL[0], 0.75))
    marks = [
        Line2D([], [], color=color, marker=marker, linestyle="none", label=operation)
        for operation, (color, marker) in STYLE.items()
    ]
    hollow = {"color": "black", "marker": "o", "linestyle": "none"}
    marks += [
        Line2D([], [], label="all threads", **hollow),
        Line2D([], [], label="1 thread", markerfacecolor="white", **hollow),
    ]
    figure.legend(
        handles=marks, loc="center", ncols=3, fontsize="small", columnspacing=1, handletextpad=0.1
    )


def table(name="bench"):
    """Geometric mean and worst cell of each group, dtype and number of threads, as Markdown."""
    found = tables(name=name)
    columns = list(dict.fromkeys((t["dtype"], t["threads"]) for t in found))
    columns.sort()
    head = [f"{dtype}, {threads} thread{'s' * (threads > 1)}" for dtype, threads in columns]
    lines = ["| group | " + " | ".join(head) + " |", "|---" * (len(columns) + 1) + "|"]
    for group in dict.fromkeys(t["group"] for t in found):
        cells = []
        for column in columns:
            own = [t for t in found if (t["group"], t["dtype"], t["threads"]) == (group, *column)]
            # None where no ratio was steady.
            measured = own and own[0]["geometric_mean"]
            cells.append(f"{measured:.2f} ({own[0]['worst']:.2f})" if measured else "")
        lines.append(f"| {NAMES[group]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def words():
    """What the page says of it."""
    return {
        "bench_table": table(),
        "bench_machine": machine_of_bench(read("bench")["facts"]),
        "avx2_table": table("bench_avx2"),
        "avx2_machine": machine_of_bench(read("bench_avx2")["facts"]),
    }

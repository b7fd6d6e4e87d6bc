"""The two pictures of the home page, from `rows.json` and `bench.json`."""

from common import BLUE, COLORS, PANEL, read
from performance import tables

#: Groups in the order of the picture, small layers in compiled code first, and their names there.
GROUPS = {
    "tiny": "small layers inside @njit",
    "small": "small, from Python",
    "one": "one sample, large weight",
    "medium": "medium",
    "large": "large",
    "tall": "many samples, few features",
    "autograd": "forward + backward,\nbeside autograd",
}


def bits():
    """The part of rows, and of results, whose bits depend on batch, threads or layout."""
    import matplotlib.pyplot as plt

    measured = read("rows")
    names = list(dict.fromkeys(cell["name"] for cell in measured["cells"]))
    counts = {
        f"a row alone,\nor in a batch of {measured['K']}": ("rows", measured["K"]),
        f"1 thread,\nor {measured['threads']}": ("threads", 2),
        "the layout of x": ("layout", 2),
    }
    _, axes = plt.subplots(figsize=(PANEL[0], 2.6))
    height = 0.8 / len(names)
    for i, name in enumerate(names):
        own = [cell for cell in measured["cells"] if cell["name"] == name]
        parts = [
            100 * sum(cell[key] for cell in own) / (of * len(own)) for key, of in counts.values()
        ]
        rows = [row + (i - (len(names) - 1) / 2) * height for row in range(len(parts))]
        axes.barh(rows, parts, height * 0.9, color=COLORS[name], label=name)
        for row, part in zip(rows, parts, strict=True):
            axes.text(part + 1, row, f"{part:.3g} %", va="center", fontsize="small")
    axes.set_yticks(range(len(counts)), list(counts))
    axes.invert_yaxis()
    axes.set_xlim(0, 118)
    axes.set_xlabel("% whose bits differ")
    axes.legend(fontsize="small", ncols=3, loc="lower center", bbox_to_anchor=(0.4, 1))


def speed():
    """The best peer's time over ours on one thread: mean, worst, best steady cell."""
    import matplotlib.pyplot as plt

    found = {
        group: [
            cell["ratio"]
            for table in tables(group)
            if table["threads"] == 1
            for cell in table["cells"]
            if cell["steady"]
        ]
        for group in GROUPS
    }
    found = {group: sorted(ratios) for group, ratios in found.items() if ratios}
    _, axes = plt.subplots(figsize=(PANEL[0], 0.9 + 0.36 * len(found)))
    axes.axvline(1, color="black", linewidth=1)
    for row, ratios in enumerate(found.values()):
        mean = 1.0
        for ratio in ratios:
            mean *= ratio ** (1 / len(ratios))
        axes.plot([ratios[0], ratios[-1]], [row, row], color=BLUE, alpha=0.35, linewidth=5)
        axes.plot(mean, row, "o", color=BLUE)
        axes.annotate(
            f"{mean:.2f}",
            (mean, row),
            (0, 7),
            textcoords="offset points",
            ha="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
    axes.set_xscale("log")
    ticks = (0.5, 1, 2, 5, 10)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_ticks([], minor=True)
    axes.set_yticks(range(len(found)), [GROUPS[group] for group in found])
    axes.set_ylim(len(found) - 0.4, -0.7)
    axes.set_xlabel("the best peer's time ÷ ours")
    axes.grid(alpha=0.25)

"""What the measuring and drawing scripts of this folder share."""

import json
from pathlib import Path
from typing import Any

from numba_linear.commands import info

HERE = Path(__file__).parent

#: Okabe and Ito's colours, which colour-blind readers tell apart.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, GREY = "#56B4E9", "#777777"
COLORS = {"numba_linear": BLUE, "NumPy": ORANGE, "PyTorch": GREEN}
MARKERS = {"numba_linear": "o", "NumPy": "s", "PyTorch": "^"}

#: Inches: a panel as wide as a phone, two of which stand side by side on a desktop.
PANEL = (3.9, 3.1)


def facts() -> dict[str, str]:
    """Machine and versions, and the libraries that NumPy and PyTorch compute with."""
    import torch
    from threadpoolctl import threadpool_info

    blas = ", ".join(
        f"{library['internal_api']} {library['version']}, {library['architecture']} kernels"
        for library in threadpool_info()
        if library["user_api"] == "blas" and "numpy" in Path(library["filepath"]).parent.name
    )
    known = info.versions("numba_linear", "numba", "numpy", "torch")
    return known | {"BLAS": blas, "MKL": str(torch.backends.mkl.is_available())}


def machine_of_bench(facts: dict[str, str]) -> str:
    """The facts that `bench` writes as a sentence, with the load by other programs."""
    busy = facts.get("other programs")
    threads = facts["threads"].split(",")[0]
    return (
        machine(facts)
        + f"; {threads} threads, {facts['threading layer']}"
        + (f"; other programs {busy}" if busy else "")
    )


def machine(facts: dict[str, str]) -> str:
    """The facts as a sentence."""
    return (
        f"{facts['processor']}; {facts['Python']}, numba {facts['numba']}, NumPy"
        f" {facts['numpy']} ({facts['BLAS']}), PyTorch {facts['torch']}"
    )


def write(name: str, measured: dict[str, Any]) -> None:
    (HERE / f"{name}.json").write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n")


def read(name: str) -> dict[str, Any]:
    return json.loads((HERE / f"{name}.json").read_text())

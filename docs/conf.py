"""The site: `sphinx-build -W --keep-going -n docs docs/_build` writes it, with no network."""

import hashlib
import shutil
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger

import numba_linear

here = Path(__file__).parent
sys.path.insert(0, str(here / "figures"))

import cluster  # noqa: E402
import compiling  # noqa: E402
import error  # noqa: E402
import gallery  # noqa: E402
import paths  # noqa: E402
import performance  # noqa: E402
import policy  # noqa: E402
import pytorch  # noqa: E402
import rows  # noqa: E402
import stored  # noqa: E402

logger = getLogger(__name__)

project = "numba_linear"
author = "the numba_linear authors"
version = release = numba_linear.__version__

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
nitpicky = True

myst_enable_extensions = ["attrs_block", "colon_fence", "deflist", "dollarmath", "substitution"]
myst_heading_anchors = 3
# The measured values that pages name come from the JSON files in figures/.
myst_substitutions = {
    **rows.words(),
    **stored.words(),
    **error.words(),
    **performance.words(),
    **policy.words(),
    **pytorch.words(),
    **cluster.words(),
    **compiling.words(),
    **paths.words(),
    **gallery.words(),
}

# PyTorch and Dask are not needed to read the docstrings.
autodoc_mock_imports = ["dask", "torch"]
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

plot_formats = ["svg"]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_rcparams = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "svg.hashsalt": "numba_linear",
}
plot_apply_rcparams = True

html_theme = "furo"
html_theme_options = {
    "light_css_variables": {
        "font-stack": "Circled, -apple-system, BlinkMacSystemFont, Segoe UI, Helvetica, Arial,"
        " sans-serif",
        "font-stack--monospace": "Circled, SFMono-Regular, Menlo, Consolas, Monaco,"
        " Liberation Mono, monospace",
    }
}
html_title = "numba_linear"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
default_role = "code"
pygments_style = "friendly"


# Formulas become MathML while building, so a browser runs and fetches nothing for them.


def mathml(node: nodes.Element, block: bool) -> str:
    try:
        text = str(latex2mathml.tex2mathml(node.astext(), as_block=block))
    except MathError as error:
        logger.warning("%s", error, location=node)
        return ""
    # In TeX these grow only after \\left and \\right, which docutils does for parentheses alone.
    for sign in "⌈⌉":
        text = text.replace(f"<mo>{sign}</mo>", f'<mo stretchy="false">{sign}</mo>')
    return text


def visit_math(self: Any, node: nodes.math) -> None:
    self.body.append(mathml(node, block=False))
    raise nodes.SkipNode


def visit_math_block(self: Any, node: nodes.math_block) -> None:
    # Only the notes' own equations have a label, in their order: ① to ⑫.
    number = ""
    if node["number"]:
        number = f'<span class="eqno">{chr(ord("①") - 1 + node["number"])}</span>'
    self.body.append(self.starttag(node, "div", CLASS="math-block", tabindex="0"))
    self.body.append(f"{mathml(node, block=True)}{number}</div>\n")
    raise nodes.SkipNode


# If any script or measurement has changed, all figures are drawn again: Sphinx and the plot
# directive look only at a page and its script.


def digest() -> str:
    files = sorted((*(here / "figures").glob("*.py"), *(here / "figures").glob("*.json")))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def forget_figures(app: Sphinx) -> None:
    drawn = app.doctreedir.parent / "plot_directive"
    stamp = drawn / app.config.figures
    if not stamp.exists():
        shutil.rmtree(drawn, ignore_errors=True)
        drawn.mkdir(parents=True)
        stamp.touch()


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.add_config_value("figures", digest(), "env", str)
    app.connect("builder-inited", forget_figures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

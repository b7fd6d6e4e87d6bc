"""What a stranger gets: metadata, public names, README's examples, no need of SciPy."""

import ast
import inspect
import re
from importlib import metadata, resources
from pathlib import Path

import pytest
from processes import finish, start

import numba_linear

README = Path(__file__).parent.parent / "README.md"

PUBLIC = [
    "Accumulator",
    "Gradients",
    "accumulate",
    "accumulated",
    "accumulator",
    "backward",
    "forward",
    "grad_bias",
    "grad_input",
    "grad_weight",
    "tree_sum",
]


def test_needs_numba_and_numpy_alone():
    wanted = metadata.requires("numba_linear")
    names = {re.match(r"[\w-]+", line)[0] for line in wanted if "extra ==" not in line}
    assert names == {"numba", "numpy"}


def test_metadata():
    about = metadata.metadata("numba_linear")
    assert about["Version"] == metadata.version("numba_linear")
    assert about["License-Expression"] == "BSD-3-Clause"
    assert about["Requires-Python"] == ">=3.11"
    extras = {"test", "bench", "docs", "cuda", "cuda12", "cuda13"}
    assert extras <= set(about.get_all("Provides-Extra"))


def test_types_and_data_are_installed():
    package = resources.files(numba_linear)
    assert (package / "py.typed").is_file()
    assert (package / "data" / "digits.npz").is_file()


def test_public_names():
    assert sorted(numba_linear.__all__) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC[2:])
def test_public_calls_are_documented_and_typed(name):
    call = getattr(numba_linear, name)
    signature = inspect.signature(call)
    # These allocate, or add what was computed already.
    alone = name in ("accumulated", "accumulator", "tree_sum")
    assert alone or list(signature.parameters)[-1] == "parallel"
    assert signature.return_annotation is not inspect.Signature.empty
    for parameter in signature.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty, parameter
    sections = re.findall(r"^\s*(\w+)\n\s*-{4,}$", inspect.getdoc(call), re.MULTILINE)
    wanted = {"Parameters", "Raises", "Examples"}
    if name != "accumulate":  # in place
        wanted.add("Returns")
    assert wanted <= set(sections)


def test_without_scipy():
    """Every call, from Python and from @njit, while importing SciPy raises."""
    program = """
import sys

class NoSciPy:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "scipy":
            raise ImportError("no SciPy here")

sys.meta_path.insert(0, NoSciPy())

import numpy as np
from numba import njit
from numba_linear import backward, forward

def step(x, w, b):
    y = forward(x, w, b)
    return y, backward(y, x, w)

x, w, b = np.eye(3, 4), np.ones((2, 4)), np.zeros(2)
for function in (step, njit(step)):
    y, d = function(x, w, b)
    assert (y == 1).all() and (d.input == 2).all()
assert "scipy" not in sys.modules
"""
    finish(start("-c", program))


def test_import_is_light():
    """Importing the package compiles nothing, starts no thread and brings in no command."""
    program = """
import sys
from numba.core import event

recorder = event.RecordingListener()
event.register("numba:compile", recorder)
import numba_linear

assert not recorder.buffer, recorder.buffer
heavy = {"numba_linear.equations", "numba_linear.commands", "matplotlib", "torch"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    finish(start("-c", program))


def test_readme_examples_run():
    """In order and in one namespace, as a reader would paste them."""
    text = README.read_text(encoding="utf-8")
    examples = list(re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert len(examples) == 3
    namespace = {}
    for example in examples:
        lines_above = text[: example.start(1)].count("\n")
        exec(compile("\n" * lines_above + example[1], README, "exec"), namespace)


def test_readme_names_every_call():
    text = README.read_text(encoding="utf-8")
    for name in PUBLIC[2:]:
        signature = inspect.signature(getattr(numba_linear, name))
        arguments = [
            parameter.name
            if parameter.default is inspect.Parameter.empty
            else f"{parameter.name}={parameter.default!r}".replace("'", '"')
            for parameter in signature.parameters.values()
            if parameter.name != "parallel"
        ]
        assert f"`{name}({', '.join(arguments)})`" in text


def test_the_equations_import_nothing_of_the_package():
    source = Path(numba_linear.__file__).with_name("equations.py").read_text(encoding="utf-8")
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    assert not any(
        (node.module or "").startswith("numba_linear") or node.level for node in imports
    )

"""The examples of README, of the site's pages and of the docstrings, run as a reader would."""

import doctest
import importlib.util
import unittest
from pathlib import Path

import pytest
from sybil.document import Document
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

import numba_linear

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if "```python\n" in page.read_text()
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_s_examples_run_and_print_what_it_says(page):
    document = Document.parse(str(page), PythonCodeBlockParser(), SkipParser())
    document.namespace["torch_missing"] = importlib.util.find_spec("torch") is None
    document.namespace["dask_missing"] = importlib.util.find_spec("distributed") is None
    ran = 0
    for example in document.examples():
        try:
            example.evaluate()
            ran += 1
        except unittest.SkipTest:
            continue
    assert ran > 0


@pytest.mark.parametrize("name", [name for name in numba_linear.__all__ if name != "Gradients"])
def test_a_docstring_s_example_runs(name):
    function = getattr(numba_linear, name)
    (example,) = doctest.DocTestFinder(recurse=False).find(function, name)
    # A message is one line; a docstring wraps it.
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example)
    assert result.attempted > 0
    assert result.failed == 0

"""How much the tests of this folder do: a bounded part, or with ROBUST=full everything."""

import os

import pytest

FULL = os.environ.get("ROBUST") == "full"

full = pytest.mark.skipif(not FULL, reason="part of the full run, ROBUST=full")

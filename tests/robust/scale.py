"""How much this folder's tests do: a bounded part, or everything with ROBUST=full."""

import os

import pytest

FULL = os.environ.get("ROBUST") == "full"

full = pytest.mark.skipif(not FULL, reason="part of the full run, ROBUST=full")

"""If Numba's private parts disappear, the package does without them, to the same bits."""

from pathlib import Path
from types import SimpleNamespace

import digest
import pytest
from processes import finish, start

from numba_linear.jit import private

# A Numba module, the name that it loses, and what `info` then reports as missing.
NAMES = [
    ("numba.core.codegen", "JITCodeLibrary", "pipeline"),
    ("numba.core.compiler_machinery", "PassManager", "pipeline"),
    ("numba.core.typed_passes", "NativeLowering", "pipeline"),
    ("numba.core.typeinfer", "TypeInferer", "pipeline"),
    ("numba.core.untyped_passes", "FixupArgs", "pipeline"),
    ("numba.core.caching", "FunctionCache", "cache"),
    ("numba.core.caching", "IndexDataCacheFile", "cache"),
    ("numba.core.compiler_lock", "global_compiler_lock", "compiler lock"),
    ("numba.core.registry", "cpu_target", "target"),
    ("numba.np.arrayobj", "_empty_nd_impl", "empty arrays"),
]

# The package sees copies of Numba's modules without these names; Numba itself has them.
LOSE = """
import importlib, sys, types
import numba

numba.njit(lambda: 0)()  # what Numba itself uses of it is loaded before
for lost in sys.argv[1:]:
    module, name = lost.split(":")
    package, _, last = module.rpartition(".")
    copy = types.ModuleType(module)
    vars(copy).update(vars(importlib.import_module(module)))
    delattr(copy, name)
    sys.modules[module] = copy
    setattr(importlib.import_module(package), last, copy)
"""

SAYS = """
from numba_linear.jit.private import pipeline
import numba_linear
import numba_linear.equations
print(pipeline())
"""


@pytest.mark.parametrize(("module", "name", "lacks"), NAMES)
def test_no_import_error(module, name, lacks):
    (said,) = finish(start("-c", LOSE + SAYS, f"{module}:{name}"))
    assert f"this Numba lacks: {lacks} (" in said


def test_code_without_constants_is_not_cached(monkeypatch):
    """A process that reads it would lack the code that it calls."""
    monkeypatch.setattr(private, "MISSING", {})
    told = []
    context = SimpleNamespace(add_dynamic_addr=lambda *arguments: told.append(arguments))
    private.keep(context, None, 1)
    assert told and "constants" in private.MISSING


WITHOUT_CACHE = ("numba.core.codegen:JITCodeLibrary", "numba.core.caching:IndexDataCacheFile")
WITHOUT_ARRAYS = (
    "numba.np.arrayobj:_empty_nd_impl",
    "numba.core.compiler_lock:global_compiler_lock",
)

CALLS = """
import numpy as np
from numba import njit
from numba_linear import backward, forward
from numba_linear import equations

x, w = np.arange(600.0).reshape(2, 300) / 7, np.arange(900.0).reshape(3, 300) / 3
compiled = njit(lambda x, w: (forward(x, w), backward(forward(x, w), x, w).weight))
y, dw = compiled(x, w)
assert (y == equations.forward(x, w)).all() and (forward(x, w) == y).all()
assert (dw == equations.grad_weight(y, x)).all()
"""


def test_calls_without_private_parts_that_calls_use(tmp_path):
    finish(start("-c", LOSE + CALLS, *WITHOUT_ARRAYS, NUMBA_CACHE_DIR=str(tmp_path)))


DIGEST = """
import digest
print(digest.of_package())
"""


@pytest.mark.once
def test_the_bits_by_numbas_own_pipeline(tmp_path):
    """And with Numba's own cache, cold and warm."""
    settings = {"PYTHONPATH": str(Path(digest.__file__).parent), "NUMBA_CACHE_DIR": str(tmp_path)}
    for _ in range(2):
        (found,) = finish(start("-c", LOSE + DIGEST, *WITHOUT_CACHE, **settings))
        assert found.strip() == digest.of_equations()

"""The package without CUDA: it imports none of it, and the first call says what is missing."""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import finish, start

import numba_linear.cuda as nl
from numba_linear.__main__ import main
from numba_linear.cuda import layer

INSTALLED = importlib.util.find_spec("numba_cuda") is not None

#: What must be on the path for the message.
NEEDED = ("numba", "numpy", "llvmlite", "numba_cuda")

CALLS = {
    "forward": lambda a: nl.forward(a, a),
    "grad_input": lambda a: nl.grad_input(a, a),
    "grad_weight": lambda a: nl.grad_weight(a, a),
    "grad_bias": lambda a: nl.grad_bias(a),
    "backward": lambda a: nl.backward(a, a, a),
}


@pytest.mark.parametrize("module", ["numba_linear", "numba_linear.cuda"])
def test_import_does_not_touch_cuda(module):
    finish(start("-c", f"import sys, {module}; assert 'numba.cuda' not in sys.modules"))


@pytest.fixture
def no_extra(monkeypatch):
    find = importlib.util.find_spec

    def hidden(name, package=None):
        return None if name == "numba_cuda" else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    layer.engine.cache_clear()


@pytest.mark.parametrize("call", CALLS)
def test_without_the_extra(call, no_extra):
    words = r"numba-cuda is not installed; .*pip install -e '\.\[cuda\]'"
    with pytest.raises(nl.CudaUnavailableError, match=words):
        CALLS[call](np.ones((2, 2)))


@pytest.mark.parametrize("command", ["verify", "bench"])
def test_commands_without_the_extra(command, no_extra, capsys):
    assert main([command, "--device", "cuda"]) == 2
    assert "numba-cuda is not installed" in capsys.readouterr().err


def test_bench_on_a_gpu_has_no_threads(no_extra, capsys):
    assert main(["bench", "--device", "cuda", "--threads", "2"]) == 2
    assert "a number of threads is for the CPU" in capsys.readouterr().err


@pytest.mark.skipif(not INSTALLED, reason="numba-cuda is not installed")
def test_where_numba_cuda_can_not_be_imported(monkeypatch):
    """For example with a NumPy that it does not support."""
    import numba

    layer.engine.cache_clear()
    monkeypatch.delattr(numba, "cuda", raising=False)
    monkeypatch.setitem(sys.modules, "numba.cuda", None)
    with pytest.raises(nl.CudaUnavailableError, match=r"cannot be imported .*pip install"):
        nl.grad_bias(np.ones(3))


@pytest.mark.skipif(not INSTALLED, reason="numba-cuda is not installed")
def test_without_the_redirect():
    """numba-cuda is on Python's path, in a folder whose .pth files Python does not read."""
    paths = [str(Path(find.origin).parents[1]) for find in map(importlib.util.find_spec, NEEDED)]
    code = """
import numba_linear.cuda as nl
try:
    nl.grad_bias([1.0])
except nl.CudaUnavailableError as error:
    print(error)
"""
    (words,) = finish(start("-S", "-c", code, PYTHONPATH=os.pathsep.join(dict.fromkeys(paths))))
    assert "numba.cuda is Numba's own" in words and "_numba_cuda_redirector.pth" in words


@pytest.mark.skipif(not INSTALLED, reason="numba-cuda is not installed")
def test_without_a_driver(monkeypatch):
    from numba import cuda

    layer.engine.cache_clear()
    monkeypatch.setattr(cuda, "is_available", lambda: False)
    with pytest.raises(nl.CudaUnavailableError, match=r"no GPU can be used.*driver"):
        nl.grad_bias(np.ones(3))

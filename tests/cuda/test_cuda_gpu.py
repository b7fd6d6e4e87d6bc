"""On a GPU: every call equals the equations, bit for bit, whoever owns the arrays."""

import pytest

pytest.importorskip("numba_cuda", reason="the extra is not installed: pip install -e '.[cuda]'")

import importlib.util

import cuda_operations
import numpy as np
from bits import assert_bits
from cuda_operations import host, on
from numba import cuda
from operations import DTYPES, OPERATIONS, assert_result, expected, operands

import numba_linear.cuda as nl
from numba_linear import equations
from numba_linear.commands import verify

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not cuda.is_available(), reason="there is no NVIDIA GPU"),
]

SHAPES = [
    *((e, 17, 33) for e in (0, 1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 257)),
    *((33, e, 17) for e in (0, 1, 7, 8, 9, 15, 16, 17, 255, 256, 257, 511, 513, 2049)),
    *((17, 33, e) for e in (1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 257)),
    (1, 4096, 4096),
    (1000, 1030, 1100),
    (2048, 2048, 2048),
    (70_001, 16, 10),
    (3, 70_001, 5),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_shapes(name, dtype):
    for K, n, m in SHAPES:
        reduction = OPERATIONS[name].reduction
        if (reduction == "mean" and K == 0) or (reduction == "none" and K * n * m > 2**24):
            continue
        given = operands(K, n, m, dtype)
        got = host(cuda_operations.OPERATIONS[name](on(cuda, given)))
        assert_result(f"{name} (K, n, m) = {(K, n, m)}", got, expected(OPERATIONS[name], given))


def test_verify():
    assert verify.run("cuda")


def test_many_runs_give_the_same_bits():
    given = on(cuda, operands(513, 1000, 300, np.float32))
    first = host(nl.backward(given.g, given.x, given.w))
    for _ in range(20):
        for a, b in zip(host(nl.backward(given.g, given.x, given.w)), first, strict=True):
            assert_bits("backward", a, b)


def test_streams():
    """Two streams at once, and a result that is read in its own stream's order."""
    given = [operands(300, 2000, 200, np.float32, lambda s, d, i: values(s, d, i)) for _ in "ab"]
    streams = [cuda.stream() for _ in given]
    results = []
    for operand, stream in zip(given, streams, strict=True):
        x, w = cuda.to_device(operand.x, stream=stream), cuda.to_device(operand.w, stream=stream)
        results.append(nl.forward(x, w, stream=stream))
    for operand, stream, y in zip(given, streams, results, strict=True):
        got = y.copy_to_host(stream=stream)
        stream.synchronize()
        assert_bits("forward", got, equations.forward(operand.x, operand.w))


def values(shape, dtype, seed):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


@pytest.mark.skipif(not importlib.util.find_spec("cupy"), reason="CuPy is not installed")
def test_cupy():
    import cupy

    given = operands(65, 300, 40, np.float32)
    x, w, b = (cupy.asarray(a) for a in (given.x, given.w, given.b))
    out = cupy.empty((40, 65), np.float32).T
    assert nl.forward(x, w, b, out=out, stream=cupy.cuda.get_current_stream()) is out
    assert_bits("forward", cupy.asnumpy(out), equations.forward(given.x, given.w, given.b))
    y = cupy.asarray(nl.forward(x[::2, ::-1], w[:, ::-1]))
    assert_bits("strided", cupy.asnumpy(y), equations.forward(given.x[::2], given.w))


def test_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch has no CUDA")
    given = operands(65, 300, 40, np.float32)
    x, w, b = (torch.as_tensor(a, device="cuda") for a in (given.x, given.w, given.b))
    y = torch.as_tensor(nl.forward(x, w, b), device="cuda")
    assert_bits("forward", y.cpu().numpy(), equations.forward(given.x, given.w, given.b))
    with torch.cuda.stream(torch.cuda.Stream()):
        out = torch.empty(65, 40, device="cuda")
        nl.forward(x, w, b, out=out, stream=torch.cuda.current_stream())
        torch.cuda.current_stream().synchronize()
    assert_bits("out", out.cpu().numpy(), y.cpu().numpy())
    dw = nl.grad_weight(y.T.contiguous().T, x, "sum")
    want = equations.grad_weight(y.cpu().numpy(), given.x, "sum")
    assert_bits("grad_weight", dw.copy_to_host(), want)

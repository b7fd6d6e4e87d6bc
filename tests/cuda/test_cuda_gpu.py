"""On a GPU: every call equals the equations, bit for bit, for any library's arrays.

With NUMBA_ENABLE_CUDASIM=1 the same tests run in Numba's simulator, at fewer shapes, and with
NumPy's arrays instead of CuPy's and PyTorch's.
"""

import pytest

pytest.importorskip("numba_cuda", reason="the extra is not installed: pip install -e '.[cuda]'")

import cuda_operations
import numpy as np
from bits import assert_bits
from cuda_operations import host, mixed, negligible, on, subnormal
from layouts import LAYOUTS, Layout
from numba import cuda
from numba.cuda.core import config
from operations import DTYPES, OPERATIONS, assert_result, expected, operands, parts
from simulator import repair

import numba_linear.cuda as nl
from numba_linear import Gradients, equations
from numba_linear.commands import verify
from numba_linear.cpu.rule import LEAF
from numba_linear.cuda import arrays, contract
from numba_linear.cuda.machine import LARGE, WIDE, Cut

SIMULATED = config.ENABLE_CUDASIM
if SIMULATED:
    repair()

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not cuda.is_available(), reason="there is no NVIDIA GPU"),
    # Infinity and NaN are allowed, also in the simulator's threads.
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
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
#: One of each kind; the others are parts of `backward`.
NAMES = ("forward", "forward without b", "backward mean", "backward sum", "backward none")
#: Rows, terms and columns of layers that are tested in every layout, and with special numbers.
SMALLER = [(130, 300, 70), (1, 530, 41)]
MANY = 20

LAYOUTS = {
    name: layout for name, layout in LAYOUTS.items() if name not in ("unaligned", "packed records")
}

if SIMULATED:  # a launch takes a quarter of a second
    SHAPES = [(1, 257, 5), (3, 15, 33), (34, 2, 3), (0, 3, 4), (3, 0, 4)]
    NAMES = ("forward", "backward mean")
    SMALLER = [(5, 18, 6)]
    MANY = 1
    LAYOUTS = {name: LAYOUTS[name] for name in ("C", "Fortran", "backwards strided Fortran")}


def address_of(array):
    place = arrays.Place(0, arrays.device.stream_of("", 0))
    return arrays.operand("", "", "", array, place).address


class OnGpu:
    """A copy of an array on the GPU, in a layout, inside a larger buffer."""

    def __init__(self, a, layout=None):
        buffer, view = (layout or Layout()).buffer(a.shape, a.dtype.type)
        view[...] = a
        self.shape, self.dtype, self.strides = a.shape, a.dtype, view.strides
        self.offset = view.ctypes.data - buffer.ctypes.data
        self.buffer = cuda.to_device(buffer)
        self.__cuda_array_interface__ = {
            "version": 3,
            "shape": self.shape,
            "strides": self.strides,
            "typestr": self.dtype.str,
            "data": (address_of(self.buffer) + self.offset, False),
        }

    def _on_host(self):
        buffer = self.buffer.copy_to_host()
        return buffer, np.ndarray(self.shape, self.dtype, buffer.data, self.offset, self.strides)

    def copy_to_host(self):
        return self._on_host()[1].copy()

    def beside(self):
        """The buffer's bytes, with the array's own blanked."""
        buffer, view = self._on_host()
        view[...] = np.nan
        return buffer


def check(name, given, label="", to=None):
    device = on(cuda, given) if to is None else to(given)
    got = host(cuda_operations.OPERATIONS[name](device))
    assert_result(f"{name} {label}", got, expected(OPERATIONS[name], given))


def defined(name, K, n, m):
    """A mean needs a sample; without a reduction, many numbers show no more than some."""
    reduction = OPERATIONS[name].reduction
    return not (reduction == "mean" and K == 0) and not (reduction == "none" and K * n * m > 2**24)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_shapes(name, dtype):
    for K, n, m in SHAPES:
        if defined(name, K, n, m):
            check(name, operands(K, n, m, dtype), f"(K, n, m) = {(K, n, m)}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_call(name, dtype):
    for batch in ((), (2, 2)):
        check(name, operands(batch, 3, 2, dtype), f"batch {batch}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_cuts(monkeypatch, dtype):
    """Sums in parts, and a whole large tile, whatever the machine's own cut."""
    with monkeypatch.context() as patch:
        patch.setattr(arrays.device, "processors", lambda ordinal: 1000)
        check("forward", operands(3, 700, 5, dtype), "in parts")
        check("grad_bias mean", operands(700, 1, 3, dtype), "in parts")
    tile = LARGE[np.dtype(dtype).name, 3]
    monkeypatch.setattr(contract, "cut", lambda *_: Cut(tile, LEAF << tile.levels))
    check("forward", operands(tile.shape[0], 9, tile.shape[1], dtype), "a whole large tile")
    if dtype is np.float32:
        tile = WIDE["float32", 3]
        monkeypatch.setattr(contract, "cut", lambda *_: Cut(tile, LEAF << tile.levels))
        check("forward", operands(tile.shape[0], 20, tile.shape[1], dtype), "a whole wide tile")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    """Operands and result in a layout; nothing beside the result is written."""

    def to(given):
        return type(given)(**{k: OnGpu(a, LAYOUTS[layout]) for k, a in vars(given).items()})

    for name in NAMES:
        for shape in SMALLER:
            given = operands(*shape, np.float32)
            want = expected(OPERATIONS[name], given)
            places = [
                OnGpu(np.full_like(a, np.nan), LAYOUTS[layout]) for a in parts(want).values()
            ]
            before = [place.beside() for place in places]
            out = Gradients(*places) if isinstance(want, Gradients) else places[0]
            assert cuda_operations.OPERATIONS[name](to(given), out=out) is out
            assert_result(f"{name} {layout} {shape}", host(out), want)
            for place, bytes_ in zip(places, before, strict=True):
                assert_bits(f"beside out of {name}, {shape}", place.beside(), bytes_)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [mixed, negligible, subnormal], ids=lambda make: make.__name__)
def test_special_values(make, dtype):
    """NaN and infinities; terms that underflow to -0, whose sum is -0; subnormal numbers."""
    for name in NAMES:
        for shape in SMALLER:
            check(name, operands(*shape, dtype, make), f"{make.__name__}, {shape}")


def test_verify():
    if SIMULATED:
        pytest.skip("its shapes would take the simulator an hour")
    assert verify.run("cuda")


def test_many_runs_give_the_same_bits():
    shape = (5, 300, 3) if SIMULATED else (513, 1000, 300)
    given = on(cuda, operands(*shape, np.float32))
    first = host(nl.backward(given.g, given.x, given.w))
    for _ in range(MANY):
        for a, b in zip(host(nl.backward(given.g, given.x, given.w)), first, strict=True):
            assert_bits("backward", a, b)


def test_streams():
    """Two streams at once, and a result read in its own stream's order."""
    shape = (3, 20, 2) if SIMULATED else (300, 2000, 200)
    given = [operands(*shape, np.float32), operands(*shape, np.float32, mixed)]
    streams = [cuda.stream() for _ in given]
    results = []
    for operand, stream in zip(given, streams, strict=True):
        x, w = cuda.to_device(operand.x, stream=stream), cuda.to_device(operand.w, stream=stream)
        results.append(nl.forward(x, w, stream=stream))
    for operand, stream, y in zip(given, streams, results, strict=True):
        got = y.copy_to_host(stream=stream)
        stream.synchronize()
        assert_bits("forward", got, equations.forward(operand.x, operand.w))


# --------------------------------------------------------------------------------------
# Other people's arrays
# --------------------------------------------------------------------------------------


class Numba:
    stream = staticmethod(lambda: 0)
    array = staticmethod(cuda.to_device)
    host = staticmethod(lambda a: a.copy_to_host())


class Cupy:
    def __init__(self):
        cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
        self.array, self.host, self.stream = (
            cupy.asarray,
            cupy.asnumpy,
            cupy.cuda.get_current_stream,
        )


class Torch:
    def __init__(self):
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        if not torch.cuda.is_available():
            pytest.skip("PyTorch has no CUDA")
        self.array = lambda a: torch.as_tensor(a, device="cuda")
        self.host = lambda a: a.cpu().numpy()
        self.stream = torch.cuda.current_stream


class Numpy:
    """NumPy's arrays, which stand in for a GPU's in the simulator."""

    class Array(np.ndarray):
        __cuda_array_interface__ = property(lambda self: self.__array_interface__)

    def __init__(self):
        if not SIMULATED:
            pytest.skip("stands for the others in the simulator")

    def array(self, a):
        return np.array(getattr(a, "_ary", a)).view(self.Array)

    host = staticmethod(np.asarray)
    stream = staticmethod(cuda.stream)


@pytest.mark.parametrize("kind", [Numba, Cupy, Torch, Numpy], ids=lambda kind: kind.__name__)
def test_arrays_of(kind):
    library = kind()
    K, n, m = (5, 18, 4) if SIMULATED else (65, 300, 40)
    given = operands(K, n, m, np.float32)
    want = equations.forward(given.x, given.w, given.b)
    x, w, b, g = (library.array(a) for a in (given.x, given.w, given.b, given.g))
    out = library.array(np.full((m, K), np.nan, np.float32)).T
    assert nl.forward(x, w, b, out=out, stream=library.stream()) is out
    assert_bits("out", library.host(out), want)
    y = library.array(nl.forward(x, w, b))
    assert_bits("a new result", library.host(y), want)
    y = library.array(nl.forward(x[::2, 1::3], w[:, 1::3]))
    assert_bits(
        "strided", library.host(y), equations.forward(given.x[::2, 1::3], given.w[:, 1::3])
    )
    d = nl.backward(g, x, None, "sum")
    assert d.input is None
    assert_bits("weight", host(d.weight), equations.grad_weight(given.g, given.x, "sum"))


def test_cupy_arrays_backwards():
    """Both operands' features are reversed, which reverses every sum."""
    library = Cupy() if not SIMULATED else Numpy()
    given = operands(6, 300, 5, np.float32)
    x, w = library.array(given.x), library.array(given.w)
    y = library.array(nl.forward(x[::2, ::-1], w[:, ::-1]))
    want = equations.forward(given.x[::2, ::-1], given.w[:, ::-1])
    assert (want != equations.forward(given.x[::2], given.w)).any()
    assert_bits("backwards", library.host(y), want)


def torch_arrays(given, *names):
    Torch()
    import torch

    arrays = [torch.as_tensor(getattr(given, name), device="cuda") for name in names]
    torch.cuda.synchronize()
    return torch, *arrays


def test_torch_on_a_stream_of_its_own():
    given = operands(65, 300, 40, np.float32)
    torch, x, w, b = torch_arrays(given, "x", "w", "b")
    with torch.cuda.stream(torch.cuda.Stream()):
        out = torch.empty(65, 40, device="cuda")
        nl.forward(x, w, b, out=out, stream=torch.cuda.current_stream())
        torch.cuda.current_stream().synchronize()
    assert_bits("out", out.cpu().numpy(), equations.forward(given.x, given.w, given.b))
    with pytest.raises(TypeError, match=r"pass w\.detach\(\)"):
        nl.forward(x, torch.nn.Parameter(w))


def test_torch_writes_on_another_stream_first():
    given = operands(65, 300, 40, np.float32)
    torch, x, w = torch_arrays(given, "x", "w")
    late = torch.zeros_like(x)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(10**8)
        late += x
        y = nl.forward(late, w)  # on the default stream
    torch.cuda.synchronize()
    assert_bits("y", host(y), equations.forward(given.x, given.w))


@pytest.mark.parametrize("shape", [(300, 200, 400), (3, 20_000, 5)], ids=["whole", "cut"])
def test_torch_captures_a_graph(shape):
    given = operands(*shape, np.float32)
    torch, x, w = torch_arrays(given, "x", "w")
    out = torch.empty(shape[0], shape[2], device="cuda")
    nl.forward(x, w, out=out)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        nl.forward(x, w, out=out, stream=torch.cuda.current_stream())
    for _ in range(2):
        out.zero_()
        graph.replay()
        torch.cuda.synchronize()
        assert_bits("out", out.cpu().numpy(), equations.forward(given.x, given.w))


def test_another_gpu():
    if SIMULATED or len(cuda.gpus) < 2:
        pytest.skip("there is one GPU")
    given = operands(9, 30, 4, np.float32)
    with cuda.gpus[1]:
        x, w = cuda.to_device(given.x), cuda.to_device(given.w)
        y = host(nl.forward(x, w))
    assert_bits("on the second", y, equations.forward(given.x, given.w))
    with pytest.raises(ValueError, match="x lies on GPU 1; wanted GPU 0"):
        nl.forward(x, w)

"""What the calls on the GPU accept and refuse, with the CPU calls' messages."""

import pytest

pytest.importorskip("numba_cuda", reason="the extra is not installed: pip install -e '.[cuda]'")

import dataclasses
import re
from types import SimpleNamespace

import numpy as np
from bits import assert_bits
from cuda_operations import host, on
from gpu import Array, Gpu, unfused
from layouts import Layout
from numba.cuda.cudadrv.driver import Stream
from operations import operands

import numba_linear
import numba_linear.cuda as nl
from numba_linear import Gradients, equations
from numba_linear.commands import UserError, bench, cuda, peers, verify
from numba_linear.commands.groups import CUDA_GROUPS, Table
from numba_linear.commands.timing import Contestant
from numba_linear.cuda import arrays, device

K, n, m = 4, 6, 5


@pytest.fixture
def gpu(monkeypatch):
    return Gpu(monkeypatch)


def f32(*shape):
    return np.zeros(shape, np.float32)


def gradients(*shapes):
    return Gradients(*(f32(*shape) for shape in shapes))


def read_only(a):
    a.flags.writeable = False
    return a


#: Calls that are wrong on the CPU and on the GPU alike.
WRONG = {
    "shapes": lambda c, at: c.forward(at(f32(K, n)), at(f32(m, n + 1))),
    "bias": lambda c, at: c.forward(at(f32(K, n)), at(f32(m, n)), at(f32(m + 1))),
    "batches": lambda c, at: c.grad_weight(at(f32(K, m)), at(f32(K + 1, n))),
    "dimensions": lambda c, at: c.forward(at(f32(K, n)), at(f32(n))),
    "no dimensions": lambda c, at: c.grad_bias(at(f32())),
    "dtypes": lambda c, at: c.forward(at(f32(K, n)), at(np.zeros((m, n)))),
    "dtype": lambda c, at: c.grad_bias(at(np.zeros((K, m), np.int64))),
    "byte order": lambda c, at: c.grad_bias(at(np.zeros((K, m), ">f4"))),
    "reduction": lambda c, at: c.grad_bias(at(f32(K, m)), "max"),
    "empty mean": lambda c, at: c.grad_bias(at(f32(0, m))),
    "shape of out": lambda c, at: c.grad_bias(at(f32(K, m)), out=at(f32(m + 1))),
    "dtype of out": lambda c, at: c.grad_bias(at(f32(K, m)), out=at(np.zeros(m))),
    "read-only out": lambda c, at: c.grad_bias(at(f32(K, m)), out=at(read_only(f32(m)))),
    "out of backward": lambda c, at: c.backward(
        at(f32(K, m)), at(f32(K, n)), at(f32(m, n)), out=(1, 2, 3)
    ),
    "shape of a gradient": lambda c, at: c.backward(
        at(f32(K, m)),
        at(f32(K, n)),
        at(f32(m, n)),
        out=Gradients(*map(at, gradients((K, n), (n, m), (m,)))),
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_errors_are_those_of_the_cpu(gpu, wrong):
    with pytest.raises((TypeError, ValueError)) as here:
        WRONG[wrong](numba_linear, lambda a: a)
    with pytest.raises(type(here.value)) as there:
        WRONG[wrong](nl, gpu.to_device)
    assert str(there.value) == str(here.value)
    assert not gpu.launches


@pytest.mark.parametrize(
    ("argument", "kind"),
    [
        (f32(K, m), "ndarray, in the host's memory"),
        ([1.0], "list"),
        (None, "NoneType"),
        (SimpleNamespace(__dlpack_device__=lambda: (1, 0)), "SimpleNamespace, in the host"),
    ],
)
def test_arrays_on_the_host_are_refused(gpu, argument, kind):
    words = f"grad_bias: g is of type {kind}.*wanted a CUDA array of shape (…, m): copy with"
    with pytest.raises(TypeError, match=re.escape(words).replace(r"\.\*", ".*")) as error:
        nl.grad_bias(argument)
    assert "numba.cuda.to_device(g)" in str(error.value)


def test_overlapping_out_is_refused(gpu):
    g = gpu.to_device(f32(K, m))
    with pytest.raises(ValueError, match="out overlaps g in memory"):
        nl.grad_bias(g, "none", out=g)
    dx, db = gpu.to_device(f32(K, n)), gpu.to_device(f32(m))
    x, w = gpu.to_device(f32(K, n)), gpu.to_device(f32(m, n))
    with pytest.raises(ValueError, match=r"out\.weight overlaps w in memory"):
        nl.backward(g, x, w, out=Gradients(dx, w, db))
    assert not gpu.launches


def test_parameters_are_to_be_detached(gpu):
    """PyTorch refuses such a tensor's address, with an error of its own."""

    class Parameter:
        requires_grad = True

        def __dlpack_device__(self):
            return (2, 0)

        @property
        def __cuda_array_interface__(self):
            raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad")

    x, w = gpu.to_device(f32(K, n)), Parameter()
    with pytest.raises(TypeError, match=r"forward: w is a tensor that .*: pass w\.detach\(\)"):
        nl.forward(x, w)
    g, x = gpu.to_device(f32(K, m)), gpu.to_device(f32(K, n))
    g.requires_grad = x.requires_grad = False  # as on a tensor that needs none
    assert host(nl.grad_weight(g, x)).shape == (m, n)


def test_without_a_weight_there_is_no_gradient_of_the_input(gpu):
    given = operands(K, n, m, np.float32)
    device = on(gpu, given)
    for reduction in ("mean", "sum", "none"):
        found = nl.backward(device.g, device.x, None, reduction)
        whole = host(nl.backward(device.g, device.x, device.w, reduction))
        assert found.input is None
        assert_bits("weight", host(found.weight), whole.weight)
        assert_bits("bias", host(found.bias), whole.bias)
    out = Gradients(None, gpu.to_device(f32(m, n)), gpu.to_device(f32(m)))
    before = gpu.launches.total()
    assert nl.backward(device.g, device.x, None, "sum", out=out) is out
    assert gpu.launches.total() == before + 2
    want = equations.grad_weight(given.g, given.x, "sum")
    assert_bits("weight", host(out.weight), want)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"input": f32(K, n)}, TypeError, "out.input is of type Array; wanted None, as w is None"),
        ({"weight": f32(n, m)}, ValueError, f"out.weight has shape {(n, m)}; wanted {(m, n)}"),
        ({"bias": f32(n)}, ValueError, f"out.bias has shape {(n,)}; wanted {(m,)}"),
        ({"bias": read_only(f32(m))}, ValueError, "out.bias is read-only"),
    ],
)
def test_out_without_a_weight(gpu, change, error, words):
    g, x = gpu.to_device(f32(K, m)), gpu.to_device(f32(K, n))
    places = {"input": None, "weight": f32(m, n), "bias": f32(m)} | change
    out = Gradients(*(a if a is None else gpu.to_device(a) for a in places.values()))
    with pytest.raises(error, match=re.escape(f"backward: {words}")):
        nl.backward(g, x, None, out=out)
    with pytest.raises(ValueError, match=r"backward: out\.bias overlaps out\.weight in memory"):
        weight = gpu.to_device(f32(m, n))
        nl.backward(g, x, None, out=Gradients(None, weight, weight[0][:m]))
    assert not gpu.launches


def test_unaligned_arrays_are_refused(gpu):
    """A GPU cannot read a number that is not aligned to its size."""
    g = gpu.to_device(f32(K, m), Layout(shift=1))
    with pytest.raises(ValueError, match=r"g lies at address 0x\w+ .*multiples of the 4 bytes"):
        nl.grad_bias(g)
    g = gpu.to_device(f32(3, m))
    g.__cuda_array_interface__["strides"] = (22, 4)  # of three rows the last lies well
    with pytest.raises(ValueError, match=r"g lies at address .* strides \(22, 4\)"):
        nl.grad_bias(g)


def test_parts_of_one_buffer_do_not_overlap(gpu):
    """Results between each other's rows: their first and last bytes alone would not show it."""
    given = operands(K, n, m, np.float32)
    device_ = on(gpu, given)
    both = gpu.to_device(f32(2 * K, m))
    address, _ = both.__cuda_array_interface__["data"]
    halves = []
    for i in range(2):
        interface = {"version": 3, "typestr": "<f4", "shape": (K, m), "strides": (8 * m, 4)}
        halves.append(Array(both.view[i::2], interface | {"data": (address + 4 * m * i, False)}))
    halves[0].view[...] = given.g
    out = nl.grad_bias(halves[0], "none", out=halves[1])
    assert_bits("beside its operand", host(out), given.g + 0.0)
    with pytest.raises(ValueError, match="out overlaps g in memory"):
        nl.grad_bias(halves[0], "none", out=halves[0])
    nl.forward(device_.x, device_.w, out=halves[0])
    assert_bits("out", host(halves[0]), equations.forward(given.x, given.w))


def test_masked_arrays_are_refused(gpu):
    g = gpu.to_device(f32(K, m))
    g.__cuda_array_interface__["mask"] = g
    with pytest.raises(TypeError, match="g is a masked array"):
        nl.grad_bias(g)


class ByDlpack:
    """An array that only speaks DLPack, and says that it is on a GPU."""

    def __init__(self, a):
        self.a, self.streams = a, []

    def __dlpack_device__(self):
        return (2, 0)

    def __dlpack__(self, *, stream=None, **keywords):
        self.streams.append(stream)
        return self.a.__dlpack__()


HERE = device.Place(0, device.Stream(7, None))


@pytest.mark.parametrize("view", [np.s_[:], np.s_[::2, 1:], np.s_[:, 3]], ids=str)
def test_dlpack(view):
    """The addresses are the host's: nothing is read there."""
    a = np.arange(24.0).reshape(4, 6)[view]
    given = ByDlpack(a)
    found = arrays.operand("forward", "sum", "x", given, device.Place(0, device.default_stream()))
    assert found.address == a.ctypes.data and found.dtype == a.dtype and found.writable
    assert (found.shape, found.strides) == (a.shape, a.strides)
    arrays.operand("forward", "sum", "x", given, HERE)
    assert given.streams == [1, 7]  # 1 is CUDA's default stream
    given.requires_grad = False  # as on PyTorch's tensors, which call the same stream None
    arrays.operand("forward", "sum", "x", given, device.Place(0, device.default_stream()))
    arrays.operand("forward", "sum", "x", given, HERE)
    assert given.streams == [1, 7, None, 7]


def test_dlpack_goes_first():
    """PyTorch's other interface does not name a stream."""
    a = np.zeros((2, 3))
    given = ByDlpack(a)
    given.__cuda_array_interface__ = {"version": 2}
    found = arrays.operand("forward", "sum", "x", given, HERE)
    assert given.streams == [7] and found.address == a.ctypes.data and found.ordinal == 0


def test_cuda_array_interface(gpu):
    """Strides may be missing, and an empty array may have no address."""
    interface = {"version": 3, "shape": (2, 3), "typestr": "<f8", "data": (4096, True)}
    given = SimpleNamespace(__cuda_array_interface__=interface)
    found = arrays.operand("forward", "sum", "x", given, HERE)
    assert found.strides == (24, 8) and found.address == 4096 and not found.writable
    interface |= {"shape": (0, 3), "strides": None, "data": (0, False)}
    found = arrays.operand("forward", "sum", "x", given, HERE)
    assert found.shape == (0, 3) and found.address == 0 and found.writable


# --------------------------------------------------------------------------------------
# Streams
# --------------------------------------------------------------------------------------


@pytest.fixture
def waits(monkeypatch):
    """Which stream waits for which."""
    done = []

    def stream(handle):
        wait = lambda other: done.append((handle, other.handle))  # noqa: E731
        return SimpleNamespace(handle=handle, wait=wait)

    core = SimpleNamespace(
        Stream=SimpleNamespace(from_handle=stream),
        LEGACY_DEFAULT_STREAM=stream(1),
        PER_THREAD_DEFAULT_STREAM=stream(2),
    )
    monkeypatch.setattr(device, "cuda", SimpleNamespace(core=core))
    device.default_stream.cache_clear()
    yield done
    device.default_stream.cache_clear()


@pytest.mark.parametrize(
    ("producer", "stream", "waited"),
    [
        (7, 0, [(1, 7)]),
        (7, 9, [(9, 7)]),
        (7, 7, []),
        (1, 9, [(9, 1)]),
        (None, 9, []),  # "no synchronisation needed"
        (1, 0, []),  # CuPy's handle of its default stream, and ours
        (1, SimpleNamespace(ptr=0), []),
        (1, SimpleNamespace(cuda_stream=0), []),
        (2, SimpleNamespace(ptr=2), []),
        (2, 0, [(1, 2)]),
    ],
)
def test_a_producers_stream_is_waited_for(gpu, waits, producer, stream, waited):
    interface = {"version": 3, "shape": (3,), "typestr": "<f4", "data": (4096, False)}
    given = SimpleNamespace(__cuda_array_interface__=interface | {"stream": producer})
    place = device.Place(0, device.stream_of("f", stream))
    arrays.operand("grad_bias", "sum", "g", given, place)
    assert waits == waited


def test_waiting_can_be_turned_off(gpu, waits, monkeypatch):
    monkeypatch.setattr(device.config, "CUDA_ARRAY_INTERFACE_SYNC", 0)
    device.wait_for(7, device.stream_of("f", 0))
    assert not waits


@pytest.mark.parametrize(
    ("stream", "handle"),
    [
        (0, 1),
        (None, 1),
        (8, 8),
        (Stream(9), 9),
        (Stream(0), 1),
        (SimpleNamespace(ptr=5), 5),
        (SimpleNamespace(ptr=0), 1),
        (SimpleNamespace(cuda_stream=6), 6),
        (SimpleNamespace(cuda_stream=0), 1),
        (SimpleNamespace(__cuda_stream__=lambda: (0, 7)), 7),
    ],
)
def test_streams_of_others(waits, stream, handle):
    """Numba's, CuPy's, PyTorch's, CUDA's protocol, a bare handle, and none."""
    found = device.stream_of("f", stream)
    assert found.handle == found.core.handle == handle


def test_a_default_stream_for_each_thread(waits, monkeypatch):
    monkeypatch.setattr(device.config, "CUDA_PER_THREAD_DEFAULT_STREAM", 1)
    assert device.stream_of("f", 0).handle == 2
    of_torch = SimpleNamespace(cuda_stream=0, __cuda_stream__=lambda: (0, 0))
    assert device.stream_of("f", of_torch).handle == 1  # PyTorch has none


@pytest.mark.parametrize("stream", ["s", 1.5, -1, True, [1]])
def test_what_is_no_stream_is_refused(gpu, stream):
    words = f"grad_bias: stream is {stream!r}; wanted a stream of Numba, CuPy, PyTorch"
    with pytest.raises(TypeError, match=re.escape(words)):
        nl.grad_bias(gpu.to_device(f32(K, m)), stream=stream)


# --------------------------------------------------------------------------------------
# Devices
# --------------------------------------------------------------------------------------


def test_arrays_on_another_gpu_are_refused(gpu, monkeypatch):
    x, w = gpu.to_device(f32(K, n)), gpu.to_device(f32(m, n))
    owners = {a.__cuda_array_interface__["data"][0]: 1 for a in (x, w)}
    monkeypatch.setattr(device, "owner_of", lambda address, current: owners.get(address))
    words = r"forward: x lies on GPU 1; wanted GPU 0, the current one: .*numba\.cuda\.gpus\[1\]"
    with pytest.raises(ValueError, match=words):
        nl.forward(x, w)
    owners[w.__cuda_array_interface__["data"][0]] = 0
    with pytest.raises(ValueError, match="x lies on GPU 1 and w on GPU 0; wanted all"):
        nl.forward(x, w)
    assert not gpu.launches
    monkeypatch.setattr(device, "current", lambda: 1)
    owners.clear()  # as of managed memory, which any GPU reads
    nl.forward(x, w)
    with pytest.raises(ValueError, match="x lies on GPU 0; wanted GPU 1"):
        nl.forward(ByDlpack(f32(K, n)), w)


def test_whose_memory_it_is(monkeypatch):
    """By the driver's pointer attributes: on a GPU, managed, pinned, and unknown to CUDA."""
    of_device, of_host = device.driver.CUmemorytype.CU_MEMORYTYPE_DEVICE, 1
    known = {
        100: {"DEVICE_ORDINAL": 0, "MEMORY_TYPE": of_device, "IS_MANAGED": False},
        200: {"DEVICE_ORDINAL": 1, "MEMORY_TYPE": of_device, "IS_MANAGED": False},
        300: {"DEVICE_ORDINAL": 1, "MEMORY_TYPE": of_device, "IS_MANAGED": True},
        400: {"DEVICE_ORDINAL": 1, "MEMORY_TYPE": of_host, "IS_MANAGED": False},
    }
    fine, unknown = device.driver.CUresult(0), device.driver.CUresult(1)

    def ask(attribute, address):
        if address not in known:
            return unknown, None
        return fine, known[address][attribute.name.removeprefix("CU_POINTER_ATTRIBUTE_")]

    monkeypatch.setattr(device.driver, "cuPointerGetAttribute", ask)
    assert [device.owner_of(address, 0) for address in (100, 200, 300, 400, 500, 0)] == [
        *(0, 1, None, None, None, None)
    ]


def test_results_are_new_arrays(gpu):
    given = operands((2, 3), n, m, np.float64)
    device = on(gpu, given)
    results = nl.backward(device.g, device.x, device.w, "none")
    assert [a.view.shape for a in results] == [(2, 3, n), (2, 3, m, n), (2, 3, m)]
    assert_bits("bias", host(results).bias, given.g + 0.0)


# --------------------------------------------------------------------------------------
# The command line
# --------------------------------------------------------------------------------------


@pytest.fixture
def commands(gpu, monkeypatch):
    from numba import cuda

    monkeypatch.setattr(cuda, "to_device", gpu.to_device)
    monkeypatch.setattr(cuda, "synchronize", lambda: None)
    return gpu


def test_verify(commands, monkeypatch):
    monkeypatch.setattr(verify, "SHAPES", ((3, 5, 7), (1, 257, 2), (0, 3, 4)))
    column = verify._compare("float32", "cuda", (None,))
    assert not column.differences and column.digest == column.digest_of_equations
    assert column.compared["forward"] == 3 and column.compared["grad_bias mean"] == 2
    assert commands.launches["contract"] > 20


def test_verify_finds_a_difference(commands, monkeypatch):
    monkeypatch.setattr(verify, "SHAPES", ((3, 5, 7),))
    commands.change = unfused
    column = verify._compare("float32", "cuda", (None,))
    assert any("cuda: " in difference for difference in column.differences)


def test_bench_needs_a_peer(commands, monkeypatch):
    monkeypatch.setattr(cuda.peers, "installed", lambda package: False)
    with pytest.raises(UserError, match="neither PyTorch for CUDA nor CuPy"):
        cuda.vendors("forward", (2, 3, 4), "float32", cuda.GPU)


def test_bench_times_our_calls(commands):
    given = operands(2, 3, 4, np.float32)
    names = vars(nl) | vars(on(commands, given))
    contestant = cuda._timed("numba_linear", "forward(x, w, b)", names, lambda: None)
    assert contestant.run(1) > 0
    assert commands.launches["contract"] == cuda.CALLS
    assert_bits(
        "forward",
        host(nl.forward(names["x"], names["w"], names["b"])),
        equations.forward(given.x, given.w, given.b),
    )


def test_bench(commands, monkeypatch, capsys):
    from numba import cuda as numba_cuda

    device = SimpleNamespace(name=b"Paper 100", compute_capability=(9, 0))
    monkeypatch.setattr(numba_cuda, "get_current_device", lambda: device)
    monkeypatch.setattr(cuda, "CALLS", 1)

    def contest(operation, shape, dtype, threads):
        arrays = {name: commands.to_device(a) for name, a in vars(operands(*shape, dtype)).items()}
        ours = cuda._timed("numba_linear", peers.OURS[operation], vars(nl) | arrays, lambda: None)
        return [ours, Contestant("cuBLAS", lambda count: 1e3 * count)]

    small = dataclasses.replace(CUDA_GROUPS["small"], shapes=((1, 2, 3),), contest=contest)
    monkeypatch.setitem(CUDA_GROUPS, "small", small)
    bench.run(["small"], dtypes=("float32",), seconds=0.001, device="cuda")
    out = capsys.readouterr().out
    assert re.search(r"GPU +Paper 100, compute capability 9\.0", out)
    assert re.search(r"small, float32, GPU: best peer.*\n.*\n +\(1, 2, 3\)( +\??[\d.]+){3}", out)


def test_tables_of_the_gpu():
    table = Table("small", ((1, 4, 4),), "float32", cuda.GPU)
    assert table.title == "small, float32, GPU"
    assert table.kind.contest is cuda.vendors
    assert table.kind.obstacle(table.threads) is None

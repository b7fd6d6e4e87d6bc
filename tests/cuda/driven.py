"""Runs the calls on the driver of `driver.c` and checks its calls and their order.

It runs in a process that finds that driver.
"""

import ctypes
import gc
import sys
import threading
from types import SimpleNamespace

import numpy as np
from numba import cuda

import numba_linear.cuda as nl
from numba_linear.cpu.rule import LEAF
from numba_linear.cuda import contract, device
from numba_linear.cuda.machine import Cut

driver = ctypes.CDLL("libcuda.so.1")
driver.driver_log.restype = ctypes.c_char_p
capturing = ctypes.c_int.in_dll(driver, "driver_capturing")
parameters = ctypes.c_int.in_dll(driver, "driver_parameters")


def log():
    """The driver's calls since the last time."""
    gc.collect()
    lines = driver.driver_log().decode().splitlines()
    driver.driver_forget()
    return [line.rstrip(":") for line in lines]


def array(*shape, stream=None, batch_last=False):
    """An array of the host, where this driver has its memory."""
    a = np.zeros(shape, np.float32)
    if batch_last:
        a = np.moveaxis(np.zeros((shape[1], shape[0], *shape[2:]), np.float32), 1, 0)
    interface = a.__array_interface__ | {"stream": stream}
    return SimpleNamespace(a=a, __cuda_array_interface__=interface)


x, w, b, g, y = array(32, 64), array(10, 64), array(10), array(32, 10), array(32, 10)


def test_a_kernel_is_loaded_once():
    nl.forward(x, w, b, out=y)
    assert log() == ["load", "launch 1 128 on 1"]
    nl.forward(x, w, b, out=y)
    assert log() == ["launch 1 128 on 1"]


def test_arguments():
    """Three numbers for each of four matrices, five integers, and the divisor's bits."""
    parameters.value = 18
    nl.forward(x, w, b, out=y, stream=7)
    (line,) = log()
    parameters.value = 0
    head, numbers = line.split(":")
    assert head == "launch 1 128 on 7"
    at = {name: a.a.ctypes.data for name, a in {"x": x, "w": w, "b": b, "y": y}.items()}
    matrices = (at["x"], 256, 4, at["w"], 256, 4, at["y"], 40, 4, at["b"], 0, 4)
    assert [int(n, 16) for n in numbers.split()] == [*matrices, 32, 10, 64, 256, 0, 0]


def test_more_shared_memory_is_asked_for():
    """By the largest tile, which needs operands aligned to 16 bytes."""
    wide, high, C = array(2048, 256), array(2048, 256), array(2048, 2048)
    nl.forward(wide, high, out=C)
    allowed = "allow 50176 of 8 on 0"  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    launched = "launch 128 256 on 1 with 50176"
    assert log() == ["load", allowed, launched]
    nl.forward(wide, high, out=C)
    assert log() == [launched]
    interface = wide.__cuda_array_interface__
    interface |= {"data": (wide.a.ctypes.data + 4, False), "shape": (2047, 256)}
    nl.forward(wide, high, out=array(2047, 2048))
    assert log() == ["load", "launch 256 256 on 1"]


def test_results_are_in_the_streams_order():
    for stream, handle in ((0, 1), (7, 7)):
        new = nl.forward(x, w, b, stream=stream)
        assert log() == [f"allocate 1280 on {handle}", f"launch 1 128 on {handle}"]
        interface = new.__cuda_array_interface__
        assert interface["stream"] == handle and interface["shape"] == (32, 10)
        del new, interface
        assert log() == [f"free on {handle}"]


def test_a_stream_lives_as_long_as_its_results():
    """A result is freed in its stream's order, so the stream must still exist."""
    before_its_end = []

    class Stream:
        def __cuda_stream__(self):
            return 0, 9

        def __del__(self):
            before_its_end.extend(driver.driver_log().decode().splitlines())

    new = nl.forward(x, w, b, stream=Stream())
    log()
    assert not before_its_end
    del new
    assert log() == before_its_end == ["free on 9"], before_its_end


def test_many_results_wait_for_nothing():
    for _ in range(50):
        nl.forward(x, w, b)
    assert not any("synchronize" in line or "at once" in line for line in log())


def cut_sum(stream):
    """A sum in two parts, into a given result."""
    nl.grad_bias(array(300, 10), "sum", out=array(10), stream=stream)


def uneven_batch(stream):
    """A batch without one stride between samples, and no `out`."""
    nl.forward(array(2, 3, 64, batch_last=True), w, stream=stream)


def test_a_cut_sum():
    cut_sum(0)
    log()
    cut_sum(0)
    launches = ["launch 2 128 on 1", "launch 1 256 on 1"]
    assert log() == ["allocate 80 on 1", *launches, "free on 1"]


def test_parts_in_order():
    """Three parts, one after another: part, part, merge, part, merge, with at most three Cs."""
    cut = contract.cut
    contract.cut = lambda *sizes: Cut(cut(*sizes).tile, LEAF, 1)
    try:
        for _ in range(2):
            log()
            nl.grad_bias(array(700, 10), "sum", out=array(10))
    finally:
        contract.cut = cut
    part, merge = "launch 1 128 on 1", "launch 1 256 on 1"
    assert log() == ["allocate 120 on 1", part, part, merge, part, merge, "free on 1"]


def test_an_uneven_batch():
    uneven_batch(0)
    log()
    uneven_batch(0)
    allocated = ["allocate 240 on 1", "allocate 1536 on 1"]
    launches = ["launch 6 256 on 1", "launch 1 128 on 1"]
    found = log()
    assert [line for line in found if "allocate" in line] == allocated
    assert [line for line in found if "launch" in line][1:] == launches[1:]
    assert found[-2:] == ["free on 1"] * 2


def test_every_call_can_be_captured():
    """Once its kernels are loaded. Like a real driver, this one refuses calls that wait."""
    calls = [
        lambda s: nl.forward(x, w, b, stream=s),
        lambda s: nl.backward(g, x, w, stream=s),
        lambda s: nl.grad_weight(g, x, "none", stream=s),
        cut_sum,
        uneven_batch,
    ]
    for call in calls:
        call(7)
    log()
    capturing.value = 1
    try:
        for call in calls:
            call(7)
        assert all(line.endswith("on 7") for line in log())
        try:
            cuda.synchronize()
        except Exception as error:
            assert "CAPTURE_UNSUPPORTED" in str(error) or "900" in str(error), error
        else:
            raise AssertionError("a capture that refuses nothing")
    finally:
        capturing.value = 0


def test_a_producers_stream_is_waited_for():
    nl.forward(array(32, 64, stream=5), w, b, out=y, stream=7)
    assert log() == ["event on 5", "7 waits", "launch 1 128 on 7"]
    nl.forward(array(32, 64, stream=7), w, b, out=y, stream=7)
    nl.forward(array(32, 64, stream=1), w, b, out=y)
    assert log() == ["launch 1 128 on 7", "launch 1 128 on 1"]
    new = nl.forward(x, w, b)  # on the default stream, and read on another one
    log()
    nl.grad_input(new, w, out=array(32, 64), stream=7)
    assert log()[:2] == ["event on 1", "7 waits"]


def test_threads():
    """A thread without a device yet, and one whose device only Numba knows."""
    failed = []

    def run(prepare):
        try:
            prepare()
            nl.forward(x, w, b)
        except BaseException as error:
            failed.append(error)

    for prepare in (lambda: None, cuda.current_context):
        thread = threading.Thread(target=run, args=(prepare,))
        thread.start()
        thread.join()
    assert not failed, failed


def test_another_device():
    """All memory belongs to the first device."""
    failed = []

    def run():
        device.cuda.core.Device(1).set_current()
        try:
            nl.forward(x, w, b)
        except ValueError as error:
            failed.append(str(error))

    log()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert failed[0].startswith("forward: x lies on GPU 0; wanted GPU 1"), failed
    assert log() == []


def test_what_a_call_does_is_little():
    """It counts calls of Python functions, which take the host a third of a microsecond each."""
    out = nl.Gradients(array(32, 64), array(10, 64), array(10))
    for call, most in (
        (lambda: nl.forward(x, w, b, out=y), 60),
        (lambda: nl.backward(g, x, w, out=out), 130),
    ):
        call()
        count = 0

        def counted(frame, event, argument):
            nonlocal count
            count += event == "call"

        sys.setprofile(counted)
        call()
        sys.setprofile(None)
        assert count <= most, count


if __name__ == "__main__":
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            print(name, end=" ", flush=True)
            log()
            test()
            print("passed")

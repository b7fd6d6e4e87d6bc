"""Real workers on the loopback: the same bits from any number, in any order, after a kill."""

import os
import random
import signal
import time

import numpy as np
import pytest

pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")

import dask
import dask.array as da
from bits import assert_bits
from lazy import assert_as_in_memory, computed, in_chunks
from operations import assert_result, operands

import numba_linear
from numba_linear.dask import backward, forward, grad_bias, grad_weight

pytestmark = pytest.mark.filterwarnings(
    # Dask's own threads leave these to the collector when a cluster closes.
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)

K, n, m = 3000, 7, 5


def cluster(**options):
    """Two workers, each a process with one thread."""
    options = {"processes": True, "threads_per_worker": 1} | options
    if options["processes"]:
        options["host"] = "127.0.0.1"
    return distributed.LocalCluster(n_workers=2, dashboard_address=":0", **options)


@pytest.fixture(scope="module")
def processes():
    with cluster() as local, distributed.Client(local) as client:
        yield client


@pytest.fixture(scope="module")
def plain():
    return operands(K, n, m, np.float32)


CHUNKS = {
    "nodes": 512,
    "never at a leaf": 300,
    "unequal": (1, 700, 0, 2, 255, 0, 256, 257, 1529),
    "a row": (*(1 for _ in range(30)), 2970),
}


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("name", ["forward", "grad_bias sum", "backward mean", "backward none"])
def test_processes(name, chunks, plain, processes):
    assert_as_in_memory(name, in_chunks(plain, CHUNKS[chunks]), plain)


def test_workers_that_are_threads(plain):
    want = numba_linear.backward(plain.g, plain.x, plain.w)
    with cluster(processes=False, threads_per_worker=2) as local, distributed.Client(local):
        for samples in CHUNKS.values():
            lazy = in_chunks(plain, samples)
            assert_result("backward", computed(backward(lazy.g, lazy.x, lazy.w)), want)


def late(chunk, block_info=None):
    """The chunk, after a delay that depends on it alone."""
    time.sleep(random.Random(block_info[0]["chunk-location"][0]).random() / 50)
    return chunk


def test_chunks_that_come_in_any_order(plain, processes):
    lazy = in_chunks(plain, 70)
    g, x = (a.map_blocks(late, dtype=a.dtype, meta=a._meta) for a in (lazy.g, lazy.x))
    gradients = backward(g, x, lazy.w)
    want = numba_linear.backward(plain.g, plain.x, plain.w)
    assert_result("backward", computed(gradients), want)


def killed(chunk, marker, block_info=None):
    """The chunk; the first request for the middle one kills its worker."""
    if block_info[0]["chunk-location"][0] == block_info[0]["num-chunks"][0] // 2:
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return chunk
        time.sleep(0.3)  # results so far are on this worker and will be lost
        os.kill(os.getpid(), signal.SIGKILL)
    return chunk


def test_a_worker_killed_in_the_middle(plain, processes, tmp_path):
    want = numba_linear.backward(plain.g, plain.x, plain.w)
    for round_ in range(2):
        before = set(processes.run(os.getpid).values())
        marker = tmp_path / f"killed {round_}"
        lazy = in_chunks(plain, 90 + round_)
        g = lazy.g.map_blocks(killed, str(marker), dtype=lazy.g.dtype, meta=lazy.g._meta)
        got = computed(backward(g, lazy.x, lazy.w))
        assert marker.exists()
        processes.wait_for_workers(2)
        assert set(processes.run(os.getpid).values()) != before
        assert_result("backward", got, want)


def threads_of_numba():
    """Whether Numba has started its threads, and how many it would start."""
    from numba.np.ufunc import parallel

    return parallel._is_initialized


def test_a_call_uses_its_worker_s_thread(processes):
    """Large enough that a call in memory takes all threads."""
    x = da.ones((20_000, 64), chunks=5000, dtype=np.float32)
    g = da.ones((20_000, 32), chunks=5000, dtype=np.float32)
    w = np.ones((32, 64), np.float32)
    dask.compute(*backward(g, x, w), forward(x, w), grad_bias(g, "none"))
    assert not any(processes.run(threads_of_numba).values())
    processes.run(numba_linear.forward, np.ones((20_000, 64), np.float32), w)
    assert all(processes.run(threads_of_numba).values())


def test_persisted_operands(plain, processes):
    lazy = in_chunks(plain, 333)
    g, x = processes.persist([lazy.g, lazy.x])
    want = numba_linear.grad_weight(plain.g, plain.x)
    assert_bits("grad_weight", grad_weight(g, x).compute(), want)


def test_any_number_of_workers(plain, processes):
    want = numba_linear.backward(plain.g, plain.x, plain.w)
    for workers in (4, 3, 1):
        processes.cluster.scale(workers)
        processes.wait_for_workers(workers)
        while len(processes.scheduler_info(n_workers=-1)["workers"]) > workers:
            time.sleep(0.05)
        for samples in CHUNKS.values():
            lazy = in_chunks(plain, samples)
            assert_result("backward", computed(backward(lazy.g, lazy.x, lazy.w)), want)


# --------------------------------------------------------------------------------------
# Larger than memory
# --------------------------------------------------------------------------------------

LIMIT = 320 * 2**20


def peak():
    """The most memory that this process has had, in bytes."""
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def made(k, features):
    """Rows of features for samples k, in float32: fractions that look random."""
    factors = np.sqrt(np.arange(2, features + 2, dtype=np.float32))
    return np.modf(k[:, None] * factors)[0] - np.float32(0.5)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux tells the peak")
def test_operands_larger_than_memory():
    """1 GiB is made lazily; a worker of 320 MiB holds its base and at most 8 chunks."""
    K, n, m, samples = 2_100_000, 96, 32, 20_000
    k = da.arange(K, chunks=samples, dtype=np.float32)
    x, g = (
        k.map_blocks(made, f, new_axis=1, chunks=(k.chunks[0], (f,)), dtype=np.float32)
        for f in (n, m)
    )
    assert x.nbytes + g.nbytes > 3 * LIMIT
    with cluster(memory_limit=LIMIT) as local, distributed.Client(local) as client:
        dask.compute(backward(g[:999], x[:999], None)[1:])
        base = max(client.run(peak).values())
        weight, bias = dask.compute(*backward(g, x, None)[1:])
        most = max(client.run(peak).values())
    held = (most - base) / (4 * samples * (n + m))
    assert held <= 8, f"{held:.1f} chunks over a base of {base / 2**20:.0f} MiB"

    def part(start, rows=2**14):
        k = np.arange(start, min(K, start + rows), dtype=np.float32)
        g, x = made(k, m), made(k, n)
        return numba_linear.grad_weight(g, x, "sum"), numba_linear.grad_bias(g, "sum")

    parts = [part(start) for start in range(0, K, 2**14)]
    for got, sums in zip((weight, bias), zip(*parts, strict=True), strict=True):
        assert_bits("larger than memory", got, numba_linear.tree_sum(sums) / np.float32(K))

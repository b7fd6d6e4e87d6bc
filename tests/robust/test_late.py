"""Late code: compiled for the first call from Python that needs it, and for `@njit` callers."""

import pytest
from processes import finish, start

SETUP = """
import sys
import threading

import numpy as np
from numba import njit, types

from numba_linear import accumulate, accumulated, accumulator, backward, equations, forward
from numba_linear import grad_bias, grad_input, grad_weight
from numba_linear.cpu.launch import FREE, TOKEN
from numba_linear.cpu.dotxf import contract_dotxf
from numba_linear.cpu.leaf_pairs import contract_leaf_pairs
from numba_linear.jit.resident import LATE, RESIDENTS

rng = np.random.default_rng(0)


def random(*shape, dtype=np.float64):
    return rng.standard_normal(shape).astype(dtype)


def names(residents=None):
    residents = RESIDENTS.values() if residents is None else residents
    return {each.function.__name__ for each in residents if each.addresses}


def same(got, wanted):
    got, wanted = ((each,) if isinstance(each, np.ndarray) else each for each in (got, wanted))
    for one, other in zip(got, wanted, strict=True):
        assert np.array_equal(one, other)


def all_there(threads):
    for each in LATE:
        needed = each.threads <= threads and each.late(types.float64) is not None
        assert bool(each.addresses) == needed or each.function.__name__ == "go_on_threads"
"""

FIRST_CALLS = """
x, w, b = random(1, 8), random(16, 8), random(16)
same(forward(x, w, b), equations.forward(x, w, b))
assert names() == {"run_forward", "forward_of_samples", "contract_short"}
loaded = names(LATE)


def adds(call, by_equations, arrays, *late, parallel=False, **keywords):
    global loaded
    same(call(*arrays, parallel=parallel, **keywords), by_equations(*arrays))
    assert names(LATE) - loaded == set(late), names(LATE) - loaded
    loaded = names(LATE)


def gradients(g, x, w):
    return equations.grad_input(g, w), equations.grad_weight(g, x), equations.grad_bias(g)


adds(grad_weight, equations.grad_weight, (random(1, 8), random(1, 8)), "contract_outer")
adds(forward, equations.forward, (random(1, 3), random(1, 3)), "contract_in_columns")
adds(forward, equations.forward, (random(2, 20), random(2, 20)), "contract_in_pairs")
adds(grad_input, equations.grad_input, (random(4, 8), random(8, 32)), "contract_in_vectors")
large = random(64, 300), random(70, 300)
adds(forward, equations.forward, large, "contract", "contract_tiles")
adds(forward, equations.forward, (random(1, 1025), random(70, 1025)), "contract_dots")
adds(grad_input, equations.grad_input, (random(1, 300), random(300, 99)), "contract_rows")
apart = np.empty((64, 140))[:, ::2]
adds(forward, equations.forward, large, "contract_strided", out=apart)
uneven = random(2, 33, 300)[:, :32]
y = forward(uneven, large[1], parallel=False).reshape(64, 70)
same(y, equations.forward(uneven.reshape(64, 300), large[1]))
assert names(LATE) - loaded == {"refusal", "per_sample"}
loaded = names(LATE)
few = random(8, 300), random(70, 300)
adds(forward, equations.forward, few, "contract_transposed")
if contract_leaf_pairs.resident.late(types.float32):  # this machine has the path
    wide = random(1, 1024, dtype=np.float32), random(64, 1024, dtype=np.float32)
    same(forward(*wide), equations.forward(*wide))
    assert "contract_leaf_pairs" in names(LATE)
    loaded = names(LATE)
if contract_dotxf.resident.late(types.float64):
    adds(forward, equations.forward, (random(1, 300), random(70, 300)), "contract_dotxf")
    loaded = names(LATE)
adds(grad_input, equations.grad_input, (random(300, 9), random(9, 300)), "contract_strips")
g = random(64, 70)
adds(backward, gradients, (g, *large), "contract_in_row_vectors")
d = backward(g.reshape(2, 32, 70), uneven, large[1], parallel=False)
same(d[1:], gradients(g, uneven.reshape(64, 300), large[1])[1:])
assert names(LATE) - loaded == {"weight_sum", "bias_sum"}
loaded = names(LATE)
adds(forward, equations.forward, large, "contract_on_threads", parallel=True)
assert TOKEN.value == FREE
"""

ON_THREADS = """
# each part wants a path that nothing has used yet
calls = [
    (forward, equations.forward, (random(64, 300), random(70, 300))),
    (forward, equations.forward, (random(2, 300), random(70, 300))),
    (grad_input, equations.grad_input, (random(2, 300), random(300, 99))),
    (grad_weight, equations.grad_weight, (random(9000, 3), random(9000, 3))),
]
for call, by_equations, arrays in calls:
    same(call(*arrays, parallel=True), by_equations(*arrays))
    assert TOKEN.value == FREE
"""

AT_ONCE = """
calls = [
    (forward, equations.forward, (random(1, 8), random(16, 8))),
    (forward, equations.forward, (random(2, 20), random(2, 20))),
    (forward, equations.forward, (random(64, 300), random(70, 300))),
    (grad_input, equations.grad_input, (random(4, 8), random(8, 32))),
]
wanted, got = [by_equations(*arrays) for _, by_equations, arrays in calls], {}
barrier = threading.Barrier(8)


def run(i):
    call, _, arrays = calls[i % 4]
    barrier.wait()
    got[i] = [call(*arrays) for _ in range(3)]


threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(got) == 8
for i, results in got.items():
    for result in results:
        same(result, wanted[i % 4])
"""

ACCUMULATED = """
none_yet = accumulator(np.empty((2, 3)), 1)
same(njit(lambda acc: accumulated(acc, "sum"))(none_yet)[1:], (np.zeros((2, 3)), np.zeros(2)))
# more samples than a leaf, cut within leaves, on one thread and on several
for parallel in (False, True, None):
    g, x = random(1500, 30), random(1500, 40)
    acc = accumulator(np.empty((30, 40)), 1500)
    for begin, end in ((0, 100), (100, 1400), (1400, 1500)):
        accumulate(acc, g[begin:end], x[begin:end], parallel=parallel)
    wanted = equations.grad_weight(g, x, "sum"), equations.grad_bias(g, "sum")
    same(accumulated(acc, "sum")[1:], wanted)
"""

# A leaf's sum by itself pays for threads, since it transposes x; the whole batch seems not to.
A_PART_PAYS = """
g, x = random(1024, 2, dtype=np.float32), random(1000, 1024, dtype=np.float32).T
acc = accumulator(np.empty((2, 1000), np.float32), 1024)
accumulate(acc, g[:411], x[:411])
accumulate(acc, g[411:], x[411:])
same(accumulated(acc, "sum").weight, equations.grad_weight(g, x, "sum"))
"""


@pytest.mark.once
@pytest.mark.parametrize(
    "calls",
    [FIRST_CALLS, ON_THREADS, AT_ONCE, ACCUMULATED, A_PART_PAYS],
    ids=["first calls", "on threads", "at once", "accumulated", "a part pays for threads"],
)
def test_from_python_on_an_empty_cache(calls, tmp_path):
    finish(start("-c", SETUP + calls, NUMBA_CACHE_DIR=str(tmp_path)))


COMPILED = """
threads = sys.argv[1] == "threads"


@njit(cache=True)
def layer(x, w):
    return forward(x, w, parallel=threads)


large = random(64, 300), random(70, 300)
if "typed" in sys.argv:
    layer.compile((types.float64[:, ::1],) * 2)
    all_there(threads)
same(layer(*large), equations.forward(*large))
all_there(threads)
print(sum(layer.stats.cache_hits.values()))
"""


@pytest.mark.parametrize("threads", [pytest.param("alone", marks=pytest.mark.once), "threads"])
def test_inside_njit(threads, tmp_path):
    """All code is there once a call is typed, or its caller is read from a cache."""
    script = tmp_path / "user.py"
    script.write_text(SETUP + COMPILED)
    settings = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert finish(start(script, threads, "typed", **settings)) == ["0\n"]
    assert finish(start(script, threads, "typed", **settings)) == ["1\n"]

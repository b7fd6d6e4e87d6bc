"""Sizes of 0, of 1, and above 2³¹."""

import itertools
import math

import pytest
from operations import DTYPES, OPERATIONS, assert_result, expected, operands
from processes import finish, start
from scale import FULL, full

SIZES = (0, 1, 2, 3, 257) if FULL else (0, 1, 3)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
@pytest.mark.parametrize("name", OPERATIONS)
def test_none_one_and_few(name, dtype):
    operation = OPERATIONS[name]
    batches = [(), *((size,) for size in SIZES), (1, 0), (0, 1), (1, 1, 1), (3, 1, 2)]
    for batch, n, m in itertools.product(batches, SIZES, SIZES):
        if operation.reduction == "mean" and 0 in batch:
            continue
        if math.prod(batch) * n * m > 2**20:
            continue
        given = operands(batch, n, m, dtype)
        for parallel in (None, True):
            got = operation(given, parallel=parallel)
            assert_result(f"{name} {batch, n, m}", got, expected(operation, given))


HUGE = """
import resource
import sys
import numpy as np

from numba_linear import backward, forward, grad_bias, grad_input, grad_weight

many = 2**31 + 11


def all_the_same(value, shape, dtype):
    return np.broadcast_to(np.array(value, dtype), shape)


# Sums of many equal terms, exact in float64: each leaf and each node of the tree is a product.
ones = all_the_same(1.0, (many, 1), np.float64)
for parallel in (False, True):
    assert grad_bias(ones, "sum", parallel=parallel)[0] == many
    assert grad_bias(ones, parallel=parallel)[0] == 1
    assert grad_weight(ones, ones, "sum", parallel=parallel)[0, 0] == many
    assert forward(ones.T, ones.T, parallel=parallel)[0, 0] == many
    assert forward(ones.T[0], ones.T, np.ones(1), parallel=parallel)[0] == many + 1
    assert grad_input(ones.T, ones, parallel=parallel)[0, 0] == many

# Distances of more than 2**31 elements and 2**33 bytes between the rows of a file with holes.
file = np.memmap(sys.argv[1], np.float32, "w+", shape=(3, many))
w = file[:, ::2**28]
w[...] = np.arange(27).reshape(3, 9)
x = np.arange(18, dtype=np.float32).reshape(2, 9)
assert (forward(x, w) == x @ np.arange(27, dtype=np.float32).reshape(3, 9).T).all()
g = np.ones((2, 3), np.float32)
assert (grad_input(g, w) == w.sum(0)).all()
out = np.memmap(sys.argv[1], np.float32, "r+", shape=(3, many))[:, 5 :: 2**28]
assert (grad_weight(g, x, "sum", out=out) == x.sum(0)).all()
assert (w == np.arange(27).reshape(3, 9)).all()

# Numbers a byte apart, zeros but at two places. 3.0 is the bytes 0, 0, 64, 64, and so 2.0 one byte
# before it.
memory = np.zeros(many + 3, np.uint8)
for end in (many + 3, 2**31 + 4):
    memory[end - 4 : end] = np.frombuffer(np.float32(3).tobytes(), np.uint8)
row = np.ndarray((many,), np.float32, memory, 0, (1,))
weights = all_the_same(2.0, (1, many), np.float32)
for parallel in (False, True):
    assert forward(row, weights, parallel=parallel)[0] == 20
    assert grad_bias(row[:, None], "sum", parallel=parallel)[0] == 10
    assert grad_weight(row[:, None], weights.T, "sum", parallel=parallel)[0, 0] == 20
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""


@full
def test_more_than_two_to_the_31(tmp_path):
    (output,) = finish(start("-c", HUGE, tmp_path / "holes"))
    assert int(output) < 4096  # MiB

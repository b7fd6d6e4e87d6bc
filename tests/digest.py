"""Prints one SHA-256 over results of every operation, for comparison between machines.

The operands come from integers alone. With the argument `equations`, the equations' results.
"""

import functools
import hashlib
import sys

from operations import DTYPES, OPERATIONS, expected, operands, parts

from numba_linear import accumulate, accumulated, accumulator, equations
from numba_linear.commands.integers import floats

SHAPES = [(1, 7, 5), (14, 32, 16), (29, 300, 47), (261, 33, 34), (40, 515, 18), (16, 100, 90)]
SHAPES += [(5, 3, 1), (6, 1, 3), (4, 8, 8), (1, 64, 64), (16, 3, 3)]  # few multiply-adds
SHAPES += [(1, 1024, 21), (1, 3072, 9)]  # rows that evict each other


def digest(result, in_batches):
    sha = hashlib.sha256()
    for name, operation in OPERATIONS.items():
        for shape in SHAPES:
            for dtype in DTYPES:
                given = operands(
                    *shape, dtype, lambda shape, dtype, seed: floats(seed, shape, dtype)
                )
                for part, a in parts(result(operation, given)).items():
                    sha.update(f"{name} {shape} {part} {a.shape} {a.dtype.name}".encode())
                    sha.update(a.tobytes())
    for shape in SHAPES:
        for dtype in DTYPES:
            given = operands(*shape, dtype, lambda shape, dtype, seed: floats(seed, shape, dtype))
            for part in in_batches(given):
                sha.update(part.tobytes())
    return sha.hexdigest()


def added_up(given):
    """∂L/∂W and ∂L/∂b, batch after batch."""
    acc = accumulator(given.w, len(given.g))
    for k in range(0, len(given.g), 9):
        accumulate(acc, given.g[k : k + 9], given.x[k : k + 9])
    return accumulated(acc)[1:]


def whole(given):
    return equations.grad_weight(given.g, given.x), equations.grad_bias(given.g)


def of_package():
    return digest(lambda operation, given: operation(given), added_up)


@functools.cache
def of_equations():
    """Cached, since several test files need it."""
    return digest(expected, whole)


if __name__ == "__main__":
    print({"package": of_package, "equations": of_equations}[sys.argv[1]]())

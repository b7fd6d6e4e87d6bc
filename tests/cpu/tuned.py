"""Prints `digest.of_package` computed with another tiling, for `test_tunables`.

Arguments: the tile's rows and float32 columns, leaves in a block, KiB of A's block and of B's.
"""

import sys

import digest

from numba_linear import entry
from numba_linear.cpu import blocks, contract, gemv, machine, parallel, small, turned

rows, columns, leaves, a_kib, b_kib = map(int, sys.argv[1:])


def tiling_for(dtype, threads=False):
    width = columns * 32 // dtype.bitwidth
    return machine.Tiling(dtype, rows, width, leaves, a_kib << 10, b_kib << 10, threads)


machine.tiling_for = tiling_for
contract.SMALL = 0  # all working memory from the heap
contract.FEW_ROWS, contract.MEMORY = 20, 0  # B row by row, some of the digest's shapes
blocks.FEW_TERMS = 1 << 20  # C finished block by block however long its sums
blocks.WRITES = contract.AHEAD = contract.AHEAD_BYTES = 0
contract.TILES_AHEAD = 1  # A asked for ahead wherever there are two tiles of rows
turned.TURNED, turned.LEAST = 1 << 10, 0
gemv.STRETCH = 1  # dots a leaf at a time
gemv.FEW_DOTS = contract.FEW_DOTS = 8  # and of fewer rows
gemv.SUMS = 64 * gemv.STRETCH * gemv.FEW_DOTS
gemv.FAR = 1 << 10  # rows of B that long asked for ahead
# all of one leaf by the small loops where nothing else fits, or nothing
small.FEW_WORK = small.VECTOR_WORK = 1 << 40 if leaves == b_kib else 0
parallel.LONG = 0  # terms cut however many rows and columns C has
# threads for every call that has not few multiply-adds
parallel.SAVED = parallel.LAUNCH = parallel.WORKQUEUE_LAUNCH = entry.LAUNCH = -(1 << 40)
print(digest.of_package())

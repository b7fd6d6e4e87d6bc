"""Prints `digest.of_package` computed with another tiling, for `test_tunables`.

Arguments: the tile's rows and float32 columns, leaves in a block, KiB of A's block and of B's.
"""

import sys

import digest

from numba_linear.cpu import blocks, contract, gemv, machine, parallel, plain, turned

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
gemv.STRETCH, gemv.FEW_DOTS = 1, 60  # dots of many rows, a leaf at a time
gemv.FAR = 1 << 10  # rows of B that long asked for ahead
plain.FEW_WORK = 0  # no plain loops
parallel.LONG = 0  # terms cut however many rows and columns C has
parallel.PARALLEL_WORK = parallel.WORKQUEUE_WORK = 1  # threads for every call
print(digest.of_package())

"""Every number that changes speed and no bits, with its measured gain.

Tests change all of them and get the same bits. Times are for one thread of a Zen 4 with AVX-512
unless they say otherwise; `docs/notebook.md` has the tables. Numbers that depend on the vectors
are tables by their kind.
"""

# --- The microkernel ----------------------------------------------------------------------------

#: The largest tile: rows, and vectors per row, a power of two. A multiply-add has a latency of 4
#: cycles and two start per cycle, so x86 needs at least 8 sums: 12 × 2 of AVX-512's 32 registers
#: hold sums, and 6 × 2 of AVX2's 16. AArch64 starts up to four per cycle, so it needs 16 sums. In
#: its 32 registers 5 × 4 sums leave room for a number per row and a term's vectors; with 6 × 4
#: LLVM spills.
TILE = {"avx512": (12, 2), "avx2": (6, 2), "baseline": (4, 2), "aarch64": (5, 4)}

#: The heights of tiles, by the largest. There are few, since each is compiled twice, for whole
#: and half panels, which takes 0.1 s each. The lowest takes no longer than one row would.
HEIGHTS = {12: (12, 8, 4), 6: (6, 4, 2), 5: (5, 4, 2), 4: (4, 3, 2)}

#: Terms of a packed panel that x86's tile takes at a time, so that more of its instructions
#: multiply; a power of two up to 8. With this, and panels of A line by line, 1024³ forward with
#: AVX2 takes 19.3 ms instead of 19.9, and in float64 40.1 instead of 41.8.
PACKED_TERMS = 4

# --- Blocks -------------------------------------------------------------------------------------

#: Bytes of one column's terms in a block: 16 leaves of float32 take 16 KiB.
BLOCK_LEAVES_BYTES = 16

#: A's block takes 3/8 of L2, and B's panels half of L3, up to B_MOST bytes.
A_SHARE, B_SHARE, B_MOST = (3, 8), (1, 2), 24 << 20

#: The panels of a C larger than this are aligned, so that each cache line is written once. This
#: computes up to a panel more: (50000, 72, 320) forward takes 24 ms instead of 29, and with AVX2
#: 23 instead of 28.
ALIGNED_C = 32 << 10

#: Stride of A's rows, and of its terms, from which A is packed: they evict each other, or miss the
#: TLB. A lower tile also takes less of each cache line: with AVX2 (20000, 400, 400) grad_weight in
#: float32 runs at 95 GFLOP/s instead of 85, (600, 784, 64) takes 565 us instead of 650, and (4096,
#: 768, 3072) forward runs at 1.02 of the best peer's speed instead of 0.95.
APART_ROWS = {"avx512": 4096, "avx2": 2560, "baseline": 4096, "aarch64": 4096}
APART_TERMS = {"avx512": 2048, "avx2": 256, "baseline": 512, "aarch64": 2048}

#: The fewest panels of B for which packing A pays, and the fewest if A's rows evict each other.
PACK_A_PANELS, PACK_A_PANELS_EVICT = 8, 4

#: The most tiles of A's rows for which B is read in place, and the most if B's rows are aligned to
#: cache lines but not to pages, since rows that are pages apart evict each other: (16, 1024, 1024)
#: grad_input takes 308 us instead of 528, and (48, 4096, 4096) 15 ms instead of 24.
#: With AVX2, whose panels are a cache line wide, rows an even number of lines apart leave at least
#: half of L1's sets unused, so there is a third number for them: (3000, 96, 96) grad_weight takes
#: 580 us instead of 740, and (500, 64, 64) takes 39 instead of 46.
DIRECT_TILES, DIRECT_TILES_EVICT, DIRECT_TILES_ALIGNED = 4, 7, 16
DIRECT_EVICT = {"avx512": 4096, "avx2": 128, "baseline": 4096, "aarch64": 4096}

#: The fewest panels and the least row stride of a B read in place for which a taller tile saves a
#: pass over it: (7, 1024, 1024) grad_input runs at 177 GFLOP/s instead of 81.
TALL_PANELS, TALL_BYTES = 8, 2048

#: Terms of A packed at a time if a term's rows are contiguous, so that their lines stay in L1 for
#: all tiles; and fewer if the terms are pages apart and evict each other: packing a matrix of 1024
#: × 1024 float32 takes 0.26 ms instead of 0.60.
PACK_TERMS, PACK_TERMS_EVICT = 32, 8

#: How many terms ahead contiguous columns of B are prefetched while they are packed. With this,
#: and the next row of A, (512, 768, 3072) grad_input takes 23.6 ms instead of 24.7 with AVX2.
PACK_AHEAD = 16

#: How many panels are packed together from contiguous columns, so that the cache lines that two
#: of them share are read once: (256, 512, 512) grad_input in float32 runs at 1.09 of NumPy's speed
#: instead of 1.06, and with AVX2 at 1.00 instead of 0.98.
PACK_PANELS = 4

#: Working memory up to this size comes from the stack: malloc takes 40 ns.
STACK = 16 << 10

# --- Prefetch -----------------------------------------------------------------------------------

#: Prefetch distance for a B that is read in place: at least 16 terms and 16 KiB. With 32 terms (8,
#: 1024, 1024) grad_input takes 374 us in float64 instead of 345. With 16 KiB (1000000, 16, 16)
#: grad_weight takes 8.3 ms instead of 10.6.
PREFETCH_TERMS, PREFETCH_BYTES = 16, 1 << 14

#: Whether x86's tile of a packed A prefetches for each term of a B that is read in place, or for
#: every fourth (AArch64's always does for each): with AVX-512 (24, 4096, 4096) grad_input takes
#: 7.7 ms instead of 10.6, but with AVX2 (48, 784, 400) takes 680 us instead of 615 in float64.
PREFETCH_EACH = {"avx512": 1, "avx2": 0, "baseline": 1, "aarch64": 1}

#: Prefetch distance, in tiles, for many rows of A that are read in place: (200000, 64, 10) forward
#: in float64 takes 7.7 ms instead of 20. If neither A's nor C's row stride is as large as
#: PREFETCH_ROW, the processor does better alone: (1000000, 16, 16) takes 12.7 ms instead of 15.
PREFETCH_TILES = 8
PREFETCH_ROW = {"avx512": 256, "avx2": 128, "baseline": 128, "aarch64": 128}

#: The most cache lines of the next block of terms that a tile prefetches at once, of A and of B:
#: (8192, 64, 10) grad_weight takes 117 us instead of 135 without a bound, and (50000, 100, 100)
#: 11.4 ms instead of 13.4 with no such prefetching.
SWEEP_LINES = 128

# --- One row of C, and a few --------------------------------------------------------------------

#: Use `gemv_dot` for up to 16 rows of A, whose sums wait in L1, if B's terms are contiguous: (13,
#: 1023, 1023) takes 572 us instead of 940 in float64. More rows are slower this way.
DOT_ROWS = 16

#: The largest row stride of B, and the most rows of A, for the short path: (4, 8, 8) forward in
#: `@njit` takes 27 ns instead of 63, and in float32 (4, 8, 4) takes 17 instead of 78 and (8, 3,
#: 16) 29 instead of 70. There may be more rows for FEW_WORK multiply-adds, or for SHORT_WORK if C
#: has fewer columns than a vector: (64, 8, 8) in float32 takes 140 ns instead of 450. Two or three
#: rows are taken one by one, if B has at most SHORT_ALONE numbers.
SHORT_ROW, SHORT_ROWS, SHORT_WORK, SHORT_ALONE = 2 << 10, 8, 22000, 1 << 10

#: Vectors of columns that `dotxf` sums at a time, in float32 and float64, or 0 for never: (1, 784,
#: 256) forward with AVX2 takes 13.8 us instead of 18.8, and in float64 21.9 instead of 28.5. With
#: AVX-512 `gemv_dot` is as fast.
DOTXF_VECTORS = {"avx512": (0, 0), "avx2": (3, 4), "baseline": (0, 0), "aarch64": (0, 0)}

#: The most rows of A for `dotxf`: with AVX2 (2, 784, 256) takes 26 us instead of 36, but three
#: rows take 38.5 instead of 37.6. It is not planned if B's row stride, or twice or three times
#: that, is less than so many bytes from whole pages, since then many rows share a set of L1: (1,
#: 1022, 400) takes 44 us, and would take 79. It prefetches B if B is at least as large
#: as the panels' share of L3 divided by DOTXF_FAR: (1, 2000, 2000) in float64 takes 590 us instead
#: of 960.
DOTXF_ROWS, DOTXF_NEAR, DOTXF_FAR = 2, 16, 2

#: The fewest columns of B per side in `gemv_dot`; a power of two, up to 64 bytes. Two chains of
#: AVX2's 4 float64 lanes do not hide their latency: with 8 columns (1, 1024, 1024) forward takes
#: 182 us there instead of 235.
DOT_COLUMNS = 8

#: Leaves that `gemv_dot` sums before it adds them to the tree.
DOT_LEAVES = 8

#: Row stride of B from which `gemv_dot` staggers its two column groups, so that they do not
#: compete for one cache set, and by how many bytes: (1, 1024, 1024) in float64 takes 124 us
#: instead of 324.
STAGGER_FROM, STAGGER = 2048, 512

#: Row stride of B from which `gemv_dot` prefetches runs of cache lines: (1, 4096, 4096) takes 2.5
#: ms instead of 3.8. At its multiples one column group takes 2.8 ms, two take 3.2.
LONG_ROW = 8 << 10

#: Row strides of B, in float32 and float64, at whose multiples a single row is computed in pairs
#: of leaves, or 0 for never: (1, 1024, 1024) forward in float32 takes 85 us instead of 161, and
#: with AVX2 instead of 123. In float64 (1, 2048, 2048) takes 880 us instead of 1020, but (1, 512,
#: 512) takes 37 instead of 34; with AVX2 it takes 38 instead of 42.
PAIRED_ROW = {
    "avx512": (4096, 16 << 10),
    "avx2": (2048, 2048),
    "baseline": (0, 0),
    "aarch64": (0, 0),
}

#: Use `gemv_rows` for up to 2 rows of A if B's columns are contiguous: (2, 4096, 4096) grad_input
#: takes 5.5 ms instead of 10.7 in float64. Use it for up to 4 if B is 65 MiB or more and so comes
#: from memory: (4, 4096, 11008) takes 21 ms instead of 28, but eight rows take longer.
FEW_ROWS, MORE_ROWS, MORE_ROWS_BYTES = 2, 4, 65 << 20

#: Bytes of C's row that `gemv_rows` keeps in L1. It prefetches a B of at least twice the size that
#: B's panels may have: (1, 4096, 4096) takes 2.4 ms instead of 2.8.
ROWS_STRETCH, ROWS_PREFETCH = 8 << 10, 2

# --- Few terms, and sums that go on -------------------------------------------------------------

#: The most terms, and the most for each row, of a contraction along C's rows: (2, 1024, 1024)
#: grad_weight takes 78 us instead of 174, and with AVX2 (200000, 64, 10) grad_input 3.3 ms instead
#: of 6.4. 32 terms gain from -3 to 10 % with AVX2, and 128 lose 10 %.
STRIP_TERMS = {"avx512": 64, "avx2": 32, "baseline": 32, "aarch64": 32}
STRIP_ROW_TERMS = 4

#: Bytes of B in a strip along C's rows, which stay in L2: at 1024 × 1024, 32 terms take 793 us
#: instead of 947 panel by panel. Up to STRIP_FEW terms strips have 4 rows, which the processor
#: prefetches by itself.
STRIP_BYTES, STRIP_FEW = 64 << 10, 8

#: The most rows of a strip. With AVX-512's tile of 12, 255 terms of 128 × 64 take 39 us instead of
#: 37.5: with 8 there are registers left for the columns of the next term.
STRIP_ROWS = 8

#: The most multiply-adds for which `accumulate` is done at the call, without the engine.
STRIP_WORK = 1 << 16

# --- Few multiply-adds --------------------------------------------------------------------------

#: The most multiply-adds for which the equation's own loops are faster than the engine, and the
#: most if they fill 128 bits; each sum counts as two more.
FEW_WORK, VECTOR_WORK = 1000, 140000

#: The most bytes of B's columns that are transposed on the stack, and the fewest sums, in vectors,
#: for which that pays: (16, 2, 8) forward in float32 takes 67 ns instead of 104.
SMALL_PACKED, PACKED_SUMS = 16384, 8

#: Terms from which a C of up to 7 × 7 is summed two rows at a time: (64, 2, 2) grad_weight takes
#: 71 ns instead of 103.
PAIR_TERMS = 6

#: If B's row stride is a multiple of the first and its rows take more bytes than the second, they
#: overflow the L1 sets that they share, and fewer rows of A than a tile has go to `gemv_rows`: (1,
#: 64, 1024) grad_input in float32 takes 2.9 us instead of 15.
SMALL_EVICT, SMALL_EVICT_BYTES = 2048, 32 << 10

#: The most bytes of B's rows that one or two rows of A read down its columns; a larger B is read
#: row by row: (1, 256, 256) grad_input in float32 takes 2.7 us instead of 4.3, and with AVX2 (1,
#: 128, 128) in float64 takes 1.6 us instead of 3.0.
SMALL_ROWS_BYTES = {
    "avx512": 128 << 10,
    "avx2": 40 << 10,
    "baseline": 128 << 10,
    "aarch64": 128 << 10,
}

# --- By the transpose ---------------------------------------------------------------------------

#: Bytes of Cᵀ at a time, which wait in L2; the longest row of Cᵀ, so that enough of them fit; and
#: the smallest B for which this pays: (32, 256, 256) forward takes 26 us instead of 32.
TRANSPOSED_BLOCK, TRANSPOSED_ROW, TRANSPOSED_B = 256 << 10, 1 << 10, 32 << 10

#: Rows and columns of a block of C if C's rows are not contiguous.
STRIDED_BLOCK = 256

# --- Threads ------------------------------------------------------------------------------------

#: Nanoseconds that threads must save, by the estimate, before AUTO starts them: if a core is busy
#: elsewhere, a launch waits for milliseconds.
SAVED = 30_000

#: Nanoseconds that a launch takes, and one by the layer "workqueue".
LAUNCH, WORKQUEUE_LAUNCH = 4_000, 130_000

#: Bytes per nanosecond that a thread multiplies, of the factors; that it reads from beyond its own
#: caches; and that it transposes, of a B whose terms are contiguous. A byte written counts as
#: WRITES bytes read.
MULTIPLIED, READ, TURNED, WRITES = 200, 70, 50, 2

#: Split-K: the largest C whose terms are cut, since each part has a C of its own; how many times
#: they must outnumber its rows and its columns; and leaves per thread, at least. (1, 4096, 4096)
#: forward is therefore cut by columns, which takes 2.2 ms instead of 3.9.
SPLIT_K_BYTES, SPLIT_K_TERMS, SPLIT_K_LEAVES = 128 << 10, 16, 4
#: Parts of the terms per thread, at most.
SPLIT_K_PARTS = 8

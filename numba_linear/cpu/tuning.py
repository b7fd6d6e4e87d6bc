"""Every number that makes speed and no bits, with what it was measured to bring.

Tests change all of them and see the same bits. Times are of one thread of a Zen 4 with AVX-512
unless they say otherwise; `docs/notebook.md` has the tables. What depends on the vectors is a
table by their kind.
"""

# --- The microkernel ----------------------------------------------------------------------------

#: The largest tile: its rows, and the vectors of each, a power of two. A multiply-add takes 4
#: cycles and two start in each, so 8 sums are the least that keep x86's units busy: 12 × 2 of
#: AVX-512's 32 registers hold sums, and 6 × 2 of AVX2's 16. AArch64's 32 are of 128 bits, and up
#: to four start in each cycle, which takes 16 sums. A number for each row and a term's vectors fit
#: beside 5 × 4; of 6 × 4 LLVM keeps some on the stack.
TILE = {"avx512": (12, 2), "avx2": (6, 2), "baseline": (4, 2), "aarch64": (5, 4)}

#: The heights of tiles, by the largest. Each is compiled twice, for panels and for half as wide
#: ones, which takes 0.1 s each: so they are few. The least takes no longer than one row would.
HEIGHTS = {12: (12, 8, 4), 6: (6, 4, 2), 5: (5, 4, 2), 4: (4, 3, 2)}

# --- Blocks -------------------------------------------------------------------------------------

#: Bytes of one column's terms in a block: 16 leaves of float32 take 16 KiB.
BLOCK_LEAVES_BYTES = 16

#: A's block takes 3/8 of L2, and B's panels half of L3, at most so many bytes.
A_SHARE, B_SHARE, B_MOST = (3, 8), (1, 2), 24 << 20

#: Terms up to which writing C is most of the work. C's rows are then finished block by block while
#: they are in L2: (4, 4096, 11008) grad_weight takes 44 ms instead of 134.
FEW_TERMS = 64

#: Bytes of C from which its panels are aligned, so that each of its cache lines is written once.
#: This computes up to a panel more: (200000, 64, 10) grad_input takes 13 ms instead of 24.
ALIGNED_C = 32 << 10

#: A's rows are packed where they lie this far apart: they evict each other, or miss the TLB. The
#: second number is for terms that lie so.
APART_ROWS, APART_TERMS = 4096, 2048

#: Panels of B from which packing A pays, and where its rows evict each other.
PACK_A_PANELS, PACK_A_PANELS_EVICT = 8, 4

#: Tiles of A's rows up to which B is read in place: where its rows begin in the middle of a cache
#: line, at the start of one, and a multiple of a page apart.
DIRECT_TILES, DIRECT_TILES_ALIGNED, DIRECT_TILES_PAGE = 4, 16, 1

#: Panels of B from which a taller tile saves a pass over a B that is read in place, if its rows
#: lie so many bytes apart: (7, 1024, 1024) grad_input runs at 177 GFLOP/s instead of 81.
TALL_PANELS, TALL_BYTES = 8, 2048

#: Terms of A that are packed at a time where its rows are contiguous, so that their lines stay in
#: L1 while one tile's rows after the other's are taken from them.
PACK_TERMS = 32

#: Working memory up to this many bytes comes from the stack: malloc takes 40 ns.
STACK = 16 << 10

# --- Prefetch -----------------------------------------------------------------------------------

#: Prefetch distance for a B that is read in place: at least so many terms, where 32 take 374 us
#: and 16 take 345 at (8, 1024, 1024) grad_input, float64; and at least so many bytes, which takes
#: 8.3 ms instead of 10.6 at (1000000, 16, 16) grad_weight.
PREFETCH_TERMS, PREFETCH_BYTES = 16, 1 << 14

#: Prefetch distance in tiles of A's rows, where there are many and they are read in place:
#: (1000000, 16, 16) takes 5.7 ms instead of 13.3, (200000, 64, 10) 7.7 instead of 20, float64.
PREFETCH_TILES = 8

# --- One row of C, and a few --------------------------------------------------------------------

#: Rows of A up to which `gemv_dot` takes a B whose terms are contiguous: their sums wait in L1 for
#: B's squares. (13, 1023, 1023) takes 572 us instead of 940, float64; more rows are slower so.
DOT_ROWS = 16

#: Bytes between B's rows up to which few rows of A take them 128 bits at a time: (4, 8, 8) forward
#: in `@njit` takes 27 ns instead of 63. Up to so many rows of A, or more of few multiply-adds; two
#: or three, which are taken one by one, if B has at most so many numbers.
SHORT_ROW, SHORT_ROWS, SHORT_ALONE = 2 << 10, 8, 1 << 10

#: Columns of B that `gemv_dot` takes at once on each side, at least; a power of two, up to 64
#: bytes. Two chains of AVX2's 4 lanes of float64 do not hide their latency: (1, 1024, 1024)
#: forward takes 182 us there instead of 235.
DOT_COLUMNS = 8

#: Leaves in `gemv_dot` until their sums go into the tree.
DOT_LEAVES = 8

#: Bytes between B's rows from which `gemv_dot` staggers its two squares, and by how many bytes, so
#: that they do not compete for one cache set: (1, 1024, 1024) takes 62 us instead of 82.
STAGGER_FROM, STAGGER = 2048, 512

#: Bytes between B's rows from which they are prefetched in runs of cache lines: (1, 4096, 4096)
#: takes 2.5 ms instead of 3.8.
LONG_ROW = 8 << 10

#: Lines of an L1 set, and bytes between rows of B that share one: where a vector has more lanes,
#: pairs of leaves are taken. (1, 1024, 1024) forward in float32 takes 85 us instead of 161, and
#: (1, 2048, 2048) 359 instead of 624.
WAYS, EVICT = 8, 4096

#: Rows of A up to which `gemv_rows` takes a B whose columns are contiguous: (2, 4096, 4096)
#: grad_input takes 7.1 ms instead of 9.5, float64. It takes more rows of a B of so many bytes,
#: which comes from memory: (4, 4096, 11008) takes 29 ms instead of 49.
FEW_ROWS, MORE_ROWS, MORE_ROWS_BYTES = 2, 8, 65 << 20

#: Bytes of C's row that `gemv_rows` keeps in L1, and of B from which it prefetches, in shares of
#: what B's panels may take.
ROWS_STRETCH, ROWS_PREFETCH = 8 << 10, 2

# --- Sums that go on ----------------------------------------------------------------------------

#: Terms up to which a sum goes on along C's rows, and bytes of B's columns at a time, a part of
#: L2: 32 terms take 793 us instead of 947 at 1024 × 1024. Up to so few terms in strips of 4 rows,
#: which the processor prefetches by itself.
STRIP_TERMS, STRIP_BYTES, STRIP_FEW = 64, 64 << 10, 8

#: Multiply-adds up to which `accumulate` inside `@njit` is done at the call, without the engine.
STRIP_WORK = 1 << 16

# --- Few multiply-adds --------------------------------------------------------------------------

#: Multiply-adds up to which the equation's own loops are quicker than the engine, each sum
#: counting as two more; where they fill vectors; and bytes of B's columns that are transposed on
#: the stack.
FEW_WORK, VECTOR_WORK, SMALL_PACKED = 1000, 140000, 16384

#: Bytes between B's rows from which on, in multiples, fewer rows of A than a tile has leave it to
#: `gemv_rows`, where the rows fill more than the sets of L1 that they share: (1, 64, 1024)
#: grad_input in float32 takes 2.9 us instead of 15.
SMALL_EVICT = 2048

# --- By the transpose ---------------------------------------------------------------------------

#: Bytes of Cᵀ at a time, which wait in L2; bytes of its rows up to which enough of them do; and
#: bytes of a B from which on it pays: (32, 256, 256) forward takes 26 us instead of 32.
TRANSPOSED_BLOCK, TRANSPOSED_ROW, TRANSPOSED_B = 256 << 10, 1 << 10, 32 << 10

#: Rows and columns of C at a time where its rows are not contiguous.
STRIDED_BLOCK = 256

# --- Threads ------------------------------------------------------------------------------------

#: Nanoseconds that threads must save, by the estimate, before a call starts them by itself: where
#: a core is busy elsewhere, a launch waits for milliseconds.
SAVED = 30_000

#: Nanoseconds of a launch, and of one of the layer "workqueue".
LAUNCH, WORKQUEUE_LAUNCH = 4_000, 130_000

#: Bytes of factors that a thread multiplies in a nanosecond, and bytes that it reads from beyond
#: its own caches.
MULTIPLIED, READ = 200, 70

#: Split-K: bytes of C up to which its terms may be cut, each part with a C of its own; by how much
#: they must outnumber its rows and columns; and leaves that each thread must have. One row of (1,
#: 4096, 4096) forward is cut by columns so, which takes 2.2 ms instead of 3.9.
SPLIT_K_BYTES, SPLIT_K_TERMS, SPLIT_K_LEAVES = 128 << 10, 16, 4
#: Parts of the terms for each thread, at most.
SPLIT_K_PARTS = 8

"""What compiled code returns: FINE, what it lacks, or what is wrong with a call's arguments."""

#: Nothing is wrong; there is no working memory.
FINE, MEMORY = 0, 1

#: Shapes that do not conform; a mean over an empty batch; and from OVERLAP on an out that overlaps
#: another array: 8 · (which out) + (which array).
SHAPES, EMPTY_MEAN, OVERLAP = 3, 4, 16

#: From here on: the code of a late resident is wanted but not there; + its number.
WANTS = 64

#: Of an accumulator: no room for a batch; an impossible count; and a first array (a second: + 1)
#: that is not C-contiguous.
FULL, UNCOUNTED, SCATTERED = 5, 6, 7

#: How a call uses threads. AUTO: threads if they pay; SERIAL: none; PARALLEL: all.
AUTO, SERIAL, PARALLEL = 0, 1, 2

#: Reductions over the batch.
MEAN, SUM, NONE = 0, 1, 2

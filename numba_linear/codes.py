"""What compiled code returns: FINE, what it lacks, or what is wrong with a call's arguments."""

#: Nothing is wrong; there was no memory to work in; code for threads is wanted, and none is there.
FINE, MEMORY, WANTS_THREADS = 0, 1, 2

#: Shapes that do not conform; a mean over an empty batch; and from OVERLAP on an out that overlaps
#: another array: 8 · (which out) + (which array).
SHAPES, EMPTY_MEAN, OVERLAP = 3, 4, 16

#: Of an accumulator: no room for a batch; a count that can not be; and, of the first or the second
#: array, numbers that do not follow each other.
FULL, UNCOUNTED, SCATTERED = 5, 6, 7

#: How a call uses threads. AUTO: threads if they pay; SERIAL: none; PARALLEL: all.
AUTO, SERIAL, PARALLEL = 0, 1, 2

#: Reductions over the batch.
MEAN, SUM, NONE = 0, 1, 2

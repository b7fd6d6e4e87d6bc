"""The five operations at sizes that take milliseconds: not in the quick set."""

from benchmarks import layer
from benchmarks.common import DTYPES, IMPLEMENTATIONS, THREADS

SHAPES = ((1024, 1024, 1024), (512, 768, 3072), (1, 4096, 4096), (100000, 16, 8))
PARAMS = (IMPLEMENTATIONS, SHAPES, DTYPES, THREADS)


class Forward(layer.Forward):
    params = PARAMS


class GradInput(layer.GradInput):
    params = PARAMS


class GradWeight(layer.GradWeight):
    params = PARAMS


class GradBias(layer.GradBias):
    params = PARAMS


class Backward(layer.Backward):
    params = PARAMS

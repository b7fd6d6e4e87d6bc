"""The fused multiply-add of NumPy arrays, with one rounding: the processor's own."""

from numba import vectorize
from numba.extending import intrinsic


@intrinsic
def _fma(typingctx, a, b, c):
    def codegen(context, builder, signature, args):
        return builder.fma(*args)

    return a(a, b, c), codegen


@vectorize(["float32(float32,float32,float32)", "float64(float64,float64,float64)"])
def fma(a, b, c):
    """a · b + c."""
    return _fma(a, b, c)

"""How the engine's functions are compiled: by as few of Numba's passes as they need.

They are statements on integers, floats and fragments, and calls: nothing that Numba would have to
rewrite, prune, lift or inline in its own representation, and no variable changes its type, so that
none needs the static single assignment form. LLVM does the rest, to the same machine code.
"""

from numba.core import compiler
from numba.core.compiler_machinery import PassManager
from numba.core.typed_passes import NativeLowering, NoPythonBackend, NopythonTypeInference
from numba.core.untyped_passes import FixupArgs, IRProcessing, TranslateByteCode
from numba.extending import overload


class Compiler(compiler.Compiler):
    """Numba's compiler with only the passes that the engine's functions need."""

    def define_pipelines(self):
        if self.state.flags.auto_parallel.enabled:
            return super().define_pipelines()
        passes = PassManager("numba_linear")
        passes.add_pass(TranslateByteCode, "analyzing bytecode")
        passes.add_pass(FixupArgs, "fix up args")
        passes.add_pass(IRProcessing, "processing IR")
        passes.add_pass(NopythonTypeInference, "nopython frontend")
        passes.add_pass(NativeLowering, "native lowering")
        passes.add_pass(NoPythonBackend, "nopython mode backend")
        passes.finalize()
        return [passes]


#: For `numba.njit`. Nothing raises, and nothing counts references.
OPTIONS = {
    "nogil": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "error_model": "numpy",
    "pipeline_class": Compiler,
}


def inlined(function):
    """Decorate a function that LLVM copies into its callers.

    Unlike with `njit`, a constant among the arguments is an integer like any other, for which
    nothing is compiled again.
    """
    overload(function, jit_options=OPTIONS, strict=False)(lambda *arguments: function)
    return function

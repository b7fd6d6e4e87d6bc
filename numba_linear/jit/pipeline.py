"""Numba's compiler with the few passes that the engine's functions need.

These functions are statements on integers, floats and fragments, and calls. Numba has nothing to
rewrite, prune, lift or inline in them. No variable changes its type, so none needs SSA form. With
Numba's own pipeline they take five times as long to compile, and give the same bits and speed.
"""

from typing import Any, ClassVar

from llvmlite import binding
from numba import _dynfunc
from numba.core import compiler, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.errors import NumbaWarning, WarningsFixer
from numba.core.typed_passes import NativeLowering, NoPythonBackend, NopythonTypeInference
from numba.core.typeinfer import TypeInferer
from numba.core.untyped_passes import FixupArgs, TranslateByteCode


class Inferer(TypeInferer):
    """Numba's type inference, which resolves a function only once for the same argument types.

    Numba resolves each call, again until no variable's type changes: a tenth of all compiling.
    """

    known: ClassVar[dict[Any, Any]] = {}

    def resolve_call(self, fnty, pos_args, kw_args):
        if kw_args or not isinstance(fnty, types.Function | types.NamedTupleClass):
            return super().resolve_call(fnty, pos_args, kw_args)
        asked = fnty, tuple(pos_args)
        signature = self.known.get(asked)
        if signature is None:  # an interrupted resolution leaves None too, so resolve again
            signature = super().resolve_call(fnty, pos_args, kw_args)
            if signature is not None:
                self.known[asked] = signature
        return signature


@register_pass(mutates_CFG=True, analysis_only=False)
class Bytecode(TranslateByteCode):
    """Numba's pass, which reads a function once and not anew for each type of its arguments."""

    _name = "numba_linear_bytecode"
    known: ClassVar[dict[Any, Any]] = {}

    def run_pass(self, state):
        function = state.func_id.func
        if function not in self.known:
            super().run_pass(state)
            self.known[function] = state.func_ir
        state.func_ir = self.known[function].copy()
        state.func_ir.func_id = state.func_id
        return True


@register_pass(mutates_CFG=False, analysis_only=False)
class Inference(NopythonTypeInference):
    """Numba's pass, with `Inferer`."""

    _name = "numba_linear_inference"

    def run_pass(self, state):
        warnings = WarningsFixer(NumbaWarning)
        infer = Inferer(state.typingctx, state.func_ir, warnings)
        target = state.targetctx.target
        calls = state.typingctx.callstack
        with calls.register(target, infer, state.func_id, state.args), warnings:
            for i, type_ in enumerate(state.args):
                infer.seed_argument(state.func_ir.arg_names[i], i, type_)
            if state.return_type is not None:
                infer.seed_return(state.return_type)
            infer.build_constraint()
            infer.propagate()
            state.typemap, state.return_type, state.calltypes = infer.unify()
        return False


class Library(JITCodeLibrary):
    """Numba's library, but optimised only once, after it is linked with what it calls.

    Numba also optimises before linking, and a second time after it, because of reference counts.
    Kernels have none. They vectorise and unroll explicitly, so LLVM's own passes are off.
    """

    def _optimize_functions(self, ll_module):
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self):
        options = binding.create_pipeline_tuning_options(speed_level=2)
        options.loop_vectorization = options.loop_interleaving = options.loop_unrolling = False
        builder = binding.create_pass_builder(self._codegen._tm, options)
        builder.getModulePassManager().run(self._final_module, builder)


class InlinedLibrary(Library):
    """For a function that is linked into its callers: by itself it is neither optimised nor made
    machine code."""

    def finalize(self):
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class InlinedLowering(NativeLowering):
    """Numba's pass, which hands a function to its callers but makes no machine code."""

    _name = "numba_linear_inlined_lowering"

    def run_pass(self, state):
        state.flags.no_compile = True
        super().run_pass(state)
        lowered, library = state.cr, state.library
        handle = _dynfunc.make_function(
            lowered.fndesc.lookup_module(), "inlined", "", 0, lowered.env, (library,)
        )
        state.targetctx.insert_user_function(handle, lowered.fndesc, [library])
        state.cr = lowered._replace(cfunc=handle)
        return True


class Compiler(compiler.Compiler):
    """Numba's compiler, with only the passes that the engine's functions need."""

    library: ClassVar[type[Library]] = Library
    lowering: ClassVar[type[NativeLowering]] = NativeLowering

    def define_pipelines(self):
        if self.state.flags.auto_parallel.enabled:
            return super().define_pipelines()
        codegen, name = self.state.targetctx.codegen(), self.state.func_id.func_qualname
        self.state.library = self.library(codegen, name)
        self.state.library.enable_object_caching()
        passes = PassManager("numba_linear")
        for each in (Bytecode, FixupArgs, Inference, self.lowering, NoPythonBackend):
            passes.add_pass(each, each.name())
        passes.finalize()
        return [passes]


class InlinedCompiler(Compiler):
    """For a function that LLVM copies into its callers."""

    library, lowering = InlinedLibrary, InlinedLowering

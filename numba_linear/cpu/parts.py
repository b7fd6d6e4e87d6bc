"""A contraction in parts on several threads.

The `prange` is compiled once for all dtypes: its body only calls code by its address.
"""

from typing import NamedTuple

from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic, models, register_model

from numba_linear.cpu.contract import contract_alone
from numba_linear.cpu.environment import restore, set_default
from numba_linear.cpu.fragment import columns_of, item_bytes, rows_of
from numba_linear.cpu.launch import start_layer
from numba_linear.cpu.matrix import Matrix, from_number
from numba_linear.cpu.plan import Parts
from numba_linear.cpu.problem import Epilogue, Problem
from numba_linear.jit.compiler import inlined
from numba_linear.jit.resident import CompileTime, address_of, call_address, kind, resident
from numba_linear.jit.words import slot_with


class Job(NamedTuple):
    """What all parts of a contraction share."""

    problem: Problem
    parts: Parts


@intrinsic
def kept(typingctx, job):
    """The address of a job on the stack, valid until the function returns."""

    def codegen(context, builder, sig, args):
        return builder.ptrtoint(slot_with(builder, args[0]), ir.IntType(64))

    return types.intp(job), codegen


def job_word(job):
    """An operation that loads a job of that kind from an address."""
    result = kind(job, None)

    @intrinsic
    def job_at(typingctx, address):
        def codegen(context, builder, sig, args):
            pointer = builder.inttoptr(args[0], context.get_value_type(result).as_pointer())
            return builder.load(pointer)

        return result(types.intp), codegen

    return job_at


job_at = job_word(Job)


@inlined
def cut(extent, grain, parts, i):
    """Where the i-th of nearly equal parts begins, at a multiple of `grain`."""
    grains = (extent + grain - 1) // grain
    return min(extent, grains * i // parts * grain)


@inlined
def count_of(extent, part):
    return max(1, (extent + part - 1) // part)


@inlined
def part_of(tiling, problem, parts, i):
    """The i-th part of a problem."""
    a, b, c, rows, cols, terms, epilogue = problem
    term_parts = count_of(terms, parts.terms)
    p, i_row = i % term_parts * parts.terms, i // term_parts // parts.cols
    i_col = i // term_parts % parts.cols
    row = cut(rows, rows_of(tiling), parts.rows, i_row)
    end_row = cut(rows, rows_of(tiling), parts.rows, i_row + 1)
    col = cut(cols, columns_of(tiling), parts.cols, i_col)
    end_col = cut(cols, columns_of(tiling), parts.cols, i_col + 1)
    c_part = from_number(c, row, col)
    bias = epilogue.bias + col * item_bytes(tiling) if epilogue.bias else 0
    return Problem(
        from_number(a, row, p),
        from_number(b, col, p),
        Matrix(c_part.at + i % term_parts * parts.bytes, c.row, c.col),
        end_row - row,
        end_col - col,
        min(parts.terms, terms - p),
        Epilogue(bias, epilogue.step, epilogue.divisor),
    )


@resident
def run_part(tiling, job, i) -> int:
    """The i-th part of the job at an address."""
    part = part_of(tiling, job_at(job).problem, job_at(job).parts, i)
    former = set_default()
    failed = contract_alone(tiling, part)
    restore(former)
    return failed


class AnyTiling(CompileTime):
    """Stands in for a tiling in code that is compiled once for all dtypes."""


@register_model(AnyTiling)
class AnyTilingModel(models.OpaqueModel):
    pass


ANY = AnyTiling("AnyTiling")
any_tiling = intrinsic(lambda typingctx: (ANY(), lambda context, *_: context.get_dummy_value()))

part_address = address_of(run_part)
call_part = call_address(run_part)


@resident(parallel=True, ready=start_layer)
def launch(like, part, job, count) -> int:
    """Run a job's parts: FINE, or the greatest code. `part` is the address of the dtype's code."""
    failed = 0
    for i in prange(count):
        failed = max(failed, call_part(part, any_tiling(), job, i))
    return failed


@inlined
def contract_parts(tiling, problem, parts):
    """All parts at once."""
    count = parts.rows * parts.cols * count_of(problem.terms, parts.terms)
    return launch(any_tiling(), part_address(tiling), kept(Job(problem, parts)), count)

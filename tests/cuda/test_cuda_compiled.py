"""Every kernel compiles for all supported GPUs, to PTX and machine code as documented."""

import re

import pytest

pytest.importorskip("numba_cuda", reason="the extra is not installed: pip install -e '.[cuda]'")

from gpu import compiled, intermediate
from machine_code import NVDISASM, assemble, hot_loop

from numba_linear.cuda.elementwise import copying, merging, multiplying
from numba_linear.cuda.machine import (
    EACH_THREADS,
    HALF,
    LARGE,
    MERGE_LEVELS,
    MERGE_SEGMENTS,
    MERGE_SUMS,
    NARROW,
    ROW,
    SMALL,
    TILES,
)
from numba_linear.cuda.tile import contraction

#: Turing to Blackwell.
TARGETS = [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0, "a"), (12, 0, "a")]
#: Registers of a multiprocessor, shared by its resident threads.
REGISTERS = 1 << 16

SIZES = {"float32": 4, "float64": 8}


def kernels():
    """Name, kernel and bounds: registers, and bytes of shared and of local memory."""
    for tile in TILES:
        shape = f"{tile.shape[0]} × {tile.shape[1]}, {tile.levels} levels"
        if tile.spare:
            shape += f", units {tile.units}"
        registers = REGISTERS // (tile.threads * tile.blocks)
        partials = -(-tile.levels * tile.numbers * tile.size // 16) * 16
        yield (
            f"contract {tile.dtype} {shape}",
            contraction(tile),
            (min(registers, 255), 0 if tile.spare else tile.panels * tile.size, partials),
        )
    for dtype, size in SIZES.items():
        registers = REGISTERS // 1024
        sums = MERGE_SEGMENTS * MERGE_SUMS * size
        yield f"merge {dtype}", merging(dtype), (registers, sums, MERGE_LEVELS * size)
        yield f"each {dtype}", multiplying(dtype), (registers, 0, 0)
        # Strides of dimensions, indexed at run time.
        yield f"copy {dtype}", copying(dtype, 3), (registers, 0, 3 * 8 * 3)


#: The largest of each kind.
ON_ALL = {
    *(f"contract {tile}" for kind in (SMALL, NARROW, ROW) for tile in kind.values()),
    *(f"contract {LARGE[dtype, 6]}" for dtype in SIZES),
    f"contract {HALF['float32', 6]}",
    *(f"contract {tile}" for tile in TILES if tile.spare and tile.levels == 6),
    "merge float64",
}
KERNELS = [pytest.param(kernel, bounds, id=name) for name, kernel, bounds in kernels()]


def innermost(text, instruction):
    """The shortest loop of PTX, label to branch, that has all uses of an instruction."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    labels = {line[:-1]: i for i, line in enumerate(lines) if re.match(r"\$\w+:$", line)}
    everywhere = sum(line.startswith(instruction) for line in lines)
    loops = [
        lines[labels[target[1]] : i + 1]
        for i, line in enumerate(lines)
        if (target := re.search(r"\bbra(?:\.uni)? (\$\w+);", line)) and labels[target[1]] < i
    ]
    whole = [x for x in loops if sum(y.startswith(instruction) for y in x) == everywhere]
    return min(whole, key=len)


@pytest.mark.parametrize(("kernel", "bounds"), KERNELS)
def test_registers_and_memory(kernel, bounds):
    """On all targets, from the oldest one's intermediate code."""
    code = intermediate(kernel, TARGETS[0])
    registers, shared, local = bounds
    for capability in TARGETS if kernel.name in ON_ALL else TARGETS[-2:-1]:
        _, report = assemble(code, capability)
        assert report.spilled == 0, capability
        assert report.registers <= registers, capability
        assert report.shared == shared, capability
        assert report.stack <= local, capability


@pytest.mark.parametrize(("kernel", "bounds"), KERNELS)
def test_only_the_arithmetic_of_the_rule(kernel, bounds):
    """No flush to zero, approximation, atomic, tensor core or rounded product."""
    text = compiled(kernel, (9, 0))
    assert ".target sm_90" in text
    instructions = set(re.findall(r"^\s+(?:@!?%\w+\s+)?([a-z]\w*\.[\w.]+)", text, re.MULTILINE))
    parts = {part for instruction in instructions for part in instruction.split(".")}
    assert not parts & {"ftz", "approx", "full", "sat", "atom", "red", "mma", "wmma", "wgmma"}
    floating = {x for x in instructions if x.endswith((".f32", ".f64"))}
    arithmetic = {
        x for x in floating if x.split(".")[0] not in ("ld", "st", "mov", "setp", "selp")
    }
    kinds = {f"{x}.{kind}" for x in ("add", "fma.rn", "div.rn") for kind in ("f32", "f64")}
    assert arithmetic <= kinds | {"cvt.rn.f32.f64"}


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_inner_loop_of_ptx(tile):
    """Each multiply-add of a step is an fma.rn, and nothing else in the loop computes."""
    kind = f"f{8 * tile.size}"
    loop = innermost(compiled(contraction(tile), (9, 0)), f"fma.rn.{kind}")

    def count(*beginnings):
        return sum(line.startswith(beginnings) for line in loop)

    assert count(f"fma.rn.{kind}") == tile.numbers * tile.depth
    assert count("add.f", "mul.f", "mul.rn.f", "sub.f", "div.") == 0
    assert count("ld.local", "st.local") == 0
    loads = tile.rows // tile.row_vector + tile.columns // tile.column_vector
    assert count("ld.shared") == loads * tile.depth
    # A store for each term of a unit.
    assert count("st.shared") == sum(x.units * x.unit[1] for x in (tile.a, tile.b))
    if tile.spare:
        assert count("ld.global.v4.f32") >= tile.a.units + tile.b.units
    assert count("bar.sync") == 1


#: The share of multiply-adds in a step's instructions on sm_90, as in docs/cuda.md.
SHARES = {
    LARGE["float32", 1]: 0.84,
    LARGE["float32", 3]: 0.84,
    LARGE["float32", 6]: 0.84,
    LARGE["float64", 6]: 0.67,
    SMALL["float32"]: 0.71,
    SMALL["float64"]: 0.65,
    HALF["float32", 6]: 0.81,
    NARROW["float32"]: 0.64,
    NARROW["float64"]: 0.54,
    **{tile: 0.92 for tile in TILES if tile.spare and tile.levels == 6},
}


@pytest.mark.skipif(not NVDISASM, reason="pip install nvidia-cuda-nvdisasm")
@pytest.mark.parametrize("tile", SHARES, ids=str)
def test_inner_loop_of_machine_code(tile, tmp_path):
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(assemble(intermediate(contraction(tile), (9, 0)), (9, 0))[0])
    loop = hot_loop(cubin)
    share = loop.multiply_adds / loop.instructions
    print(tile, loop.instructions, f"{share:.3f}", loop.counts)
    assert loop.multiply_adds == tile.numbers * tile.depth
    assert loop.of("LDL", "STL") == 0
    assert share >= SHARES[tile]


def test_one_row_reads_more_than_it_computes():
    """The one-row tile reads each term once from global memory and once from shared memory."""
    tile = ROW["float32"]
    assert tile.b.share == tile.depth and tile.threads == tile.b.width
    assert tile.threads <= EACH_THREADS

"""The tiles for another processor than this machine's: their assembly, and the inner loop's rate
by LLVM's model of that processor. None of it runs.

    assembly.py FOLDER TRIPLE           the tiles' assembly, for what NUMBA_CPU_NAME says
    assembly.py rates FOLDER LLVM-MCA   of what is there, multiply-adds a cycle on each of `CORES`

A file is named for dtype, rows and columns: tile_float32_5x16.s.
"""

import re
import subprocess
import sys
from pathlib import Path

#: Cores by LLVM's names, and the vectors that their models multiply and add per cycle. Apple's
#: have four units; LLVM models all of them on one that had three, and two for float64.
CORES = {"apple-m1": 3, "neoverse-v2": 4, "neoverse-n1": 2}


def write(folder, triple):
    from llvmlite import binding

    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    binding.get_process_triple = lambda: triple

    from numba import types

    from numba_linear.cpu.machine import tiling_for
    from numba_linear.cpu.microkernel import tiles

    for dtype in (types.float32, types.float64):
        for shape in tiling_for(dtype).shapes:
            dispatcher, args = tiles.resident.dispatcher, tiles.resident.typed(shape).args
            dispatcher.compile(args)
            name = f"tile_{dtype}_{shape.rows}x{shape.columns}.s"
            (folder / name).write_text(dispatcher.inspect_asm(args))


def loops(text):
    """The instructions of each innermost loop that multiplies and adds, the longest first."""
    lines, labels, found = text.split("\n"), {}, []
    for i, line in enumerate(lines):
        if label := re.match(r"(\.LBB\w+):", line):
            labels[label[1]] = i
        jump = re.match(r"\s+(?:b\.\w+|cbn?z\s+\w+,|tbn?z\s+\w+,.*,)\s+(\.LBB\w+)", line)
        if jump and jump[1] in labels:
            body = lines[labels[jump[1]] + 1 : i + 1]
            if not any(other.startswith(".LBB") for other in body):
                found.append([x.strip() for x in body if re.match(r"\s+[a-z]", x)])
    return sorted((x for x in found if multiply_adds(x)), key=multiply_adds, reverse=True)


def multiply_adds(loop):
    return sum(x.startswith("fmla") for x in loop)


def rate(loop, core, mca):
    """Multiply-adds per cycle, over 200 rounds of the loop."""
    run = subprocess.run(
        [mca, "-mtriple=aarch64", f"-mcpu={core}", "-iterations=200"],
        input="\n".join(x for x in loop if not re.match(r"(b\.|[ct]bn?z)", x)),
        capture_output=True,
        text=True,
        check=True,
    )
    return 200 * multiply_adds(loop) / int(re.search(r"Total Cycles:\s+(\d+)", run.stdout)[1])


def print_rates(folder, mca):
    print(f"{'':24}", *(f"{core} of {most}" for core, most in CORES.items()), sep="  ")
    for path in sorted(folder.glob("*.s")):
        # contiguous terms of A, and others
        for loop in loops(path.read_text())[:2]:
            rates = (f"{rate(loop, core, mca):{len(core) + 5}.2f}" for core in CORES)
            print(f"{path.stem:20}{multiply_adds(loop):4}", *rates, sep="  ")


if __name__ == "__main__":
    if sys.argv[1] == "rates":
        print_rates(Path(sys.argv[2]), sys.argv[3])
    else:
        write(Path(sys.argv[1]), sys.argv[2])

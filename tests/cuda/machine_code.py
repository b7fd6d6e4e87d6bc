"""nvJitLink and nvdisasm from NVIDIA's wheels: the code that hardware would run."""

import importlib.metadata
import re
import subprocess
from collections import Counter
from typing import NamedTuple

from numba_linear.cuda.compiled import linker as linker_of


def tool(package, name):
    """The path of a program in a wheel, or None if that is not installed."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((str(file.locate()) for file in files if file.name == name), None)


NVDISASM = tool("nvidia-cuda-nvdisasm", "nvdisasm")


class Report(NamedTuple):
    """What nvJitLink reports about a kernel, in bytes."""

    registers: int
    shared: int
    stack: int
    spilled: int


def assemble(intermediate, capability):
    """The machine code that a launch would use, and the report."""
    linker = linker_of(intermediate, capability, ptxas_options=["-v", "--warn-on-spills"])
    code = bytes(linker.link("cubin").code)
    report = linker.get_info_log()

    def number(pattern):
        return sum(int(x) for x in re.findall(rf"(\d+) {pattern}", report))

    registers = int(re.search(r"Used (\d+) registers", report)[1])
    shared = re.search(r"Used .* (\d+) bytes smem", report)
    spilled = number("bytes spill stores") + number("bytes spill loads")
    return code, Report(
        registers, int(shared[1]) if shared else 0, number("bytes stack frame"), spilled
    )


class Loop(NamedTuple):
    """The instructions of one turn of the loop with the multiply-adds, by opcode."""

    counts: Counter

    def of(self, *opcodes):
        return sum(self.counts[opcode] for opcode in opcodes)

    @property
    def multiply_adds(self):
        return self.of("FFMA", "DFMA")

    @property
    def instructions(self):
        return self.counts.total()


def hot_loop(cubin):
    """The loop of a kernel with the most multiply-adds, along its shortest path.

    Whole panels take the shortest path: reading parts of them takes more instructions.
    """
    text = subprocess.run(
        [NVDISASM, "-c", cubin], capture_output=True, text=True, check=True
    ).stdout
    code, labels = [], {}
    for line in text.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = len(code)
        elif found := re.match(r"\s+/\*\w+\*/\s+(@!?U?P\w+ )?\s*([A-Z0-9]+)[\w.]*(.*);", line):
            target = re.search(r"`\((\.L_x_\d+)\)", found[3]) if found[2] == "BRA" else None
            always = not found[1] and not re.search(r"\bU?P\d", found[3].split("`")[0])
            code.append((found[2], target and target[1], bool(always)))
    loops = []
    for end, (opcode, target, _) in enumerate(code):
        if opcode == "BRA" and target and labels[target] <= end:
            body = code[labels[target] : end + 1]
            fused = sum(name in ("FFMA", "DFMA") for name, _, _ in body)
            loops.append((fused, -len(body), labels[target], end))
    most = max(loop[0] for loop in loops)
    _, _, start, end = max(loop for loop in loops if loop[0] == most)
    # The shortest path from each instruction to the end, the last first.
    ways = {end: [code[end][0]]}
    for i in range(end - 1, start - 1, -1):
        opcode, target, always = code[i]
        following = [] if target and always else [i + 1]
        if target and i < labels[target] <= end:
            following.append(labels[target])
        ways[i] = [opcode, *min((ways[j] for j in following if j in ways), key=len, default=[])]
    return Loop(Counter(ways[start]))

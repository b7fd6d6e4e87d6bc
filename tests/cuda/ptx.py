"""An interpreter of PTX: what a compiled kernel computes, without a GPU.

It knows the instructions that NVVM generates for this package's kernels and refuses any other. A
block's threads are lanes of NumPy arrays. Of the threads that may run, those furthest behind take
the next instruction, so branches may diverge. At every instruction it checks:

- each address is inside one array and aligned to the access, and nothing before or after is
  touched;
- shared memory is read only where it was written, and between two barriers no thread reads what
  another writes, and no two write the same number;
- all threads of the block that still run reach a barrier.

The multiply-add is the processor's own, with one rounding.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from exact import fma

TYPES = {
    "pred": np.bool_,
    "b32": np.uint32,
    "b64": np.uint64,
    "f32": np.float32,
    "f64": np.float64,
    "s32": np.int32,
    "s64": np.int64,
    "u32": np.uint32,
    "u64": np.uint64,
}
COMPARE = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "min": np.minimum,
    "max": np.maximum,
}
UNARY = {"neg": np.negative, "not": np.invert, "abs": np.abs}

#: Bytes between two arrays in global memory, which belong to none.
GAP = 4096


class Fault(AssertionError):
    """Something that a GPU would refuse, or not always do in the same way."""


@dataclass(frozen=True)
class Instruction:
    text: str
    guard: str | None
    negated: bool
    name: str
    operands: tuple[str, ...]

    @functools.cached_property
    def opcode(self) -> tuple[str, ...]:
        return tuple(self.name.split("."))


@dataclass
class Kernel:
    """A kernel's PTX, parsed."""

    parameters: dict[str, str] = field(default_factory=dict)
    registers: dict[str, str] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    instructions: list[Instruction] = field(default_factory=list)
    shared: dict[str, int] = field(default_factory=dict)
    shared_bytes: int = 0
    local_bytes: int = 0
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def type_of(self, name: str) -> str:
        """The declared type of a register."""
        return self.registers[re.match(r"%[a-zA-Z]+", name)[0]]


def parse(text: str) -> Kernel:
    """Read the one kernel of a PTX module."""
    text = re.sub(r"//.*", "", text)
    kernel = Kernel()
    head, body = text[: text.index(".entry")], text[text.index(".entry") :]
    signature, body = body.split("{", 1)
    body = body[: body.rindex("}")]
    for kind, name in re.findall(r"\.param \.(\w+) (\w+)", signature):
        kernel.parameters[name] = kind
    for align, name, size in re.findall(r"\.shared \.align (\d+) \.b8 (\w+)\[(\d*)\]", text):
        kernel.shared[name] = -(-kernel.shared_bytes // int(align)) * int(align)
        kernel.shared_bytes = kernel.shared[name] + int(size or 0)
    for _, name, size in re.findall(r"\.local \.align (\d+) \.b8\s+(\w+)\[(\d+)\]", body):
        kernel.shared[name] = 0  # its address in local memory
        kernel.local_bytes = int(size)
    for kind, name, value in re.findall(r"\.global .*?\.(f32|f64) (\w+) = (\w+);", head):
        kernel.constants[name] = np.array([_literal(value, kind)])
    for kind, name, count in re.findall(r"\.reg \.(\w+)\s+(%\w+?)(<\d+>)?;", body):
        kernel.registers[name] = kind
        assert count or name in ("%SP", "%SPL")
    for statement in re.split(r";|(?<=:)", body):
        statement = " ".join(statement.split())
        if statement.endswith(":"):
            kernel.labels[statement[:-1]] = len(kernel.instructions)
        elif statement and not statement.startswith("."):
            kernel.instructions.append(_instruction(statement))
    return kernel


def _instruction(text: str) -> Instruction:
    negated, guard, opcode, rest = re.match(r"(?:@(!?)(%\w+) )?([\w.]+) ?(.*)$", text).groups()
    operands = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+", rest)
    return Instruction(text, guard, bool(negated), opcode, tuple(operands))


@functools.cache
def _literal(text: str, kind: str) -> Any:
    dtype = TYPES[kind]
    if text.startswith("0f"):
        return np.uint32(int(text[2:], 16)).view(np.float32)
    if text.startswith("0d"):
        return np.uint64(int(text[2:], 16)).view(np.float64)
    bits = 8 * np.dtype(dtype).itemsize
    return np.array(int(text, 0) % (1 << bits), f"u{bits // 8}").view(dtype)[()]


@functools.cache
def _place(text: str) -> tuple[str, np.int64]:
    """Base and offset of [base+offset]."""
    base, offset = re.match(r"\[([%\w]+) ?(?:\+ ?(-?\d+))?\]$", text).groups()
    return base, np.int64(int(offset or 0))


class Memory:
    """Global memory: arrays far apart."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.arrays: list[np.ndarray] = []
        self.end = 1 << 20

    def place(self, bytes_: np.ndarray, shift: int = 0) -> int:
        """The address that an array of bytes gets, `shift` off a multiple of 256."""
        assert bytes_.dtype == np.uint8 and bytes_.ndim == 1
        start = -(-(self.end + GAP) // 256) * 256 + shift
        self.starts.append(start)
        self.arrays.append(bytes_)
        self.end = start + len(bytes_)
        return start

    def find(self, addresses: np.ndarray, size: int, what: str) -> list[tuple[np.ndarray, Any]]:
        """The array of each access: (lanes, bytes, offsets) for each array that is accessed."""
        which = np.searchsorted(self.starts, addresses, side="right") - 1
        found = []
        for i in np.unique(which):
            lanes = np.flatnonzero(which == i)
            if i < 0:
                raise Fault(f"{what}: address {addresses[lanes[0]]:#x} is in no array")
            offsets = addresses[lanes] - self.starts[i]
            if offsets.max() + size > len(self.arrays[i]):
                raise Fault(f"{what}: {offsets.max()} is outside of {len(self.arrays[i])} bytes")
            found.append((lanes, self.arrays[i], offsets))
        return found


def run(
    kernel: Kernel,
    grid: int,
    block: int,
    arguments: list[Any],
    memory: Memory,
    shared_bytes: int = 0,
) -> Counter[str]:
    """Run a one-dimensional grid, block after block; returns how often each instruction ran.

    `shared_bytes` is what the launch requests besides the kernel's own.
    """
    kernel = replace(kernel, shared_bytes=kernel.shared_bytes + shared_bytes)
    for name, constant in kernel.constants.items():
        kernel.shared[name] = memory.place(constant.view(np.uint8))
    count: Counter[str] = Counter()
    parameters = {
        name: TYPES[kind](value % (1 << 64) if kind == "u64" else value)
        for (name, kind), value in zip(kernel.parameters.items(), arguments, strict=True)
    }
    with np.errstate(all="ignore"):
        for i in range(grid):
            Block(kernel, grid, block, i, parameters, memory, count).run()
    return count


class Block:
    """One block of threads."""

    def __init__(
        self,
        kernel: Kernel,
        grid: int,
        threads: int,
        number: int,
        parameters: dict[str, Any],
        memory: Memory,
        count: Counter[str],
    ) -> None:
        self.kernel, self.memory, self.parameters = kernel, memory, parameters
        self.threads, self.executed = threads, count
        lanes = np.arange(threads, dtype=np.uint32)
        self.values: dict[str, np.ndarray] = {
            "%tid.x": lanes,
            "%ntid.x": np.full(threads, threads, np.uint32),
            "%ctaid.x": np.full(threads, number, np.uint32),
            "%nctaid.x": np.full(threads, grid, np.uint32),
        }
        self.shared = np.full(kernel.shared_bytes, 0xFF, np.uint8)
        self.local = np.full((threads, kernel.local_bytes), 0xFF, np.uint8)
        # For each four bytes of shared memory: whether they were ever written, and which thread
        # wrote and read them since the last barrier (-1 none, -2 several).
        words = -(-kernel.shared_bytes // 4)
        self.known = np.zeros(words, bool)
        self.writer = np.full(words, -1)
        self.reader = np.full(words, -1)
        self.at = np.zeros(threads, np.int64)
        self.waiting = np.zeros(threads, bool)
        #: The threads that run the present instruction, and the same as an index.
        self.lanes, self.chosen = np.arange(threads), slice(None)

    def run(self) -> None:
        end = len(self.kernel.instructions)
        while True:
            able = (self.at < end) & ~self.waiting
            if not able.any():
                if not self.waiting.any():
                    return
                self._release()
                continue
            here = self.at[able].min()
            self.lanes = np.flatnonzero(able & (self.at == here))
            self.chosen = slice(None) if len(self.lanes) == self.threads else self.lanes
            # Go straight on while no lane can leave the others or join them.
            others = self.at[able & (self.at > here)]
            until = others.min() if len(others) else end
            while here < until:
                instruction = self.kernel.instructions[here]
                self.executed[instruction.name] += 1
                here += 1
                if instruction.opcode[0] in ("bra", "ret", "bar"):
                    self._flow(instruction, here)
                    break
                self.METHODS[instruction.opcode[0]](self, instruction)
            else:
                self.at[self.lanes] = here

    # ---------------------------------------------------------------------------------
    # Flow
    # ---------------------------------------------------------------------------------

    def _flow(self, instruction: Instruction, following: int) -> None:
        self.at[self.lanes] = following
        if instruction.opcode[0] == "bar":
            self.waiting[self.lanes] = True
            return
        target = len(self.kernel.instructions)
        if instruction.opcode[0] == "bra":
            target = self.kernel.labels[instruction.operands[0]]
        lanes = self.lanes
        if instruction.guard:
            lanes = lanes[self._value(instruction.guard, "pred") ^ instruction.negated]
        self.at[lanes] = target

    def _release(self) -> None:
        """All threads wait at a barrier, or have ended."""
        running = self.at < len(self.kernel.instructions)
        if (running & ~self.waiting).any() or len(np.unique(self.at[self.waiting])) > 1:
            raise Fault("threads wait at different barriers")
        if not self.waiting.all():
            raise Fault("threads ended without reaching a barrier that others wait at")
        self.waiting[:] = False
        self.writer[:] = self.reader[:] = -1

    # ---------------------------------------------------------------------------------
    # Registers
    # ---------------------------------------------------------------------------------

    def _register(self, name: str) -> np.ndarray:
        if name not in self.values:
            kind = self.kernel.type_of(name)
            self.values[name] = np.zeros(self.threads, TYPES[kind])
        return self.values[name]

    def _value(self, operand: str, kind: str) -> Any:
        """An operand's value in the running lanes."""
        if operand.startswith("%"):
            value, dtype = self._register(operand)[self.chosen], np.dtype(TYPES[kind])
            if value.dtype.itemsize > dtype.itemsize:  # the instruction takes the lower half
                value = value.astype(f"u{dtype.itemsize}")
            return value if value.dtype == dtype else value.view(dtype)
        if operand in self.kernel.shared:
            return TYPES[kind](self.kernel.shared[operand])
        return _literal(operand, kind)

    def _set(self, operand: str, value: Any) -> None:
        register = self._register(operand)
        value = np.broadcast_to(value, self.lanes.shape)
        if value.dtype != register.dtype:
            assert value.dtype.itemsize == register.dtype.itemsize, operand
            value = value.view(register.dtype)
        register[self.chosen] = value

    # ---------------------------------------------------------------------------------
    # Arithmetic
    # ---------------------------------------------------------------------------------

    def _binary(self, i: Instruction) -> None:
        kind, (to, x, y) = i.opcode[-1], i.operands
        if kind[0] == "f" and len(i.opcode) != 2:
            raise Fault(f"{i.text}: not a plain IEEE operation")
        if kind == "pred":
            x, y = (self._predicate(z) for z in (x, y))
        else:
            x, y = self._value(x, kind), self._value(y, kind)
        self._set(to, BINARY[i.opcode[0]](x, y))

    def _predicate(self, operand: str) -> Any:
        return self._value(operand, "pred") if operand[0] == "%" else np.bool_(int(operand))

    def _unary(self, i: Instruction) -> None:
        kind, (to, x) = i.opcode[-1], i.operands
        self._set(to, UNARY[i.opcode[0]](self._value(x, kind)))

    def _fma(self, i: Instruction) -> None:
        assert i.opcode[:2] == ("fma", "rn") and len(i.opcode) == 3, i.text
        kind, (to, *xyz) = i.opcode[-1], i.operands
        self._set(to, fma(*(self._value(x, kind) for x in xyz)))

    def _multiply(self, i: Instruction) -> None:
        operation, *middle, kind = i.opcode
        to, x, y, *z = i.operands
        if kind[0] == "f":
            assert not middle or middle == ["rn"], i.text
            assert operation == "mul", i.text
            self._set(to, self._value(x, kind) * self._value(y, kind))
            return
        (how,) = middle
        x, y = self._value(x, kind), self._value(y, kind)
        if how == "wide":
            kind = f"{kind[0]}64"
            x, y = (np.asarray(v).astype(TYPES[kind]) for v in (x, y))
        else:
            assert how == "lo", i.text
        product = x * y
        self._set(to, product + self._value(z[0], kind) if z else product)

    def _div(self, i: Instruction) -> None:
        kind, (to, x, y) = i.opcode[-1], i.operands
        x, y = self._value(x, kind), self._value(y, kind)
        if kind[0] == "f":
            assert i.opcode == ("div", "rn", kind), i.text
            self._set(to, x / y)
        else:
            self._set(to, self._truncated(x, y))

    def _rem(self, i: Instruction) -> None:
        kind, (to, x, y) = i.opcode[-1], i.operands
        x, y = self._value(x, kind), self._value(y, kind)
        self._set(to, x - y * self._truncated(x, y))

    def _truncated(self, x: Any, y: Any) -> Any:
        """The quotient of integers, towards zero."""
        if np.any(y == 0):
            raise Fault("a division of integers by zero")
        down = x // y
        return down + ((x % y != 0) & ((x < 0) != (y < 0))).astype(np.asarray(down).dtype)

    def _shift(self, i: Instruction) -> None:
        kind, (to, x, by) = i.opcode[-1], i.operands
        x, by = self._value(x, kind), self._value(by, "u32")
        bits = 8 * x.dtype.itemsize
        by = np.asarray(by).astype(np.int64)
        if np.any(by >= bits):
            raise Fault(f"{i.text}: shifts by {by.max()}")
        by = by.astype(x.dtype)
        self._set(to, x << by if i.opcode[0] == "shl" else x >> by)

    def _mov(self, i: Instruction) -> None:
        kind, (to, x) = i.opcode[-1], i.operands
        self._set(to, self._predicate(x) if kind == "pred" else self._value(x, kind))

    def _cvt(self, i: Instruction) -> None:
        *middle, into, kind = i.opcode[1:]
        to, x = i.operands
        assert middle == (["rn"] if into[0] == "f" else []), i.text
        self._set(to, np.asarray(self._value(x, kind)).astype(TYPES[into]))

    def _setp(self, i: Instruction) -> None:
        comparison, kind, (to, x, y) = i.opcode[1], i.opcode[-1], i.operands
        if comparison.endswith("u") and kind[0] == "f":
            comparison = comparison[:-1]
            x, y = self._value(x, kind), self._value(y, kind)
            self._set(to, COMPARE[comparison](x, y) | np.isnan(x) | np.isnan(y))
        else:
            self._set(to, COMPARE[comparison](self._value(x, kind), self._value(y, kind)))

    def _selp(self, i: Instruction) -> None:
        kind, (to, x, y, p) = i.opcode[-1], i.operands
        x, y = self._value(x, kind), self._value(y, kind)
        self._set(to, np.where(self._value(p, "pred"), x, y))

    # ---------------------------------------------------------------------------------
    # Memory
    # ---------------------------------------------------------------------------------

    def _access(self, i: Instruction, place: str) -> tuple[str, str, int, np.ndarray]:
        """An access's space, type, how many numbers, and address in each lane."""
        space, *vector, kind = i.opcode[1:]
        count = int(vector[0][1:]) if vector else 1
        name, offset = _place(place)
        addresses = np.broadcast_to(self._value(name, "s64"), self.lanes.shape) + offset
        size = count * np.dtype(TYPES[kind]).itemsize
        if np.any(addresses % size):
            raise Fault(f"{i.text}: an address is not a multiple of {size}")
        if space != "global":
            end = self.kernel.shared_bytes if space == "shared" else self.kernel.local_bytes
            if addresses.min() < 0 or addresses.max() + size > end:
                raise Fault(f"{i.text}: outside of {end} bytes of {space} memory")
        return space, kind, count, addresses

    def _views(self, i: Instruction, place: str) -> Any:
        """For each number of an access and each array it touches: its place in the vector, lanes
        (among the running ones), the array in the access's type, and indices."""
        space, kind, count, addresses = self._access(i, place)
        size = np.dtype(TYPES[kind]).itemsize
        everything = np.arange(len(self.lanes))
        if space == "global":
            found = self.memory.find(addresses, count * size, i.text)
        elif space == "shared":
            self._race(i, addresses, count * size)
            found = [(everything, self.shared, addresses)]
        else:
            assert space == "local", i.text
            found = [
                (everything, self.local.reshape(-1), addresses + self.lanes * self.local.shape[1])
            ]
        for lanes, bytes_, offsets in found:
            array = bytes_[: len(bytes_) // size * size].view(TYPES[kind])
            for n in range(count):
                yield n, lanes, array, offsets // size + n

    def _race(self, i: Instruction, addresses: np.ndarray, size: int) -> None:
        words = (addresses // 4)[:, None] + np.arange(size // 4)
        threads = np.broadcast_to(self.lanes[:, None], words.shape)
        writer, reader = self.writer[words], self.reader[words]
        if i.opcode[0] == "ld":
            if not self.known[words].all():
                raise Fault(f"{i.text}: reads shared memory that nobody has written")
            if np.any((writer != -1) & (writer != threads)):
                raise Fault(f"{i.text}: reads what another thread wrote since the last barrier")
            # If several lanes read one word, it does not matter which is recorded last: any other
            # makes them several.
            self.reader[words] = threads
            several = self.reader[words] != threads
            several |= (reader != -1) & (reader != threads)
            self.reader[words[several]] = -2
        else:
            if np.any((writer != -1) & (writer != threads)):
                raise Fault(f"{i.text}: writes what another thread wrote since the last barrier")
            if np.any((reader != -1) & (reader != threads)):
                raise Fault(f"{i.text}: writes what another thread read since the last barrier")
            if len(np.unique(words)) != words.size:
                raise Fault(f"{i.text}: two threads write the same number")
            self.writer[words] = threads
            self.known[words] = True

    def _load(self, i: Instruction) -> None:
        to, place = i.operands
        if i.opcode[1] == "param":
            self._set(to, self.parameters[place.strip("[]")])
            return
        names = re.findall(r"%\w+", to)
        values = {}
        for n, lanes, array, indices in self._views(i, place):
            value = values.setdefault(n, np.empty(len(self.lanes), array.dtype))
            value[lanes] = array[indices]
        for n, value in values.items():
            self._set(names[n], value)

    def _store(self, i: Instruction) -> None:
        place, source = i.operands
        names = source.strip("{} ").split(",")
        for n, lanes, array, indices in self._views(i, place):
            value = self._value(names[n].strip(), i.opcode[-1])
            array[indices] = np.broadcast_to(value, self.lanes.shape)[lanes]

    METHODS: ClassVar = {
        **dict.fromkeys(BINARY, _binary),
        **dict.fromkeys(UNARY, _unary),
        "cvt": _cvt,
        "div": _div,
        "fma": _fma,
        "ld": _load,
        "mad": _multiply,
        "mov": _mov,
        "mul": _multiply,
        "rem": _rem,
        "selp": _selp,
        "setp": _setp,
        "shl": _shift,
        "shr": _shift,
        "st": _store,
    }

"""Random calls, right and wrong: the oracle's bits, or a documented error and nothing written.

    python tests/robust/fuzz.py [calls] [seed]

Shapes, strides (zero, negative, overlapping), dtypes, byte orders, subclasses, alignments and
aliases of every pair of arguments are drawn by the seed, which a failure names.
"""

import collections
import math
import re
import sys
import time
import warnings
from types import SimpleNamespace

import numpy as np
from bits import assert_bits
from operations import OPERATIONS, expected, parts

from numba_linear import Gradients, backward

DTYPES = [np.float32, np.float64]
OTHERS = ["f2", "i8", "?", "c16", ">f4", ">f8", "O", "f4,f4"]
POISON = 0xFF  # as floats, NaN

#: Every error that a call may raise: its type and a pattern of its message.
ERRORS = [
    (
        TypeError,
        r"[\w.]+ is of type .*; wanted"
        r" (a NumPy ndarray of shape \(.*\)(; without one leave b out)?|a Gradients.*)",
    ),
    (TypeError, r"\w+ has dtype .*; wanted float32 or float64(: (cast with|pass) .*)?"),
    (TypeError, r"\w+ has dtype .*, not in this machine's byte order; wanted native .*"),
    (TypeError, r"\w+ has dtype .* and \w+ has dtype .*; wanted one dtype for all: cast with .*"),
    (TypeError, r"out\.input is of type .*; wanted None, as w is None"),
    (TypeError, r"parallel is .*; wanted None, True or False"),
    (ValueError, r"reduction is .*; wanted one of 'mean', 'sum', 'none'"),
    (ValueError, r"reduction 'mean' over an empty batch, .*; wanted at least one sample, .*"),
    (ValueError, r"[\w.]+ has \d+ dimensions?; wanted shape \(.*\)"),
    (
        ValueError,
        r"\w+ has \d+ dimensions? and [\w.]+ has \d+; wanted .* with the same batch \(…\)",
    ),
    (ValueError, r"[\w.]+ has shape .* and [\w.]+ has shape .*; wanted .* with the same .*"),
    (ValueError, r"out[\w.]* has shape .*; wanted \(.*\)"),
    (ValueError, r"out[\w.]* has dtype .*; wanted float\d\d as of \w"),
    (ValueError, r"out[\w.]* is read-only; wanted a writable array"),
    (ValueError, r"out[\w.]* overlaps [\w.]+ in memory; wanted an array of its own"),
]


class Fuzz:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.counts = collections.Counter()

    def chance(self, p):
        return self.rng.random() < p

    def pick(self, choices):
        return choices[self.rng.integers(len(choices))]

    def size(self):
        return int(self.pick([0, 1, 1, 2, 3, 5, 8, 13, 17, 33, 40]))

    def fill(self, a):
        """Numbers whose sums show their order; sometimes zeros, infinities, NaN, subnormals."""
        values = np.ldexp(
            self.rng.standard_normal(a.shape), self.rng.integers(-6, 7, a.shape)
        ).astype(a.dtype)
        if self.chance(0.1) and a.size:
            limits = np.finfo(a.dtype)
            special = [0.0, -0.0, np.inf, -np.inf, np.nan, limits.max, limits.smallest_subnormal]
            values.flat[self.rng.integers(a.size)] = self.pick(special)
        a[...] = values

    def view(self, shape, dtype):
        """A buffer of poison and a view of it with any strides, at any address."""
        dtype = np.dtype(dtype)
        strides, extent = [0] * len(shape), dtype.itemsize + int(self.pick([0, 0, 0, 1, 4, 8]))
        for axis in (
            self.rng.permutation(len(shape)) if self.chance(0.3) else range(len(shape))[::-1]
        ):
            strides[axis] = extent
            extent *= max(1, shape[axis])
            extent += int(self.pick([0, 0, 0, 1, dtype.itemsize, 64]))
        signs = [int(self.pick([1, 1, 1, -1])) for _ in shape]
        buffer = np.full(extent + 320, POISON, np.uint8)
        start = 128 + int(self.pick([0, 0, 0, 1, 3, 4, 8, 16, 33]))
        start += sum(
            (n - 1) * stride
            for n, stride, sign in zip(shape, strides, signs, strict=True)
            if sign < 0 and n
        )
        steps = [stride * sign for stride, sign in zip(strides, signs, strict=True)]
        return buffer, np.ndarray(shape, dtype, buffer.data, start, steps)

    def operand(self, shape, dtype):
        _, a = self.view(shape, dtype)
        self.fill(a)
        if self.chance(0.05) and a.ndim:  # one number, or one row, for all
            axis = self.rng.integers(a.ndim)
            if a.shape[axis]:
                a = np.broadcast_to(np.take(a, [0], axis), a.shape)
        elif self.chance(0.03) and a.ndim == 2 and min(a.shape) > 1:  # rows that overlap
            flat = a.ravel()
            a = np.lib.stride_tricks.sliding_window_view(flat, a.shape[1])[: a.shape[0]]
        if self.chance(0.05):
            a.flags.writeable = False
        if self.chance(0.05):
            kinds = [np.recarray, np.memmap, Subclass] + [np.matrix] * (a.ndim == 2)
            a = a.view(self.pick(kinds))
        return a

    def break_one(self, given, names):
        """One wrong argument."""
        name = self.pick(names)
        a = np.asarray(getattr(given, name))
        kind = self.pick(["dtype", "shape", "ndim", "object", "masked", "0-d"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NaN as an integer
            if kind == "dtype":
                other = self.pick(OTHERS)
                a = np.zeros(a.shape, other) if other == "f4,f4" else np.asarray(a).astype(other)
            elif kind == "shape":
                axis = int(self.rng.integers(a.ndim))
                shape = list(a.shape)
                shape[axis] += 1
                a = np.ones(shape, a.dtype)
            elif kind == "ndim":
                a = a[None] if self.chance(0.5) else a[..., None]
            elif kind == "object":
                a = self.pick([None, 1.0, [1.0], "x", object(), (a,)])
            elif kind == "masked":
                a = np.ma.masked_array(a, np.zeros(a.shape, bool))
            else:
                a = np.array(1.0, a.dtype)
        setattr(given, name, a)

    def call(self):
        name = self.pick(list(OPERATIONS))
        operation = OPERATIONS[name]
        batch = tuple(self.size() for _ in range(int(self.pick([0, 1, 1, 1, 2, 3]))))
        while math.prod(batch) > 64:
            batch = batch[1:]
        n, m = self.size(), self.size()
        if self.chance(0.03):
            longest = int(self.pick([255, 256, 257, 511, 513, 700]))
            n, m, batch = self.pick(
                [(longest, 3, batch[:1]), (3, longest, batch[:1]), (3, 2, (longest,))]
            )
        dtype = self.pick(DTYPES)
        shapes = {"x": (*batch, n), "w": (m, n), "b": (m,), "g": (*batch, m)}
        given = SimpleNamespace(
            **{key: self.operand(shape, dtype) for key, shape in shapes.items()}
        )
        options = {"parallel": self.pick([None, None, True, False])}
        if self.chance(0.1):
            self.break_one(given, operation.operands)
        if self.chance(0.01):
            options["parallel"] = self.pick([[], "no", 2, np.ones(2)])
        if self.chance(0.01) and operation.reduction:
            operation = operation._replace(keywords={})
            options["reduction"] = self.pick(["max", None, 3, np.ones(2)])
            name = name.split()[0] + " mean"

        outs = {}
        if self.chance(0.5):
            lead = batch if operation.reduction == "none" else ()
            result = {
                "forward": {"": (*batch, m)},
                "grad_input": {"": (*batch, n)},
                "grad_weight": {"": (*lead, m, n)},
                "grad_bias": {"": (*lead, m)},
                "backward": {"input": (*batch, n), "weight": (*lead, m, n), "bias": (*lead, m)},
            }[name.split()[0]]
            for part, shape in result.items():
                outs[part] = self.view(shape, dtype)
            if self.chance(0.1):
                part = self.pick(list(outs))
                outs[part] = self.wrong_out(outs[part], given, operation, outs)
            arrays = [view for _, view in outs.values()]
            options["out"] = Gradients(*arrays) if "input" in outs else arrays[0]
        self.check(name, operation, given, options, outs)

    def wrong_out(self, out, given, operation, outs):
        buffer, view = out
        kind = self.pick(["shape", "dtype", "read-only", "input", "out", "part", "list"])
        if kind == "shape":
            view = np.ones((*view.shape, 1), view.dtype)
        elif kind == "dtype":
            view = view.astype(self.pick(["f4", "f8", ">f8", "i8"]))
        elif kind == "read-only":
            view.flags.writeable = False
        elif kind == "input":
            view = getattr(given, self.pick(operation.operands))
        elif kind == "out":
            view = self.pick(list(outs.values()))[1]
        elif kind == "part":  # a part of an input's memory, in the right shape
            a = getattr(given, self.pick(operation.operands))
            if type(a) is np.ndarray and a.size >= view.size > 0 and a.flags.c_contiguous:
                view = a.reshape(-1)[-view.size :].reshape(view.shape)
        else:
            view = [1.0]
        return buffer, view

    def check(self, name, operation, given, options, outs):
        label = f"{name} {[getattr(given, o) for o in operation.operands]} {options}"
        arrays = [vars(given)[key] for key in given.__dict__]
        arrays += [view for _, view in outs.values()]
        before = [bytes_of(a) for a in arrays] + [buffer.copy() for buffer, _ in outs.values()]
        try:
            got = operation(given, **options)
        except (TypeError, ValueError) as error:
            words = str(error)
            prefix, _, rest = words.partition(": ")
            found = [
                i
                for i, (kind, pattern) in enumerate(ERRORS)
                if isinstance(error, kind) and re.fullmatch(pattern, rest)
            ]
            assert prefix == name.split()[0] and found, f"{label}: {error!r}"
            assert len(rest) < 400
            after = [bytes_of(a) for a in arrays] + [buffer for buffer, _ in outs.values()]
            for was, now in zip(before, after, strict=True):
                assert np.array_equal(was, now), f"{label}: wrote, and raised {error!r}"
            self.counts[f"error {found[0]}"] += 1
            return
        plain = SimpleNamespace(
            **{
                key: np.array(a) if isinstance(a, np.ndarray) else a
                for key, a in vars(given).items()
            }
        )
        first_layer = operation.function is backward and given.w is None
        if first_layer:
            plain.w = np.zeros(plain.g.shape[-1:] + plain.x.shape[-1:], plain.g.dtype)
        want = expected(operation, plain)
        for part, wanted in parts(want).items():
            if first_layer and part == "input":
                assert got.input is None
            else:
                assert_bits(f"{label} {part}", parts(got)[part], wanted)
        if "out" in options:
            assert got is options["out"]
        for was, a in zip(before, vars(given).values(), strict=False):
            assert np.array_equal(was, bytes_of(a)), f"{label}: wrote to an input"
        for buffer, view in outs.values():
            view.view(f"u{view.itemsize}")[...] = -1 & (256**view.itemsize - 1)
            assert (buffer == POISON).all(), f"{label}: wrote beside out"
        self.counts["right"] += 1


class Subclass(np.ndarray):
    pass


def bytes_of(a):
    """A copy of an array's bytes, to check later that it is unchanged."""
    if not isinstance(a, np.ndarray) or a.dtype == object:
        return np.zeros(0, np.uint8)
    return np.frombuffer(np.asarray(a).tobytes(), np.uint8)


def run(calls, seed):
    fuzz = Fuzz(seed)
    for i in range(calls):
        try:
            with np.errstate(all="ignore"):
                fuzz.call()
        except Exception as error:
            raise AssertionError(f"call {i} of seed {seed}: {error}") from error
    return fuzz.counts


if __name__ == "__main__":
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    began = time.perf_counter()
    for kind, count in sorted(run(calls, seed).items()):
        words = "the equations' bits" if kind == "right" else ERRORS[int(kind.split()[1])][1]
        print(f"{count:8d}  {words}")
    print(f"{calls} calls, seed {seed}, {time.perf_counter() - began:.0f} s")

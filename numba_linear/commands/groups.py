"""What ``bench`` measures, group by group, and its results, cell by cell."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from numba_linear.commands import counted, cuda, peers, tiny
from numba_linear.commands.peers import ACCUMULATE, FORWARD_BACKWARD, FORWARD_STORED, Shape
from numba_linear.commands.timing import Contestant

#: The contestants for an operation, a shape, a dtype and a number of threads: the package, then
#: its peers.
Contest = Callable[[str, Shape, str, int], list[Contestant]]

LAYER = ("forward", "grad_input", "grad_weight")

SMALL: tuple[Shape, ...] = (
    (1, 4, 4),
    (1, 64, 64),
    (8, 32, 32),
    (32, 64, 64),
    (16, 64, 10),
    (64, 64, 64),
)
MEDIUM: tuple[Shape, ...] = (
    (32, 256, 256),
    (64, 784, 256),
    (128, 784, 256),
    (128, 333, 77),
    (256, 512, 512),
    (512, 768, 3072),
    (37, 1000, 201),
)


@dataclass(frozen=True)
class Group:
    """One table of the bench.

    Attributes
    ----------
    ratio : str
        The meaning of the table's numbers, in words.
    shapes : tuple of (K, n, m)
    operations : tuple of str
    contest : callable
    quick : tuple of (K, n, m)
        The shapes of the quick profile.
    threads : {"any", "one", "many"}
        The numbers of threads for which the group is meaningful.
    needs : str, optional
        The package to compare with.
    """

    ratio: str
    shapes: tuple[Shape, ...]
    operations: tuple[str, ...] = LAYER
    contest: Contest = peers.vendors
    quick: tuple[Shape, ...] = ()
    threads: str = "any"
    needs: str | None = None

    def allows(self, threads: int) -> bool:
        """Whether the group is meaningful for a number of threads."""
        return self.threads == "any" or (self.threads == "one") == (threads == 1)

    def obstacle(self, threads: int) -> str | None:
        """Why the group cannot be measured on a number of threads; None if it can."""
        if not self.allows(threads):
            return f"it is for {'one thread' if self.threads == 'one' else 'several threads'}"
        if self.needs and not peers.installed(self.needs):
            return f"{self.needs} is not installed"
        return None


GROUPS = {
    "large": Group(
        "best peer's time / ours",
        (
            (512, 512, 512),
            (1024, 1024, 1024),
            (2048, 2048, 2048),
            (2048, 1024, 4096),
            (4096, 768, 3072),
        ),
        quick=((512, 512, 512),),
    ),
    "medium": Group(
        "best peer's time / ours",
        MEDIUM,
        operations=(*LAYER, FORWARD_BACKWARD),
        quick=((64, 784, 256), (37, 1000, 201)),
    ),
    "small": Group(
        "best peer's time / ours",
        SMALL,
        operations=(*LAYER, FORWARD_BACKWARD),
        quick=((1, 64, 64), (32, 64, 64), (16, 64, 10)),
    ),
    "tiny": Group(
        "time of the faster of plain loops and np.dot / ours, in @njit",
        (
            (1, 3, 3),
            (1, 4, 16),
            (1, 16, 2),
            (1, 8, 8),
            (1, 32, 4),
            (4, 8, 8),
            (16, 3, 3),
            (1, 24, 32),
            (1, 64, 64),
            (8, 32, 32),
            (32, 64, 64),
        ),
        operations=(*LAYER, "backward"),
        contest=tiny.contest,
        threads="one",
        needs="scipy",
    ),
    "one": Group(
        "best peer's time / ours",
        ((1, 256, 256), (1, 1024, 1024), (1, 4096, 4096), (8, 1024, 1024), (4, 4096, 11008)),
        quick=((1, 1024, 1024),),
    ),
    "tall": Group(
        "best peer's time / ours",
        ((100000, 16, 8), (1000000, 16, 16), (200000, 64, 10), (50000, 100, 100)),
        quick=((100000, 16, 8),),
    ),
    "accumulate": Group(
        "best peer's time / ours",
        (
            (1, 64, 10),
            (32, 64, 10),
            (1, 64, 128),
            (8, 64, 128),
            (32, 64, 128),
            (256, 64, 128),
            (1, 784, 256),
            (8, 784, 256),
            (32, 784, 256),
            (256, 784, 256),
            (1, 1024, 1024),
            (32, 1024, 1024),
        ),
        operations=(ACCUMULATE,),
        contest=peers.accumulating,
        quick=((32, 64, 128),),
    ),
    "autograd": Group(
        "PyTorch's time with autograd / ours",
        SMALL,
        operations=(FORWARD_BACKWARD,),
        contest=peers.autograd,
        quick=((32, 64, 64),),
        needs="torch",
    ),
    "njit": Group(
        "time of np.dot + b / ours, in @njit",
        SMALL + MEDIUM,
        operations=("forward", FORWARD_STORED),
        contest=peers.compiled,
        threads="one",
        needs="scipy",
    ),
    "limit": Group(
        "part of the multiply-add limit",
        ((1024, 1024, 1024), (2048, 2048, 2048)),
        contest=peers.limit,
        threads="one",
    ),
    "speedup": Group(
        "our time on one thread / ours",
        ((1024, 1024, 1024), (2048, 2048, 2048)),
        contest=peers.one_thread,
        threads="many",
    ),
}


CUDA_GROUPS = {
    name: replace(GROUPS[name], operations=LAYER, contest=cuda.vendors)
    for name in ("large", "medium", "small", "one", "tall")
}


class Table(NamedTuple):
    """One group, measured for one dtype and number of threads."""

    group: str
    shapes: tuple[Shape, ...]
    dtype: str
    threads: int

    @property
    def kind(self) -> Group:
        """Its group, on the CPU or on the GPU."""
        return (CUDA_GROUPS if self.threads == cuda.GPU else GROUPS)[self.group]

    @property
    def title(self) -> str:
        """The table's title, which tells it from others."""
        if self.threads == cuda.GPU:
            return f"{self.group}, {self.dtype}, GPU"
        return f"{self.group}, {self.dtype}, {counted(self.threads, 'thread')}"


#: A time is steady if half of its rounds are within this factor of the least.
SPREAD = 1.5

#: If other programs keep more cores busy, a call on all threads waits for the scheduler: for
#: milliseconds, and in every round alike.
BUSY = 0.3


@dataclass(frozen=True)
class Cell:
    """One measured number, with the times of each contestant: the package's first.

    Attributes
    ----------
    busy : float
        The cores that other programs kept busy meanwhile.
    """

    table: Table
    shape: Shape
    operation: str
    times: dict[str, list[float]]
    busy: float = 0.0

    @property
    def ratio(self) -> float:
        """The best peer's least time / ours."""
        ours, *others = map(min, self.times.values())
        return min(others) / ours

    @property
    def best(self) -> str:
        """The name of the best peer."""
        return min(list(self.times)[1:], key=lambda name: min(self.times[name]))

    @property
    def spread(self) -> float:
        """The median round / the least: the larger of those of the ratio's two contestants."""
        two = (next(iter(self.times.values())), self.times[self.best])
        return max(statistics.median(rounds) / min(rounds) for rounds in two)

    @property
    def steady(self) -> bool:
        """Whether the ratio is about the contestants and not about the machine."""
        return self.spread <= SPREAD and (self.table.threads <= 1 or self.busy <= BUSY)

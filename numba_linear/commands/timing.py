"""Several contestants timed in turn, so that disturbances hit all alike."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import NamedTuple


def _nothing() -> None:
    pass


class Contestant(NamedTuple):
    """What is timed.

    Attributes
    ----------
    name : str
    run : callable
        Takes a number of calls, makes them, and returns the seconds they took.
    prepare : callable
        Called before each turn, outside the time.
    """

    name: str
    run: Callable[[int], float]
    prepare: Callable[[], None] = _nothing


#: The shortest single measurement. The clock ticks in tens of nanoseconds.
SHORTEST = 20e-6

#: Length of a turn, if the time allows. The last contestant's helper threads spin for some
#: milliseconds; after that the minimum is a contestant's own.
TURN = 30e-3

MIN_ROUNDS = 5

#: On several threads a turn begins with so many unmeasured seconds. OpenBLAS's helper threads spin
#: for 2²⁶ cycles after a call, and others wait whole time slices for the cores: (256, 512, 512)
#: forward takes 4.7 ms after a NumPy product, and 0.6 ms without one.
SETTLE = 0.12

#: The fewest rounds then.
SETTLED_ROUNDS = 3


def calls_for(run: Callable[[int], float], seconds: float) -> int:
    """How many calls take at least so long.

    They must do so twice. One time may be an interruption's: with the few calls that it would
    leave, the clock and the call from Python take longer than what is timed.
    """
    count = 1
    while run(count) < seconds or run(count) < seconds:
        count *= 2
    return count


def measure(
    contestants: Sequence[Contestant], seconds: float, threads: int = 1
) -> dict[str, list[float]]:
    """Seconds per call of each contestant, one number for each round.

    Parameters
    ----------
    contestants : sequence of Contestant
    seconds : float
        How long to measure, in all. There are at least `MIN_ROUNDS` rounds, however long they
        take, or on several threads `SETTLED_ROUNDS`.
    threads : int
        The contestants' threads. With several, each runs `SETTLE` seconds before its turn.

    Returns
    -------
    dict
        Each contestant's times, by name: the least of each round.
    """
    calls = {}
    for contestant in contestants:
        contestant.prepare()
        contestant.run(1)
        calls[contestant.name] = calls_for(contestant.run, SHORTEST)

    times: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    settle, rounds = (SETTLE, SETTLED_ROUNDS) if threads > 1 else (0.0, MIN_ROUNDS)
    turn = min(TURN, seconds / (rounds * len(contestants)))
    end = perf_counter() + seconds
    order = list(contestants)
    while perf_counter() < end or len(times[order[0].name]) < rounds:
        for contestant in order:
            contestant.prepare()
            count = calls[contestant.name]
            settled = perf_counter() + settle
            while perf_counter() < settled:
                contestant.run(count)
            least = contestant.run(count)
            turn_end = perf_counter() + turn - least
            while perf_counter() < turn_end:
                least = min(least, contestant.run(count))
            times[contestant.name].append(least / count)
        # So that no contestant always follows the same one.
        order.append(order.pop(0))
    return times

"""Speed: work timed in turn, a round of each at a time, and intervals that hold for comparing what took turns.

The speed of a machine drifts: within a minute by more than a few rounds in a row differ among each other. So whatever
is compared takes turns, and what all rows of a round have in common is taken out: a randomised block design, whose
blocks are the rounds.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..api.component import FloatArray
from ..engine.machine import SHORTEST, TOO_MUCH, cores, used
from .statistics import quantile

FEWEST_ROUNDS = 3
"""Rounds of whoever has spent its budget."""
timings: list[tuple[float, float]] = []
"""For each `watched` time of this process: core-seconds available, and core-seconds used by other processes."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Work that takes turns with other work. `run` is warmed up, and returns when the device has finished."""

    run: Callable[[int], object]
    """Does the round of this number."""
    prepare: Callable[[], object] = lambda: None
    """Called before each round, outside the clock."""


def in_turn(
    turns: Sequence[Turn], rounds: int, *, budget: float = math.inf, order: random.Random | None = None,
    report: Callable[[int], object] = lambda number: None,
) -> list[list[float]]:  # fmt: skip
    """The seconds of each round of each turn: all do their first round, then all their second, and so on.

    `order`: draws an order for each round, so that a machine that becomes slower favours nobody. Whoever has spent
    `budget` seconds sits out, but not before its third round. `report` is called with the number of each round.
    """
    seconds: list[list[float]] = [[] for _ in turns]
    places = range(len(turns))
    for number in range(rounds):
        report(number)
        for place in places if order is None else order.sample(places, len(places)):
            turn, spent = turns[place], seconds[place]
            if len(spent) >= FEWEST_ROUNDS and sum(spent) >= budget:
                continue
            turn.prepare()
            start = time.perf_counter()
            turn.run(number)
            spent.append(time.perf_counter() - start)
    return seconds


@contextmanager
def uncollected() -> Iterator[None]:
    """Without Python's garbage collection, which would be counted against the turn that it falls into."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A geometric mean over rounds, and the standard error of its logarithm; None for one round."""

    value: float
    error: float | None
    rounds: int

    @classmethod
    def of(cls, logarithms: FloatArray, own: FloatArray, factor: float = 1.0) -> Mean:
        """The mean of (R,) logarithms; its error from what varies in `own` (R,), times `factor`."""
        rounds = len(logarithms)
        error = factor * float(np.std(own, ddof=1)) / math.sqrt(rounds) if rounds > 1 else None
        return cls(value=math.exp(float(logarithms.mean())), error=error, rounds=rounds)

    @property
    def se(self) -> float | None:
        """The standard error of the value."""
        return None if self.error is None else self.value * self.error

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the value; None for one round."""
        return around(self.value, self.se, self.rounds)


def around(value: float, se: float | None, rounds: float | None) -> tuple[float, float] | None:
    """The 95 % interval of a geometric mean over rounds, Student's on the scale of logarithms; None for one round."""
    if se is None or not rounds or rounds < 2:
        return None
    wide = math.exp(quantile(rounds - 1) * se / value)
    return value / wide, value * wide


def means(rates: FloatArray) -> list[Mean]:
    """(N, R) rates of N rows that took turns in R rounds -> the mean of each, for comparing these rows.

    What all rows of a round have in common is taken out of the errors (Cousineau 2005), which are then those on a
    steady machine: hence the factor, N / (N - 1) in the variance (Morey 2008). A single row has that of its rounds.
    """
    logarithms = np.log(rates)
    if len(logarithms) == 1:
        return [Mean.of(logarithms[0], logarithms[0])]
    own = logarithms - logarithms.mean(axis=0)
    factor = math.sqrt(len(own) / (len(own) - 1))
    return [Mean.of(row, rest, factor) for row, rest in zip(logarithms, own, strict=True)]


def ratio(rates: FloatArray, baseline: FloatArray) -> Mean:
    """How many times as fast (R,) rates are as a baseline, (M, R) rates of rows that are one thing: round by round."""
    quotients = np.log(rates) - np.log(baseline).mean(axis=0)
    return Mean.of(quotients, quotients)


@contextmanager
def watched() -> Iterator[None]:
    """Note, in `timings`, how much other processes use the cores within."""
    before = _clocks()
    yield
    wall, all_processes, own = (now - then for now, then in zip(_clocks(), before, strict=True))
    timings.append((wall * len(cores()), all_processes - own))


def busy() -> str:
    """A warning if other processes used the cores while rounds were timed, else empty."""
    available, taken = (sum(column) for column in zip(*timings, strict=True)) if timings else (0.0, 0.0)
    if available < SHORTEST or taken < TOO_MUCH * available:
        return ""
    return (
        f"this machine was busy: other processes took {taken / available:.0%} of its {len(cores())} cores while "
        "generations were timed, so their tokens/s are not reliable (--rerun all measures everything again)"
    )


def _clocks() -> tuple[float, float, float]:
    """Seconds of wall-clock time, of work by all processes on our cores, and of work by this process."""
    return time.monotonic(), used(), time.process_time()

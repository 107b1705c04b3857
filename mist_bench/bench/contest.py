"""Contest: alternative ways of doing the same work, timed in turn (A B C A B C …), so that disturbances affect all.

Ratios are taken within a round, and their intervals over the rounds, without assumptions about the distribution of
times. This module does not depend on tinygrad or on what is timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ..measure.speed import Turn, in_turn, uncollected
from ..measure.statistics import median_interval

LONG = 10.0
"""Seconds of a call after which further warm-up calls are skipped."""
OURS = "mist-bench"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A contestant, ready to run: one way of doing the work."""

    run: Callable[[], object]
    """Does one round and returns when the device has finished."""
    tokens: int = 0
    """Tokens read or generated in a round; 0 if the work is not measured in tokens."""
    flops: float = 0.0
    """Multiplications and additions of a round's matrix products; 0 if they are not counted."""
    nfe: int | None = None
    """Network evaluations in a round."""
    memory: Callable[[], int | None] = lambda: None
    """Largest number of bytes held on the device so far; None if unknown."""
    note: str = ""
    """Remark below the table."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A contestant before it is created: its names, and the function that creates its `Entry`."""

    task: str
    group: str
    """Title of the table; offers of a group do the same work."""
    who: str
    make: Callable[[], Entry] = field(repr=False, compare=False)
    missing: str = ""
    """Why it cannot be created here; empty if it can."""

    @property
    def ours(self) -> bool:
        return self.who == OURS

    def __str__(self) -> str:
        return f"{self.group}, {self.who}"


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The measurements of one contestant."""

    offer: Offer
    entry: Entry
    first_call_seconds: float
    """Time of creation and first call, including compilation."""
    seconds: tuple[float, ...]
    memory: int | None

    def rates(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Tokens per second in each round, or rounds per second if the work is not measured in tokens."""
        return (self.entry.tokens or 1) / np.array(self.seconds)


def speed_ratio(ours: Timing, other: Timing) -> tuple[float, float, float, int]:
    """(median, low, high, rounds) of how many times as fast `ours` is, over the rounds that both have, paired. Low and
    high are the median's interval, or the range if there are too few rounds for one."""
    pairs = [float(a / b) for a, b in zip(ours.rates(), other.rates(), strict=False)]
    low, high = median_interval(pairs) or (min(pairs), max(pairs))
    return float(np.median(pairs)), low, high, len(pairs)


def prepare(offer: Offer) -> tuple[Entry, float]:
    """Create an entry and warm it up. Returns it with the seconds of its creation and first call."""
    start = time.perf_counter()
    entry = offer.make()
    entry.run()
    first = time.perf_counter() - start
    for _ in range(2):  # a captured CUDA graph is replayed only from the third call on
        start = time.perf_counter()
        entry.run()
        if time.perf_counter() - start > LONG:
            break
    return entry, first


def _round(entry: Entry, number: int) -> None:
    entry.run()


def race(
    offers: Sequence[Offer], rounds: int, budget: float, report: Callable[[str], None], left_out: list[str]
) -> list[Timing]:
    """Time the offers of one group, one round each in turn. A contestant stops once it has used `budget` seconds, but
    not before its third round. Offers that fail are appended to `left_out` with their error."""
    entries: list[tuple[Offer, Entry, float, int | None]] = []
    for offer in offers:
        report(f"{offer}: making")
        try:
            entry, first = prepare(offer)
        except Exception as error:
            left_out.append(f"{offer} ({type(error).__name__}: {' '.join(str(error).split())[:200]})")
            report(f"left out: {left_out[-1]}")
            continue
        entries.append((offer, entry, first, entry.memory()))  # read before the next one allocates
    turns, group = [Turn(run=partial(_round, entry)) for _, entry, _, _ in entries], offers[0].group
    with uncollected():
        seconds = in_turn(turns, rounds, budget=budget, report=lambda n: report(f"{group}: round {n + 1} of {rounds}"))
    return [
        Timing(offer=offer, entry=entry, first_call_seconds=first, seconds=tuple(spent), memory=memory)
        for (offer, entry, first, memory), spent in zip(entries, seconds, strict=True)
    ]

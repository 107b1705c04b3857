"""Ways of doing one piece of work, timed side by side: A B C A B C …, so that what disturbs the machine disturbs all.

A ratio is taken within a round and its interval over the rounds, without any assumption about how times are
distributed. Nothing here knows tinygrad or what is timed.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..measure.statistics import median_interval

FEWEST_ROUNDS = 3
LONG = 10.0
"""Seconds of a call after which one more warm-up would tell nothing new."""
OURS = "mist-bench"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One way of doing the work, made and ready to run."""

    run: Callable[[], object]
    """One round, waited for: it returns when the device is done."""
    tokens: int = 0
    """Tokens that a round reads or makes; 0 where tokens are not the measure."""
    flops: float = 0.0
    """Multiplications and additions of a round's matrix products; 0 if they are not counted."""
    nfe: int | None = None
    """Network evaluations of a round."""
    memory: Callable[[], int | None] = lambda: None
    """The most bytes that it has held on the device, as far as that can be told."""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """An entry that can be made. Offers of one `group` do the same work; `missing` says why this one cannot be made."""

    task: str
    group: str
    who: str
    make: Callable[[], Entry] = field(repr=False, compare=False)
    missing: str = ""

    @property
    def ours(self) -> bool:
        return self.who == OURS

    def __str__(self) -> str:
        return f"{self.group}, {self.who}"


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What was measured of one offer."""

    offer: Offer
    entry: Entry
    first_call_seconds: float
    """The first call: compilation and all else that is done once."""
    seconds: tuple[float, ...]
    memory: int | None

    def rates(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Tokens (or rounds, if it makes no tokens) per second, one for each round."""
        return (self.entry.tokens or 1) / np.array(self.seconds)


def ratio(ours: Timing, other: Timing) -> tuple[float, float, float, int]:
    """How many times as fast ours is: the median over rounds, its interval, or the range of what is too few for one,
    and of how many rounds. Rounds that both have are paired."""
    pairs = [float(a / b) for a, b in zip(ours.rates(), other.rates(), strict=False)]
    low, high = median_interval(pairs) or (min(pairs), max(pairs))
    return float(np.median(pairs)), low, high, len(pairs)


def prepare(offer: Offer) -> tuple[Entry, float]:
    """The entry, called often enough that nothing is done for the first time when the clock starts."""
    start = time.perf_counter()
    entry = offer.make()
    entry.run()
    first = time.perf_counter() - start
    for _ in range(2):  # a captured CUDA graph is replayed from the third call on
        start = time.perf_counter()
        entry.run()
        if time.perf_counter() - start > LONG:
            break
    return entry, first


def race(
    offers: Sequence[Offer], rounds: int, budget: float, report: Callable[[str], None], left_out: list[str]
) -> list[Timing]:
    """Times the offers of one group, a round each in turn. One that has spent `budget` seconds sits out, but never
    before its third round. What cannot be made here is added to `left_out` with what it says."""
    entries: list[tuple[Offer, Entry, float, int | None]] = []
    for offer in offers:
        report(f"{offer}: making")
        try:
            entry, first = prepare(offer)
        except Exception as error:
            left_out.append(f"{offer} ({type(error).__name__}: {' '.join(str(error).split())[:200]})")
            report(f"left out: {left_out[-1]}")
            continue
        entries.append((offer, entry, first, entry.memory()))  # before the next one takes its own
    seconds: list[list[float]] = [[] for _ in entries]
    gc.collect()
    gc.disable()  # a collection inside one entry's round would be charged to it alone
    try:
        for number in range(rounds):
            report(f"{offers[0].group}: round {number + 1} of {rounds}")
            for (_, entry, _, _), spent in zip(entries, seconds, strict=True):
                if len(spent) < FEWEST_ROUNDS or sum(spent) < budget:
                    start = time.perf_counter()
                    entry.run()
                    spent.append(time.perf_counter() - start)
    finally:
        gc.enable()
    return [
        Timing(offer=offer, entry=entry, first_call_seconds=first, seconds=tuple(spent), memory=memory)
        for (offer, entry, first, memory), spent in zip(entries, seconds, strict=True)
    ]

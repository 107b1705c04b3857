"""Speed: warmed, synchronised, compilation apart, the median and the interquartile range of rounds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..engine import device
from ..engine.machine import SHORTEST, TOO_MUCH, cores, used

timings: list[tuple[float, float]] = []
"""Of each call of `timed` in this process: seconds that its cores had, and how many of them others took."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Seconds of each timed round, and what one round made."""

    seconds: tuple[float, ...]
    tokens: int

    def columns(self) -> dict[str, float]:
        rates = self.tokens / np.array(self.seconds)
        low, middle, high = np.percentile(rates, [25, 50, 75])
        return {"tokens_per_second": float(middle), "tokens_per_second_iqr": float(high - low),
                "seconds_per_batch": float(np.median(self.seconds))}  # fmt: skip


def timed(rounds: int, tokens: int, run: Callable[[int], None]) -> Speed:
    """Calls `run(round)` after a synchronisation and times it to the next; `run` must have been warmed."""
    seconds = []
    begun = _clocks()
    for number in range(rounds):
        device.synchronize()
        start = time.perf_counter()
        run(number)
        device.synchronize()
        seconds.append(time.perf_counter() - start)
    wall, anybody, own = (now - then for now, then in zip(_clocks(), begun, strict=True))
    timings.append((wall * len(cores()), anybody - own))
    return Speed(seconds=tuple(seconds), tokens=tokens)


def busy() -> str:
    """What to say if other processes had the cores while rounds were timed."""
    had, others = (sum(column) for column in zip(*timings, strict=True)) if timings else (0.0, 0.0)
    if had < SHORTEST or others < TOO_MUCH * had:
        return ""
    return (
        f"this machine was busy: other processes took {others / had:.0%} of its {len(cores())} cores while "
        "generations were timed, so their tokens/s are not reliable (--rerun all measures everything again)"
    )


def _clocks() -> tuple[float, float, float]:
    """Seconds: of the day, that our cores worked for anybody, and for this process."""
    return time.monotonic(), used(), time.process_time()

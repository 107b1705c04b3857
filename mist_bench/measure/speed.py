"""Speed: timing of warmed-up rounds with the device synchronised, by median and interquartile range."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..engine import device
from ..engine.machine import SHORTEST, TOO_MUCH, cores, used

timings: list[tuple[float, float]] = []
"""For each call of `timed` in this process: core-seconds available, and core-seconds used by other processes."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The timed rounds: seconds of each, and tokens generated in one."""

    seconds: tuple[float, ...]
    tokens: int

    def columns(self) -> dict[str, float]:
        """Columns of the tables: tokens per second and seconds per batch."""
        rates = self.tokens / np.array(self.seconds)
        low, middle, high = np.percentile(rates, [25, 50, 75])
        return {"tokens_per_second": float(middle), "tokens_per_second_iqr": float(high - low),
                "seconds_per_batch": float(np.median(self.seconds))}  # fmt: skip


def timed(rounds: int, tokens: int, run: Callable[[int], None]) -> Speed:
    """Time `rounds` calls of `run(round)`, each from one synchronisation of the device to the next; `run` must be
    warmed up."""
    seconds = []
    clocks_before = _clocks()
    for number in range(rounds):
        device.synchronize()
        start = time.perf_counter()
        run(number)
        device.synchronize()
        seconds.append(time.perf_counter() - start)
    wall, all_processes, own = (now - then for now, then in zip(_clocks(), clocks_before, strict=True))
    timings.append((wall * len(cores()), all_processes - own))
    return Speed(seconds=tuple(seconds), tokens=tokens)


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

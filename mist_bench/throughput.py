"""Speed: warmed, synchronised, compilation apart, the median and the interquartile range of rounds."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import device

TOO_MUCH = 0.1
"""A share of the cores that others take, from which on times are no measure; a quiet system takes a percent or two."""
SHORTEST = 1.0
"""Seconds of cores that it takes to tell: they are counted by ticks, of ten milliseconds."""
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
    wall, used, own = (now - then for now, then in zip(_clocks(), begun, strict=True))
    timings.append((wall * len(_cores()), used - own))
    return Speed(seconds=tuple(seconds), tokens=tokens)


def busy() -> str:
    """What to say if other processes had the cores while rounds were timed."""
    had, others = (sum(column) for column in zip(*timings, strict=True)) if timings else (0.0, 0.0)
    if had < SHORTEST or others < TOO_MUCH * had:
        return ""
    return (
        f"this machine was busy: other processes took {others / had:.0%} of its {len(_cores())} cores while "
        "generations were timed, so their tokens/s are no measure (--rerun all makes everything again)"
    )


def _clocks() -> tuple[float, float, float]:
    """Seconds: of the day, that our cores worked for anybody, and for this process."""
    return time.monotonic(), _used(), time.process_time()


def _cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _used() -> float:
    """By Linux's own count, what a hypervisor took included; 0 where nobody counts. A load average would not do: it
    holds our own threads, and what ended minutes ago."""
    ticks, names = 0, {f"cpu{core}" for core in _cores()}
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
            name, *fields = line.split()
            if name in names:
                user, nice, system, _, _, interrupts, soft, stolen = map(int, fields[:8])
                ticks += user + nice + system + interrupts + soft + stolen
    return ticks / os.sysconf("SC_CLK_TCK") if ticks else 0.0

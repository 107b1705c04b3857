"""Speed: warmed, synchronised, compilation apart, the median and the interquartile range of rounds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import device


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
    for number in range(rounds):
        device.synchronize()
        start = time.perf_counter()
        run(number)
        device.synchronize()
        seconds.append(time.perf_counter() - start)
    return Speed(seconds=tuple(seconds), tokens=tokens)

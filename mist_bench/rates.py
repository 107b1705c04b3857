"""Intervals of rates, for tables and plots: a mean and its error say nothing where all samples agree."""

from __future__ import annotations

import math

from .results import Row

Z = 1.96


def wilson(rate: float, count: float) -> tuple[float, float]:
    """The 95 % interval of a rate seen in `count` independent trials (Wilson 1927): the p whose own error explains it.

    Those p for which the rate lies within 1.96 sqrt(p (1 - p) / count) of p. Never empty, and never beyond 0 or 1.
    """
    z2 = Z * Z / count
    middle, half = rate + z2 / 2, math.sqrt(z2 * (rate * (1 - rate) + z2 / 4))
    low, high = (middle - half) / (1 + z2), (middle + half) / (1 + z2)
    return (low if rate > 0 else 0.0), (high if rate < 1 else 1.0)  # where rounding would leave 1e-18


def valid_interval(row: Row) -> tuple[float, float] | None:
    """The interval of a row's `oracle_valid_rate`, pooled or not; None for the repeater, whose samples are one."""
    rate, count = row.get("oracle_valid_rate"), row.get("pooled_samples") or row.get("samples")
    return None if rate is None or not count or row.get("control") == "repeater" else wilson(rate, count)

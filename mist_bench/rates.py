"""Intervals of rates, for tables and plots: a mean and its error say nothing where all samples agree."""

from __future__ import annotations

from .measure.statistics import wilson
from .results import Row


def valid_interval(row: Row) -> tuple[float, float] | None:
    """The interval of a row's `oracle_valid_rate`, pooled or not; None for the repeater, whose samples are one."""
    rate, count = row.get("oracle_valid_rate"), row.get("pooled_samples") or row.get("samples")
    return None if rate is None or not count or row.get("control") == "repeater" else wilson(rate, count)

"""Rows that differ only in seeds, pooled into one: means and errors over both kinds of seeds, intervals of rates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from ..measure import speed
from ..measure.statistics import combined, standard_error, wilson
from ..run.columns import Row
from .files import in_order

OF_TEST = "sampler_"
"""What begins so is measured on test sequences, the same for every sampling seed."""
ALONE, SHARED = "tokens_per_second", "speed_ratio_to_ar"
"""Columns whose errors over rounds are independent between sampling seeds whatever the texts, and that have the rounds
of the baseline in common however many seeds there are."""


def over_seeds(rows: Iterable[Row], key: Sequence[str], values: Sequence[str]) -> list[dict[str, Any]]:
    """One row per `key`: each of `values` averaged over sampling seeds, then over training seeds.

    `X_se`: sampling seeds are independent, so theirs shrinks by the root of their number, unless all continue the same
    prompts or have their denominator in common; training seeds are measured on the same sequences and noise, so theirs
    is averaged, not shrunk.
    `X_seed_se`: the standard error over training seeds, None for one seed. `seeds`: how many training seeds.
    `pooled_clusters`: the independent units of all sampling seeds, by the same token averaged over training seeds.
    Other columns stay where all rows agree; texts that differ are joined.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in in_order(rows):
        groups.setdefault(tuple(None if row.get(name) == "" else row.get(name) for name in key), []).append(row)
    return [_pooled(group, values) for group in groups.values()]


def _pooled(group: list[dict[str, Any]], values: Sequence[str]) -> dict[str, Any]:
    first = group[0]
    pooled = {name: first[name] for name in first if all(row.get(name) == first[name] for row in group)}
    for name in set(first) - set(pooled):
        if all(isinstance(row.get(name), str) for row in group):
            pooled[name] = " / ".join(dict.fromkeys(row[name] for row in group))
    by_seed: dict[Any, list[dict[str, Any]]] = {}
    for row in group:
        by_seed.setdefault(row.get("training_seed"), []).append(row)
    pooled["seeds"] = len(by_seed)
    shared = any(row.get("prompt") for row in group)
    pooled["pooled_clusters"] = _units(group, 1.0 if shared else len(group) / len(by_seed))
    for name in values:
        means, errors = [], []
        for seed_rows in by_seed.values():
            measured = [row for row in seed_rows if row.get(name) is not None]
            if not measured:
                continue
            means.append(math.fsum(row[name] for row in measured) / len(measured))
            if all(row.get(f"{name}_se") is not None for row in measured):
                squares = math.fsum(row[f"{name}_se"] ** 2 for row in measured) / len(measured)
                together = name == SHARED or name.startswith(OF_TEST) or (shared and name != ALONE)
                errors.append(math.sqrt(squares if together else squares / len(measured)))
        pooled[name] = math.fsum(means) / len(means) if means else None
        pooled[f"{name}_se"] = math.fsum(errors) / len(errors) if means and len(errors) == len(means) else None
        pooled[f"{name}_seed_se"] = standard_error(means)
    return pooled


def _units(group: Sequence[Row], times: float) -> float | None:
    """The units of so many independent rows like these. 1 if each row has one: what does not vary within a sampling
    seed does not between them."""
    units = [row["clusters"] for row in group if row.get("clusters") is not None]
    if len(units) < len(group):
        return None
    return 1 if set(units) == {1} else sum(units) / len(units) * times


def units_of(row: Row) -> float | None:
    """The independent units that a row's errors are over, pooled or not; None if that is not known."""
    return row.get("pooled_clusters") or row.get("clusters")


def whole_error(row: Row, name: str) -> tuple[float | None, float | None]:
    """The standard error of a pooled column over sequences or samples and over training seeds, where there are several;
    and the units that it is worth."""
    own = row.get("sampler_clusters") if name.startswith(OF_TEST) else None
    se, units = row.get(f"{name}_se"), own or units_of(row)
    if row.get(f"{name}_seed_se") is None:
        return se, units
    return combined(se, units, row[f"{name}_seed_se"], row["seeds"])


def valid_interval(row: Row) -> tuple[float, float] | None:
    """The interval of a row's `oracle_valid_rate`, pooled or not; None where all samples are one text."""
    rate, units = row.get("oracle_valid_rate"), units_of(row)
    return None if rate is None or not units or units <= 1 else wilson(rate, units)


def speed_interval(row: Row) -> tuple[float, float] | None:
    """The interval of a row's `tokens_per_second`, pooled or not, for comparing rows; None without several rounds."""
    value = row.get("tokens_per_second")
    return None if value is None else speed.around(value, row.get("tokens_per_second_se"), row.get("timed_rounds"))

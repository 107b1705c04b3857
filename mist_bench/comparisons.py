"""Every pair of models whose likelihoods are of one kind and estimator: the paired difference and what it is worth.

Two questions, two errors. Do these *networks* differ on new text? The error over sequences (or chapters). Would
networks of other *training seeds* differ the same way on this text? The error over seeds. Two schedules are compared
by the second.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from .api.component import FloatArray, IntArray
from .cells import Cell
from .measure import statistics
from .measure.statistics import standard_error
from .paired import Records, difference, values

_SHARED = ("corpus", "tokenizer", "kind", "estimator", "evaluation_schedule")
Group = dict[tuple[Any, Any], dict[int, FloatArray]]
"""(family, schedule) -> training seed -> (N,) nats of each sequence."""


def compare(cells: Sequence[Cell], records: Records, clusters: IntArray, length: int) -> list[dict[str, Any]]:
    """The rows of comparisons.csv: each pair at each training seed that both have, and over all of them if there are
    several. Controls are left out; so is what has no partner."""
    groups: dict[tuple[Any, ...], Group] = {}
    for cell in cells:
        if cell.needs:
            labels = cell.labels
            models = groups.setdefault(tuple(labels.get(name) for name in _SHARED), {})
            seeds = models.setdefault((labels["family"], labels.get("schedule")), {})
            seeds[labels["training_seed"]] = values(records[cell.hash])
    return [
        {**dict(zip(_SHARED, shared, strict=True)), "family_a": a[0], "schedule_a": a[1], "family_b": b[0],
         "schedule_b": b[1], **row}
        for shared, models in groups.items()
        for a, b in combinations(models, 2)
        for row in _rows(models[a], models[b], clusters, length)
    ]  # fmt: skip


def _rows(
    a: dict[int, FloatArray], b: dict[int, FloatArray], clusters: IntArray, length: int
) -> Iterator[dict[str, Any]]:
    seeds = sorted(set(a) & set(b))
    for seed in seeds:
        yield {"training_seed": seed, "training_seeds": 1, **of_networks(a[seed], b[seed], clusters, length)}
    if len(seeds) > 1:
        n = min(len(numbers) for seed in seeds for numbers in (a[seed], b[seed]))
        mean_a, mean_b = (np.mean([model[seed][:n] for seed in seeds], axis=0) for model in (a, b))
        each = [difference(a[seed][:n], b[seed][:n], clusters, length)[0] for seed in seeds]
        yield {
            "training_seed": None, "training_seeds": len(seeds), **of_networks(mean_a, mean_b, clusters, length),
            **of_seeds(each),
        }  # fmt: skip


def of_networks(a: FloatArray, b: FloatArray, clusters: IntArray, length: int) -> dict[str, Any]:
    """(N,), (N,) nats of the same sequences -> `a` minus `b` in nats per token, with its 95 % interval and p-value.

    Student's t with a degree of freedom less than there are clusters: chapters may be few.
    """
    n = min(len(a), len(b))
    value, error = difference(a, b, clusters, length)
    units = len(np.unique(clusters[:n]))
    told: dict[str, Any] = {"sequences": n, "clusters": units, "difference": value, "difference_se": error}
    if math.isfinite(error) and error > 0:
        wide = statistics.quantile(units - 1) * error
        p = statistics.two_sided(value / error, units - 1)
        told |= {"difference_low": value - wide, "difference_high": value + wide, "z": value / error, "p_value": p}
    return told


def of_seeds(differences: Sequence[float]) -> dict[str, Any]:
    """The differences of several training seeds -> the standard error of their mean over seeds, and its p-value."""
    error = standard_error(differences)
    told: dict[str, Any] = {"difference_seed_se": error}
    if error:
        t = math.fsum(differences) / len(differences) / error
        told["seed_p_value"] = statistics.two_sided(t, len(differences) - 1)
    return told

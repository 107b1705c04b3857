"""Paired comparisons of models: differences and ratios of likelihoods, taken sequence by sequence.

A hard sequence is hard for both models, so a paired difference has a far smaller error than two separate means. Errors
are over clusters of sequences, for the networks as they were trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from ..api.component import FloatArray, IntArray
from ..measure import statistics
from ..measure.statistics import ratio, standard_error
from ..run.cells import Entry

Records = Mapping[str, Mapping[str, Any]]


def difference(a: FloatArray, b: FloatArray, clusters: IntArray, length: int) -> tuple[float, float]:
    """Nats per token of `a` minus `b` on the sequences that both have (the first ones), and the standard error."""
    n = min(len(a), len(b))
    return ratio(a[:n] - b[:n], np.full(n, float(length)), clusters[:n])


def ratio_of_nats(a: FloatArray, b: FloatArray, clusters: IntArray) -> tuple[float, float]:
    """Nats of `a` over nats of `b` on the sequences that both have, and its standard error (linearised)."""
    n = min(len(a), len(b))
    return ratio(a[:n], b[:n], clusters[:n])


def columns(cells: Sequence[Entry], records: Records, clusters: IntArray, length: int) -> dict[str, dict[str, float]]:
    """Additional columns of finished likelihood cells, by hash, from pairs of cells on the same sequences.

    `bound_minus_chain_rule` (nats per token, with `_se`), on the chain rule's row: the bound by exact-k of the same
    network on the same, fewer, sequences. `ratio_to_ar` (with `_se`), on every row of a masked model: its nats over
    those of the autoregressive baseline of the same training seed.
    """
    found: dict[str, dict[str, float]] = {}
    for cell in cells:
        mine, more = values(records[cell.hash]), found.setdefault(cell.hash, {})
        if cell.labels["kind"] == "chain-rule" and _model(cell):
            same = [c for c in cells if _model(c) == _model(cell) and c.labels["estimator"] == "exact-k"]
            for bound in same[:1]:
                gap, error = difference(values(records[bound.hash]), mine, clusters, length)
                more.update(bound_minus_chain_rule=gap, bound_minus_chain_rule_se=error)
        baseline = _baseline(cell, cells)
        if baseline is not None:
            quotient, error = ratio_of_nats(mine, values(records[baseline.hash]), clusters)
            more.update(ratio_to_ar=quotient, ratio_to_ar_se=error)
    return found


def _baseline(cell: Entry, cells: Sequence[Entry]) -> Entry | None:
    """The exact likelihood of the same training seed, the baseline of a trained masked model; None if there is none."""
    if not _model(cell) or cell.labels["kind"] == "exact":
        return None
    seed = cell.labels["training_seed"]
    exact = [c for c in cells if _model(c) and c.labels["kind"] == "exact" and c.labels["training_seed"] == seed]
    return exact[0] if exact else None


def _model(cell: Entry) -> list[str]:
    """The training that made the model of a likelihood; empty for what is not trained."""
    model: list[str] = cell.facts["model"]
    return model


def values(record: Mapping[str, Any]) -> FloatArray:
    """(N,) nats of each sequence."""
    return np.array(record["per_sequence"], dtype=np.float64)


_SHARED = ("corpus", "tokenizer", "kind", "estimator", "evaluation_schedule")
Group = dict[tuple[Any, Any], dict[int, FloatArray]]
"""(family, schedule) -> training seed -> (N,) nats of each sequence."""


def compare(cells: Sequence[Entry], records: Records, clusters: IntArray, length: int) -> list[dict[str, Any]]:
    """The rows of comparisons.csv: each pair of trained models at each training seed that both have, and, if there are
    several, over all of them."""
    return [
        {**dict(zip(_SHARED, shared, strict=True)), "family_a": a[0], "schedule_a": a[1], "family_b": b[0],
         "schedule_b": b[1], **row}
        for shared, models in _groups(cells, records).items()
        for a, b in combinations(models, 2)
        for row in _rows(models[a], models[b], clusters, length)
    ]  # fmt: skip


def by_sequence(cells: Sequence[Entry], records: Records, length: int) -> list[dict[str, Any]]:
    """A row for each pair of trained models and sequence: `difference`, nats per token of a minus b, averaged over the
    training seeds that both have. Of the estimators of a bound only exact-k."""
    rows: list[dict[str, Any]] = []
    for shared, models in _groups(cells, records).items():
        labels = dict(zip(_SHARED, shared, strict=True))
        for a, b in combinations(models, 2) if labels["estimator"] != "weighted" else ():
            seeds = sorted(set(models[a]) & set(models[b]))
            n = min((len(models[name][seed]) for name in (a, b) for seed in seeds), default=0)
            apart = [(models[a][seed][:n] - models[b][seed][:n]) / length for seed in seeds]
            names = [" ".join(str(part) for part in name if part) for name in (a, b)]
            rows += [{**labels, "pair": " − ".join(names), "difference": value}
                     for value in (np.mean(apart, axis=0) if seeds else ())]  # fmt: skip
    return rows


def _groups(cells: Sequence[Entry], records: Records) -> dict[tuple[Any, ...], Group]:
    """The likelihoods of trained models by what must be shared for a comparison."""
    groups: dict[tuple[Any, ...], Group] = {}
    for cell in cells:
        if _model(cell):
            labels = cell.labels
            models = groups.setdefault(tuple(labels.get(name) for name in _SHARED), {})
            seeds = models.setdefault((labels["family"], labels.get("schedule")), {})
            seeds[labels["training_seed"]] = values(records[cell.hash])
    return groups


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
        row = {**of_networks(mean_a, mean_b, clusters, length), **of_seeds(each)}
        error, units = statistics.combined(row["difference_se"], row["clusters"], row["difference_seed_se"], len(seeds))
        ends = statistics.interval(row["difference"], error, units)
        row |= {} if ends is None or not error else {"difference_low": ends[0], "difference_high": ends[1]}
        yield {"training_seed": None, "training_seeds": len(seeds), **row}


def of_networks(a: FloatArray, b: FloatArray, clusters: IntArray, length: int) -> dict[str, Any]:
    """(N,), (N,) nats of the same sequences -> `a` minus `b` in nats per token, with its 95 % interval and p-value.

    Student's t with a degree of freedom less than there are clusters, which may be few.
    """
    n = min(len(a), len(b))
    value, error = difference(a, b, clusters, length)
    units = len(np.unique(clusters[:n]))
    row: dict[str, Any] = {"sequences": n, "clusters": units, "difference": value, "difference_se": error}
    ends = statistics.interval(value, error, units)
    if ends is not None and error > 0:
        p = statistics.two_sided(value / error, units - 1)
        row |= {"difference_low": ends[0], "difference_high": ends[1], "z": value / error, "p_value": p}
    return row


def of_seeds(differences: Sequence[float]) -> dict[str, Any]:
    """The differences of several training seeds -> the standard error of their mean over seeds, and its p-value."""
    error = standard_error(differences)
    columns: dict[str, Any] = {"difference_seed_se": error}
    if error:
        t = math.fsum(differences) / len(differences) / error
        columns["seed_p_value"] = statistics.two_sided(t, len(differences) - 1)
    return columns

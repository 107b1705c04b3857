"""What two models on the same sequences say of each other: far more than their two standard errors do.

A hard sequence is hard for both, so differences and ratios are taken sequence by sequence. Errors are over clusters
(sequences, or the chapters that they come from), for the networks as they were trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .api.component import FloatArray, IntArray
from .cells import Cell
from .measure.statistics import ratio

Records = Mapping[str, Mapping[str, Any]]


def difference(a: FloatArray, b: FloatArray, clusters: IntArray, length: int) -> tuple[float, float]:
    """Nats per token of `a` minus `b` on the sequences that both have (the first ones), and the standard error."""
    n = min(len(a), len(b))
    return ratio(a[:n] - b[:n], np.full(n, float(length)), clusters[:n])


def ratio_of_nats(a: FloatArray, b: FloatArray, clusters: IntArray) -> tuple[float, float]:
    """Nats of `a` over nats of `b` on the sequences that both have, and its standard error (linearised)."""
    n = min(len(a), len(b))
    return ratio(a[:n], b[:n], clusters[:n])


def columns(cells: Sequence[Cell], records: Records, clusters: IntArray, length: int) -> dict[str, dict[str, float]]:
    """For finished likelihood cells, by hash: what their rows say of other rows of the same sequences.

    `bound_minus_chain_rule` (nats per token, with `_se`), on the chain rule's row: the bound by exact-k of the same
    network on the same, fewer, sequences. `ratio_to_ar` (with `_se`), on every row of a masked model: its nats over
    those of the autoregressive baseline of the same training seed.
    """
    found: dict[str, dict[str, float]] = {}
    for cell in cells:
        mine, more = values(records[cell.hash]), found.setdefault(cell.hash, {})
        if cell.labels["kind"] == "chain-rule":
            same = [c for c in cells if c.needs == cell.needs and c.labels["estimator"] == "exact-k"]
            for bound in same[:1]:
                gap, error = difference(values(records[bound.hash]), mine, clusters, length)
                more.update(bound_minus_chain_rule=gap, bound_minus_chain_rule_se=error)
        baseline = _baseline(cell, cells)
        if baseline is not None:
            quotient, error = ratio_of_nats(mine, values(records[baseline.hash]), clusters)
            more.update(ratio_to_ar=quotient, ratio_to_ar_se=error)
    return found


def _baseline(cell: Cell, cells: Sequence[Cell]) -> Cell | None:
    """The exact likelihood, of the same training seed, that a trained masked model is held against."""
    if not cell.needs or cell.labels["kind"] == "exact":
        return None
    seed = cell.labels["training_seed"]
    exact = [c for c in cells if c.needs and c.labels["kind"] == "exact" and c.labels["training_seed"] == seed]
    return exact[0] if exact else None


def values(record: Mapping[str, Any]) -> FloatArray:
    """(N,) nats of each sequence."""
    return np.array(record["per_sequence"], dtype=np.float64)

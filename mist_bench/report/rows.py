"""From the cells of a run to the rows of its files: a pure function of what run.json and the store hold."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..api.component import IntArray
from ..measure import target_error
from ..measure.statistics import disagreement, quantile
from ..run import provenance
from ..run.cells import Cell, Entry, Record
from ..run.columns import Row
from ..run.kinds import KINDS, kind_named
from ..run.store import Store
from . import pairs, splits
from .columns import VALIDATION_TRUTH, files, header_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finished:
    """The finished cells of a run, in its order, each with its record."""

    entries: tuple[Entry, ...]
    records: Mapping[str, Record]
    """By hash."""

    @classmethod
    def of(cls, entries: Sequence[Entry], store: Store) -> Finished:
        """The cells that the store has, of kinds that this version knows."""
        found = {entry.hash: record for entry in entries if kind_named(entry.kind) is not None
                 and (record := store.read(entry.hash)) is not None}  # fmt: skip
        return cls(entries=tuple(entry for entry in entries if entry.hash in found), records=found)

    def in_file(self, file: str) -> list[Entry]:
        """The cells that have rows of their own in a file."""
        return [entry for entry in self.entries if kind_of(entry).file == file and not kind_of(entry).adds]

    @property
    def corpus(self) -> Record:
        """The record of the corpus; empty if it is not finished."""
        return next((self.records[entry.hash] for entry in self.entries if entry.kind == "corpus"), {})

    def clusters(self, entry: Entry) -> IntArray | None:
        """(N,) cluster of each test sequence of a likelihood, None if they are not known."""
        corpus = self.records.get(entry.facts.get("corpus", ""), {})
        return np.array(corpus["clusters"]) if "clusters" in corpus else None


THREE_ERRORS = 0.0027
"""How often a normal number is more than three standard errors from its mean."""
Rows = dict[str, list[dict[str, Any]]]
"""Rows by file: `training`, `likelihood`, `generation`, `curves`, `comparisons`, `samples`, …; and `differences`, which
are only plotted."""


def kind_of(entry: Entry) -> type[Cell]:
    """The class of a cell of a kind that is known."""
    kind = kind_named(entry.kind)
    assert kind is not None
    return kind


def read_rows(finished: Finished, length: int) -> Rows:
    """The rows of all files: the same whether a cell was made now or long ago. `length`: tokens of a sequence."""
    rows: Rows = {name: [] for name in (*files(), "samples")}
    own: dict[str, dict[str, Any]] = {}
    for entry in finished.entries:
        kind, record = kind_of(entry), finished.records[entry.hash]
        if kind.file and not kind.adds:
            own[entry.hash] = {**_of_training(entry, own), **kind.row(entry, record)}
            rows[kind.file].append(own[entry.hash])
        for file, more in kind.more_rows(entry, record).items():
            rows[file].extend(map(dict, more))
    for kind in KINDS:
        if kind.adds:
            mine = [(entry, finished.records[entry.hash]) for entry in finished.entries if kind_of(entry) is kind]
            taken = {*header_of(kind.file), *(name for row in rows[kind.file] for name in row)}
            for about, added in kind.additions(mine, taken).items():
                own.get(about, {}).update(added)
    truths = finished.corpus.get("validation_truth", {})
    for row in rows["curves"]:
        if (truth := truths.get(str(row.get("validation_sequences")))) is not None:
            row[VALIDATION_TRUTH] = truth
    cells = finished.in_file("likelihood")
    clusters = next((known for cell in cells if (known := finished.clusters(cell)) is not None), None)
    if clusters is not None:
        for hash, found in pairs.columns(cells, finished.records, clusters, length).items():
            own[hash].update(found)
        for cell in cells:
            own[cell.hash].update(_of_splits(finished, cell, length))
        rows["comparisons"] = pairs.compare(cells, finished.records, clusters, length)
    rows["differences"] = pairs.by_sequence(cells, finished.records, length)
    return rows


def _of_splits(finished: Finished, cell: Entry, length: int) -> dict[str, Any]:
    """The columns of a likelihood that hold it against the truth, and of the sequences that are nowhere in the train
    split."""
    corpus, clusters = finished.records.get(cell.facts.get("corpus", ""), {}), finished.clusters(cell)
    if clusters is None or "unseen" not in corpus:
        return {}
    nats, truth = pairs.values(finished.records[cell.hash]), corpus["truth"]
    new, truth = np.array(corpus["unseen"]), None if truth is None else np.array(truth)
    return {**splits.to_truth(nats, truth, clusters), **splits.unseen(nats, new, truth, clusters, length)}


def _of_training(entry: Entry, own: Mapping[str, Row]) -> dict[str, Any]:
    """What a likelihood's row repeats of the training of its model."""
    if kind_of(entry).file != "likelihood":
        return {}
    return {name: own[need].get(name) for need in entry.needs if need in own for name in ("parameters", "train_tokens")}


def disagreements(finished: Finished) -> list[str]:
    """The self-check: where two estimators of one checkpoint differ by more than three paired standard errors, or by as
    much as is as unlikely where clusters are few."""
    lines, cells = [], finished.in_file("likelihood")
    for cell in cells:
        if cell.labels["estimator"] != "weighted" or not cell.facts["one_bound"]:
            continue
        exact = [c for c in cells if c.labels["estimator"] == "exact-k" and c.facts["model"] == cell.facts["model"]]
        clusters = finished.clusters(cell)
        if not exact or clusters is None:
            continue
        first, second = (pairs.values(finished.records[c.hash]) for c in (cell, exact[0]))
        units = clusters[: len(first)]
        difference, error = disagreement(first, second, units)
        freedom = len(np.unique(units)) - 1
        if freedom and abs(difference) > quantile(freedom, outside=THREE_ERRORS) * error:
            lines.append(
                f"estimators disagree: {cell.title} is {difference:+.3f} ± {error:.3f} nats per sequence from exact-k"
            )
    return lines


def earlier_speeds(finished: Finished, now: Mapping[str, Any]) -> list[str]:
    """Which speeds were measured by another commit or machine than `now` (a stamp of provenance), in a line."""
    found = Counter[str]()
    for entry in finished.entries:
        record = finished.records[entry.hash]
        found[provenance.differences(record.get("measured_by"), now)] += kind_of(entry).speeds(record)
    lines = [f"{count} by {what}" for what, count in found.most_common() if what and count]
    if not lines:
        return []
    return [f"speeds of an earlier run: {'; '.join(lines)}, of {found.total()} (--rerun all measures them again)"]


def about_splits(finished: Finished, length: int) -> list[str]:
    """What the splits share and what was left out of them, in lines. `length`: tokens of a sequence."""
    entry = next((entry for entry in finished.entries if entry.kind == "corpus"), None)
    facts = finished.corpus.get("splits", {})
    return splits.lines(facts, entry.labels["corpus"], length) if entry is not None else []


def shortfalls(finished: Finished) -> list[str]:
    """Where a wanted standard error was not reached, and why."""
    lines = []
    for cell in finished.in_file("likelihood"):
        if target := cell.facts.get("target_se"):
            record, largest = finished.records[cell.hash], target_error.LARGEST_MULTIPLE * cell.facts["draws"]
            lines.append(target_error.shortfall(
                cell.title, target, record.get("nats_per_token_se"), record.get("nats_per_token_se_limit"),
                record["mask_draws"], largest, record["sequences"],
            ))  # fmt: skip
    return [line for line in lines if line]

"""Metric cells: the numbers of a metric plugin about the texts of a generation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from ...api.metrics import Metric
from ..cells import Cell, Entry, Progress, Record
from ..columns import Column, Row
from ..experiment import Experiment

if TYPE_CHECKING:
    from ..workbench import Workbench

METRIC_COLUMNS = "metric_columns"


class MetricColumns(TypedDict, total=False):
    """Columns of generation.csv, besides those that the metrics name themselves."""

    metric_columns: Annotated[str, Column("which columns come from metrics, joined by `; `", optional=True)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetricCell(Cell):
    """One metric of one generation."""

    kind = "metric"
    prefix = "metric"
    file = "generation"
    adds = True
    columns = MetricColumns

    generation: Cell
    metric: Metric

    @classmethod
    def plan(cls, experiment: Experiment, planned: Sequence[Cell]) -> Iterator[Cell]:
        generations = [cell for cell in planned if cell.file == "generation" and not cell.adds]
        for metric in experiment.metrics:
            yield from (cls(experiment=experiment, generation=cell, metric=metric) for cell in generations)

    @property
    def content(self) -> dict[str, Any]:
        metric = {**self.metric.identity(), **self.experiment.code(self.metric)}
        return {"generation": self.generation.hash, "metric": metric}

    @property
    def labels(self) -> dict[str, Any]:
        return {**self.generation.labels, "metric": self.metric.spec}

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.generation.hash,)

    @property
    def facts(self) -> dict[str, Any]:
        return {"about": self.generation.hash}

    def make(self, bench: Workbench, progress: Progress) -> dict[str, Any]:
        from ...measure import controls

        tokens = bench.generated(self.generation.hash)
        references = controls.references(bench.dataset, len(tokens))
        texts, held_out = ([bench.dataset.decode(row) for row in rows] for rows in (tokens, references))
        return {"columns": dict(self.metric.measure(texts, held_out))}

    @staticmethod
    def summary(record: Record) -> str:
        return ", ".join(f"{name} {value:.4g}" for name, value in record["columns"].items())

    @classmethod
    def additions(cls, entry: Entry, record: Record, row: Row, taken: set[str]) -> Row:
        """Its columns. The metric's name stands before a column whose name is taken, so that it replaces nothing."""
        named = record["columns"]
        owner = f"{entry.labels['metric']} " if (taken | set(row)) & set(named) else ""
        added = {f"{owner}{name}": value for name, value in named.items()}
        before = [row[METRIC_COLUMNS]] if row.get(METRIC_COLUMNS) else []
        return {**added, METRIC_COLUMNS: "; ".join([*before, *added])} if added else {}

"""Metric cells: the numbers of a metric plugin about the texts of a generation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from ...api.component import UserError
from ...api.metrics import Metric, columns_problem
from ...host.discovery import error_text
from ...measure.statistics import unless_rounding
from ..cells import Cell, Entry, Progress, Record
from ..columns import Column, Row
from ..experiment import Experiment

if TYPE_CHECKING:
    from ..workbench import Workbench

METRIC_COLUMNS = "metric_columns"
RESERVED = {METRIC_COLUMNS, "seeds", "pooled_clusters"}
"""Names that tables give to columns of their own."""


class MetricColumns(TypedDict, total=False):
    """Columns of generation.csv, besides those that the metrics name themselves."""

    metric_columns: Annotated[str, Column("which columns come from metrics, joined by `; `", optional=True)]


def _with_errors(columns: dict[str, float | None], one_text: bool) -> dict[str, float | None]:
    """The columns with the errors that they can have: none of one text, however often it was written, and 0 for what is
    rounding alone."""
    made = dict(columns)
    for name, error in columns.items():
        value = columns.get(name.removesuffix("_se"))
        if name.endswith("_se") and error is not None and value is not None:
            made[name] = None if one_text else unless_rounding(error, abs(value))
    return made


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
        try:
            measured = self.metric.measure(texts, held_out)
        except OSError as error:  # a network that is down, say
            text = f"{type(error).__name__}: {error_text(error)}"
            raise UserError(f"metric {self.metric.spec!r} raised {text}") from error
        if problem := columns_problem(measured):
            raise UserError(f"metric {self.metric.spec!r}: {problem}")
        columns: dict[str, float | None] = {
            name: int(value) if isinstance(value, Integral) else float(value) for name, value in measured.items()
        }
        return {"columns": _with_errors(columns, one_text=len(set(texts)) == 1)}

    @staticmethod
    def summary(record: Record) -> str:
        columns = record["columns"].items()
        return ", ".join(f"{name} {'not measured' if value is None else f'{value:.4g}'}" for name, value in columns)

    @classmethod
    def additions(cls, found: Sequence[tuple[Entry, Record]], taken: set[str]) -> dict[str, Row]:
        """The columns of the metrics. A name belongs to the first metric that gives it in any row; the name of every
        other metric stands before its own, in all rows alike, so that a column holds one thing."""
        owners: dict[str, str] = {}
        for entry, record in found:
            for name in record["columns"]:
                owners.setdefault(name, entry.labels["metric"])
        rows: dict[str, dict[str, Any]] = {}
        for entry, record in found:
            row = rows.setdefault(entry.facts["about"], {METRIC_COLUMNS: []})
            for name, value in record["columns"].items():
                own = owners[name] == entry.labels["metric"] and name not in taken | RESERVED
                shown = name if own else f"{entry.labels['metric']} {name}"
                row[shown] = value
                row[METRIC_COLUMNS].append(shown)
        joined = {about: {**row, METRIC_COLUMNS: "; ".join(row[METRIC_COLUMNS])} for about, row in rows.items()}
        return {about: row for about, row in joined.items() if row[METRIC_COLUMNS]}

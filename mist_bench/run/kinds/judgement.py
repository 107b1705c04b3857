"""Judgement cells: how likely the samples of a generation are to a network that did not write them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from ...hub.models import HubModel
from ...measure.statistics import mean_and_error
from ..cells import Cell, Entry, Progress, Record
from ..columns import Column, Row
from ..experiment import Experiment
from .generation import stored_clusters
from .training import TrainingCell, judging

if TYPE_CHECKING:
    from ..workbench import Workbench


class JudgementColumns(TypedDict, total=False):
    """Columns of generation.csv."""

    judge: Annotated[str, Column("who judges: a network of another training seed, or hf:NAME")]
    judge_nats_per_token: Annotated[
        float, Column("negative log-likelihood of the samples under the judge, per token", "nats", "data")
    ]
    judge_nats_per_token_se: Annotated[float, Column("its standard error over clusters", "nats", "lower")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgementCell(Cell):
    """One generation under the judge: a network of another training seed, or a model of the Hub."""

    kind = "judgement"
    prefix = "judgement of"
    file = "generation"
    adds = True
    evaluates = True
    columns = JudgementColumns

    generation: Cell
    judge: TrainingCell | HubModel

    @classmethod
    def plan(cls, experiment: Experiment, planned: Sequence[Cell]) -> Iterator[Cell]:
        judge = judging(experiment) or experiment.text_judge
        if judge is not None:
            yield from (cls(experiment=experiment, generation=cell, judge=judge) for cell in planned
                        if cell.file == "generation" and not cell.adds)  # fmt: skip

    @property
    def content(self) -> dict[str, Any]:
        judge = self.judge.hash if isinstance(self.judge, TrainingCell) else self.judge.identity()
        return {"generation": self.generation.hash, "judge": judge}

    @property
    def labels(self) -> dict[str, Any]:
        if isinstance(self.judge, TrainingCell):
            return {**self.generation.labels, "judge": f"{self.judge.family.spec}, seed {self.judge.seed}"}
        return {**self.generation.labels, "judge": f"hf:{self.judge.title}"}

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.generation.hash, *([self.judge.hash] if isinstance(self.judge, TrainingCell) else []))

    @property
    def facts(self) -> dict[str, Any]:
        return {"about": self.generation.hash}

    def batch(self, bench: Workbench) -> tuple[str, int]:
        return "generation", bench.generation_batch

    def make(self, bench: Workbench, progress: Progress) -> dict[str, Any]:
        from ...measure.likelihood import causal_likelihood
        from ...measure.text import text_judge_columns

        tokens = bench.generated(self.generation.hash)
        clusters = stored_clusters(bench, self.generation.hash, len(tokens))
        columns: dict[str, float | None] = {}
        if isinstance(self.judge, TrainingCell):
            evaluator = bench.causal(self.judge.family, bench.parameters(self.judge.hash))
            nats = causal_likelihood(evaluator, tokens, lambda done, total: progress(done, total, "batches"))
        else:
            texts = [bench.dataset.decode(row) for row in tokens]
            nats, scored = bench.text_judge.score(texts, lambda done, total: progress(done, total, "windows"))
            columns = text_judge_columns(nats, scored, texts, clusters)
        mean, error = mean_and_error(nats / tokens.shape[1], clusters)
        return {"judge_nats_per_token": mean, "judge_nats_per_token_se": error, **columns}

    @classmethod
    def additions(cls, found: Sequence[tuple[Entry, Record]], taken: set[str]) -> dict[str, Row]:
        rows: dict[str, Row] = {}
        for entry, record in found:
            judged = {name: value for name, value in record.items() if name.startswith("judge")}
            rows[entry.facts["about"]] = {"judge": entry.labels["judge"], **judged}
        return rows

    @staticmethod
    def summary(record: Record) -> str:
        return f"{record['judge_nats_per_token']:.3f} nats/token"

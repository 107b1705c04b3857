"""The corpus as it is measured: what errors are taken over, what the world says of it, and what its splits share."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from ..cells import Cell, Progress, Record
from ..experiment import Experiment
from .validation import validation_truth

if TYPE_CHECKING:
    from ..workbench import Workbench


class CorpusColumns(TypedDict, total=False):
    """No columns: rows take its facts as they need them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusCell(Cell):
    """Facts of the corpus under the tokenizer, stored so that a report needs neither."""

    kind = "corpus"
    prefix = "corpus"
    columns = CorpusColumns
    unlisted = frozenset({"clusters", "validation_truth", "duplicates"})

    @classmethod
    def plan(cls, experiment: Experiment, planned: Sequence[Cell]) -> Iterator[Cell]:
        yield cls(experiment=experiment)

    @property
    def content(self) -> dict[str, Any]:
        return {**self.experiment.text, "sequences": self.experiment.config.likelihood.sequences}

    @property
    def labels(self) -> dict[str, Any]:
        return self.experiment.names

    @property
    def title(self) -> str:
        return f"{self.experiment.corpus.spec} by {self.experiment.tokenizer.spec}"

    def make(self, bench: Workbench, progress: Progress) -> dict[str, Any]:
        data = bench.dataset
        return {
            "clusters": data.test.clusters(self.experiment.config.likelihood.sequences).tolist(),
            "validation_truth": validation_truth(bench),
            "duplicates": dict(data.duplicates),
            "sequences": {name: len(getattr(data, name)) for name in ("train", "validation", "test")},
        }

    @staticmethod
    def summary(record: Record) -> str:
        return f"{record['sequences']['train']} train sequences"

"""The corpus as it is measured: what errors are taken over, what the world says of it, and what its splits share."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from ...data.layouts import SPLITS
from ..cells import Cell, Progress, Record
from ..experiment import Experiment
from .validation import validation_truth

if TYPE_CHECKING:
    from ...data.dataset import Dataset, Split
    from ..workbench import Workbench


class CorpusColumns(TypedDict, total=False):
    """No columns: rows take its facts as they need them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusCell(Cell):
    """Facts of the corpus under the tokenizer, stored so that a report needs neither."""

    kind = "corpus"
    prefix = "corpus"
    columns = CorpusColumns
    unlisted = frozenset({"clusters", "unseen", "truth", "validation_truth", "splits"})

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
        test, count = bench.dataset.test, self.experiment.config.likelihood.sequences
        tokens = np.asarray(test.tokens[:count])
        return {
            "clusters": test.clusters(count).tolist(),
            "unseen": test.unseen()[:count].tolist(),
            "truth": None if bench.oracle is None else (-bench.oracle.log_probability(tokens)).tolist(),
            "validation_truth": validation_truth(bench),
            "splits": split_facts(bench.dataset),
        }

    @staticmethod
    def summary(record: Record) -> str:
        return f"{record['splits']['train']['sequences']} train sequences"


def split_facts(data: Dataset) -> dict[str, dict[str, Any]]:
    """By split: its `sequences`, the share of its tokens `left_out` of them, and of held-out splits how many sequences
    the train split has too, the `same` or `shifted` to another offset."""
    facts: dict[str, dict[str, Any]] = {}
    for name in SPLITS:
        split: Split = getattr(data, name)
        facts[name] = {"sequences": len(split), "left_out": data.left_out[name]}
        if split.in_train is not None:
            facts[name] |= split.counts_in_train()
    return facts

"""Control rows, in the same tables as the models, so that a number that can be gamed is seen to be."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...api.families import CONTROLS
from ...measure.statistics import with_error
from ..cells import Cell, Entry, Progress, Record
from ..columns import Row
from ..experiment import Experiment
from .corpus import CorpusCell
from .generation import CLUSTER_OF, GenerationRow, sample_rows, samples_of, summary_of, text_record, texts_digest
from .likelihood import LikelihoodRow, likelihood_record, truth_record

if TYPE_CHECKING:
    from ..workbench import Workbench


@dataclasses.dataclass(frozen=True, kw_only=True)
class ControlLikelihoodCell(Cell):
    """Nats of the test split by the token frequencies of the train split, which every model must beat."""

    kind = "control-likelihood"
    hashed_as = "likelihood"
    prefix = "likelihood of"
    file = "likelihood"
    columns = LikelihoodRow
    unlisted = frozenset({"per_sequence"})

    control: str = "unigram"

    @classmethod
    def plan(cls, experiment: Experiment, planned: Sequence[Cell]) -> Iterator[Cell]:
        yield cls(experiment=experiment)

    @property
    def content(self) -> dict[str, Any]:
        sequences = self.experiment.config.likelihood.sequences
        return {**self.experiment.text, "control": self.control, "sequences": sequences}

    @property
    def labels(self) -> dict[str, Any]:
        return {**self.experiment.names, "family": self.control, "control": self.control, "kind": "exact",
                "estimator": "chain-rule"}  # fmt: skip

    @property
    def facts(self) -> dict[str, Any]:
        return {"corpus": CorpusCell(experiment=self.experiment).hash, "model": [], "one_bound": True}

    def make(self, bench: Workbench, progress: Progress) -> dict[str, Any]:
        from ...measure.text import unigram

        split = bench.dataset.test
        tokens = np.asarray(split.tokens[: min(self.experiment.config.likelihood.sequences, len(split))])
        law = unigram(bench.dataset.train.tokens, bench.dataset.vocab_size)
        nats = -np.log(law)[tokens].sum(axis=1)
        return {**likelihood_record(bench, nats), **truth_record(bench, tokens, nats)}

    @staticmethod
    def summary(record: Record) -> str:
        return f"{with_error(record['nats_per_token'], record['nats_per_token_se'])} nats/token"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ControlCell(Cell):
    """Sequences that no model wrote: held-out data, unigram draws, one repeated sequence, perfect samples."""

    kind = "control"
    hashed_as = "generation"
    prefix = "generation"
    file = "generation"
    columns = GenerationRow
    unlisted = frozenset({"texts", "tokens", CLUSTER_OF})

    control: str
    samples: int

    @classmethod
    def plan(cls, experiment: Experiment, planned: Sequence[Cell]) -> Iterator[Cell]:
        samples = samples_of(experiment)
        perfect = [] if experiment.perfect is None else [experiment.perfect.control]
        for control in (*CONTROLS, *perfect):
            yield cls(experiment=experiment, control=control, samples=samples)

    @property
    def content(self) -> dict[str, Any]:
        return {**self.experiment.text, "control": self.control, "samples": self.samples}

    @property
    def labels(self) -> dict[str, Any]:
        return {**self.experiment.names, "control": self.control}

    def make(self, bench: Workbench, progress: Progress) -> dict[str, Any]:
        from ...measure import controls

        tokens = controls.sequences(self.control, bench.dataset, bench.oracle, self.samples)
        held_out = bench.dataset.test.clusters(len(tokens)) if self.control == "data" else None
        return text_record(bench, tokens, held_out)

    @staticmethod
    def summary(record: Record) -> str:
        return summary_of(record)

    @classmethod
    def row(cls, entry: Entry, record: Record) -> Row:
        return {**super().row(entry, record), "texts_digest": texts_digest(record)}

    @classmethod
    def more_rows(cls, entry: Entry, record: Record) -> dict[str, list[Row]]:
        return sample_rows(entry, record)

"""Likelihood cells: nats of the test split under a model, by one estimator."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from ...api.component import FloatArray, IntArray, UserError
from ...api.schedules import Schedule
from ...measure.statistics import mean_and_error, perplexity_columns, with_error
from ..cells import Cell, Progress, Record
from ..columns import Column, ModelColumns
from ..experiment import Experiment
from .corpus import CorpusCell
from .training import MeasuredModel, models, spec_of

if TYPE_CHECKING:
    from ...inference.masked import MaskedEvaluator
    from ..workbench import Workbench

UNTRAINED_DRAWS = 4
"""An untrained model takes so many times the mask draws: its only error is mask noise, and it is evaluated cheaply."""


class LikelihoodRow(ModelColumns, total=False):
    """A row of likelihood.csv."""

    parameters: Annotated[int, Column("trained numbers outside the token and position tables", "numbers")]
    train_tokens: Annotated[int, Column("tokens seen in training", "tokens")]
    kind: Annotated[str, Column("bound, exact or chain-rule: three different things")]
    estimator: Annotated[str, Column("exact-k, weighted or chain-rule")]
    evaluation_schedule: Annotated[
        str, Column("the schedule whose weight is used; empty if the estimator needs none")
    ]
    nats_per_token: Annotated[
        float, Column("negative log-likelihood of the test split, or its upper bound, per token", "nats", "lower")
    ]
    nats_per_token_se: Annotated[float, Column("its standard error over clusters", "nats", "lower")]
    bits_per_byte: Annotated[
        float, Column("the same per byte of raw UTF-8: compares across tokenizers", "bits", "lower")
    ]
    bits_per_byte_se: Annotated[float, Column("its standard error over clusters", "bits", "lower")]
    perplexity: Annotated[float, Column("exp(nats_per_token): an upper bound where kind is bound", "1", "lower")]
    perplexity_low: Annotated[float, Column("exp(nats_per_token - t SE), t Student's for 95 %", "1", "lower")]
    perplexity_high: Annotated[float, Column("exp(nats_per_token + t SE)", "1", "lower")]
    sequences: Annotated[int, Column("test sequences measured, the same for every model", "numbers")]
    clusters: Annotated[int, Column("independent units among them: sequences, documents or blocks", "numbers")]
    mask_draws: Annotated[int, Column("maskings drawn for each sequence, the same for every model", "numbers")]
    ratio_to_truth: Annotated[
        float, Column("nats over those of the corpus's own law on the same sequences, where it is known", "1", "lower",
                      optional=True)
    ]  # fmt: skip
    ratio_to_truth_se: Annotated[
        float, Column("its standard error over clusters, paired", "1", "lower", optional=True)
    ]
    unseen_sequences: Annotated[
        int, Column("those of them that are nowhere in the train split, at no offset", "numbers", optional=True)
    ]
    unseen_nats_per_token: Annotated[
        float, Column("nats_per_token of these alone", "nats", "lower", optional=True)
    ]
    unseen_nats_per_token_se: Annotated[
        float, Column("its standard error over clusters", "nats", "lower", optional=True)
    ]
    unseen_ratio_to_truth: Annotated[
        float, Column("their nats over those of the corpus's own law, where it is known", "1", "lower", optional=True)
    ]
    unseen_ratio_to_truth_se: Annotated[
        float, Column("its standard error over clusters", "1", "lower", optional=True)
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LikelihoodCell(Cell):
    """One model by one estimator."""

    kind = "likelihood"
    prefix = "likelihood of"
    file = "likelihood"
    columns = LikelihoodRow
    unlisted = frozenset({"per_sequence"})
    evaluates = True

    model: MeasuredModel
    estimator: str
    draws: int = 0
    """Mask draws of each sequence; 0 where nothing is masked at random."""
    sequences: int
    weight: Schedule | None = None
    """The schedule whose weight the estimator `weighted` takes."""
    target_se: float | None = None
    """The standard error to reach by further draws, nats per token."""

    @classmethod
    def plan(cls, experiment: Experiment, planned: Sequence[Cell]) -> Iterator[Cell]:
        weighted = False
        for model in models(experiment):
            yield from cls._of(experiment, model)
            if model.training is not None and model.family.likelihood_kind == "bound" and not weighted:
                weighted = True  # one checkpoint under several weights shows whether the estimators agree
                yield from cls._weighted(experiment, model)
        if experiment.perfect is not None:  # a bound that must equal the truth tests the estimator
            yield from cls._of(experiment, MeasuredModel(experiment=experiment, family=experiment.perfect))

    @classmethod
    def _of(cls, experiment: Experiment, model: MeasuredModel) -> Iterator[Cell]:
        settings, trained = experiment.config.likelihood, model.family.trained
        if model.family.likelihood_kind != "bound":
            yield cls(experiment=experiment, model=model, estimator="chain-rule", sequences=settings.sequences)
            return
        draws = settings.mask_draws * (1 if trained else UNTRAINED_DRAWS)
        target = settings.target_se if trained and settings.target_se else None
        yield cls(experiment=experiment, model=model, estimator="exact-k", draws=draws, sequences=settings.sequences,
                  target_se=target)  # fmt: skip
        if trained and settings.chain_rule_sequences:
            few = min(settings.chain_rule_sequences, settings.sequences)
            yield cls(experiment=experiment, model=model, estimator="chain-rule", sequences=few)

    @classmethod
    def _weighted(cls, experiment: Experiment, model: MeasuredModel) -> Iterator[Cell]:
        settings = experiment.config.likelihood
        for schedule in experiment.evaluation_schedules if settings.weighted_draws else ():
            if schedule.reaches_all:
                yield cls(experiment=experiment, model=model, estimator="weighted", draws=settings.weighted_draws,
                          sequences=settings.sequences, weight=schedule)  # fmt: skip

    @property
    def content(self) -> dict[str, Any]:
        content = {
            **self.model.content, "estimator": self.estimator, "draws": self.draws, "sequences": self.sequences,
            "evaluation_schedule": self.experiment.content(self.weight),
        }  # fmt: skip
        # absent without a target, so that cells from before there were targets are found
        return content if self.target_se is None else {**content, "target_se": self.target_se}

    @property
    def labels(self) -> dict[str, Any]:
        bound = self.model.family.likelihood_kind == "bound"
        kind = "chain-rule" if bound and self.estimator == "chain-rule" else self.model.family.likelihood_kind
        return {**self.model.labels, "kind": kind, "estimator": self.estimator, "mask_draws": self.draws or None,
                "evaluation_schedule": spec_of(self.weight)}  # fmt: skip

    @property
    def needs(self) -> tuple[str, ...]:
        return self.model.needs

    @property
    def facts(self) -> dict[str, Any]:
        facts = {"corpus": CorpusCell(experiment=self.experiment).hash, "model": list(self.model.needs),
                 "one_bound": self.model.family.one_bound}  # fmt: skip
        return facts if self.target_se is None else {**facts, "target_se": self.target_se, "draws": self.draws}

    @property
    def group(self) -> str:
        return self.model.family.spec

    def batch(self, bench: Workbench) -> tuple[str, int]:
        if self.model.family.causal:
            return "generation", bench.generation_batch
        return "likelihood", bench.likelihood_batch

    def make(self, bench: Workbench, progress: Progress) -> dict[str, Any]:
        from ...measure.likelihood import causal_likelihood, left_to_right

        split = bench.dataset.test
        count = min(self.sequences, len(split))
        tokens, extra = np.asarray(split.tokens[:count]), dict[str, Any]()
        values = self.model.parameters(bench)

        def batches(done: int, total: int) -> None:
            progress(done, total, "batches")

        if self.model.family.causal:
            nats = causal_likelihood(bench.causal(self.model.family, values or {}), tokens, batches)
        else:
            evaluator = bench.masked(self.model.family, values, batch=bench.likelihood_batch)
            if self.estimator == "chain-rule":
                nats = left_to_right(evaluator, tokens, batches, clock=self.model.schedule)
            else:
                nats, extra = self._bound(evaluator, tokens, split.clusters(count), progress)
        return {**likelihood_record(bench, nats), **extra, **truth_record(bench, tokens, nats)}

    def _bound(
        self, evaluator: MaskedEvaluator, tokens: IntArray, clusters: IntArray, progress: Progress
    ) -> tuple[FloatArray, dict[str, Any]]:
        """(N,) nats by the estimator with its draws, or with as many as its target takes; and additional columns."""
        from ...measure import target_error
        from ...measure.likelihood import SMALLEST_MASK, masked_likelihood

        def block(number: int, blocks: int) -> FloatArray:
            def batches(done: int, total: int) -> None:
                progress(number * total + done, blocks * total, "batches")

            return masked_likelihood(evaluator, tokens, self.draws, self.weight, batches, block=number,
                                     clock=self.model.schedule)  # fmt: skip

        if self.target_se is None:
            return block(0, 1), {} if self.weight is None else {"smallest_mask_probability": SMALLEST_MASK}
        nats, found = target_error.mean_of_blocks(block, self.target_se, tokens.shape[1], clusters)
        return nats, {"mask_draws": found.blocks * self.draws, "nats_per_token_se_limit": found.limit}

    @staticmethod
    def summary(record: Record) -> str:
        return f"{with_error(record['nats_per_token'], record['nats_per_token_se'])} nats/token"


def likelihood_record(bench: Workbench, nats: FloatArray) -> dict[str, Any]:
    """The record of (N,) nats of the first N test sequences."""
    from ...measure.likelihood import estimate

    split, count = bench.dataset.test, len(nats)
    if np.isnan(nats).any():
        raise UserError(
            f"the likelihood of {int(np.isnan(nats).sum())} of {count} sequences is not a number; a smaller "
            "learning_rate may help, and mist-bench check FAMILY looks at a plugin's own network"
        )
    found = estimate(nats, bench.dataset.length, split.text_bytes[:count], split.clusters(count))
    return {
        "nats_per_token": found.nats_per_token, "nats_per_token_se": found.nats_per_token_se,
        "bits_per_byte": found.bits_per_byte, "bits_per_byte_se": found.bits_per_byte_se,
        **perplexity_columns(found.nats_per_token, found.nats_per_token_se, found.clusters),
        "sequences": count, "clusters": found.clusters, "per_sequence": found.per_sequence.tolist(),
    }  # fmt: skip


def truth_record(bench: Workbench, tokens: IntArray, nats: FloatArray) -> dict[str, Any]:
    """Nats per sequence beside the truth of the same sequences, in oracle worlds."""
    if bench.oracle is None:
        return {}
    mean, error = mean_and_error(nats, bench.dataset.test.clusters(len(nats)))
    truth = -bench.oracle.log_probability(tokens)
    return {"nats_per_sequence": mean, "nats_per_sequence_se": error, "truth_nats_per_sequence": float(truth.mean())}

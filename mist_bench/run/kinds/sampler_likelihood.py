"""Sampler likelihood cells: the nats that a sampler itself gives to held-out text, at its own number of steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import numpy as np

from ..cells import Cell, Entry, Progress, Record
from ..columns import Column, Row
from ..experiment import Experiment
from .generation import GenerationCell
from .likelihood import likelihood_record

if TYPE_CHECKING:
    from ...api.component import FloatArray, IntArray
    from ..workbench import Workbench

KINDS_OF_ORDER = {"shown": "exact", "noise": "bound"}
"""What is known of a sampler, by what its order depends on."""


class SamplerLikelihoodColumns(TypedDict, total=False):
    """Columns of generation.csv."""

    sampler_kind: Annotated[
        str,
        Column("of the sampler's own likelihood: exact, or bound where its order is noise; empty: not known",
               optional=True),
    ]
    sampler_nats_per_token: Annotated[
        float, Column("-log p of test sequences under the sampler itself, per token", "nats", "lower", optional=True)
    ]
    sampler_nats_per_token_se: Annotated[
        float, Column("its standard error over clusters", "nats", "lower", optional=True)
    ]
    sampler_bits_per_byte: Annotated[float, Column("the same in bits per byte of text", "bits", "lower", optional=True)]
    sampler_bits_per_byte_se: Annotated[
        float, Column("its standard error over clusters", "bits", "lower", optional=True)
    ]
    sampler_perplexity: Annotated[float, Column("exp of sampler_nats_per_token", "1", "lower", optional=True)]
    sampler_perplexity_low: Annotated[float, Column("lower end of its 95 % interval", "1", optional=True)]
    sampler_perplexity_high: Annotated[float, Column("upper end of its 95 % interval", "1", optional=True)]
    sampler_sequences: Annotated[
        int, Column("test sequences that it was measured on, the first", "numbers", optional=True)
    ]
    sampler_clusters: Annotated[int, Column("independent units among them", "numbers", optional=True)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerLikelihoodCell(Cell):
    """The likelihood of the sampler of a generation: its own steps, told what they draw. It does not depend on the seed
    of sampling, and stands in the row of each."""

    kind = "sampler-likelihood"
    prefix = "likelihood of the sampler of"
    file = "generation"
    adds = True
    evaluates = True
    columns = SamplerLikelihoodColumns
    unlisted = frozenset({"per_sequence"})

    generation: GenerationCell
    shared_by: tuple[str, ...]
    """The hashes of the generations that differ from this one in their seed alone, with this one."""
    sequences: int

    @classmethod
    def plan(cls, experiment: Experiment, planned: Sequence[Cell]) -> Iterator[Cell]:
        count, alike = experiment.config.likelihood.sampler_sequences, dict[GenerationCell, list[str]]()
        for cell in planned:
            if count and isinstance(cell, GenerationCell) and kind_of_likelihood(cell):
                first = dataclasses.replace(cell, seed=experiment.config.seeds[0])
                alike.setdefault(first, []).append(cell.hash)
        for first, hashes in alike.items():
            yield cls(experiment=experiment, generation=first, shared_by=tuple(hashes), sequences=count)

    @property
    def content(self) -> dict[str, Any]:
        cell = self.generation
        return {**cell.model.content, **self.experiment.text, "sampler": self.experiment.content(cell.sampler),
                "sampling_schedule": self.experiment.content(cell.schedule), "steps": cell.steps,
                "temperature": cell.temperature, "sequences": self.sequences}  # fmt: skip

    @property
    def labels(self) -> dict[str, Any]:
        return self.generation.labels

    @property
    def needs(self) -> tuple[str, ...]:
        return self.generation.model.needs

    @property
    def facts(self) -> dict[str, Any]:
        return {"about": self.generation.hash, "shared_by": list(self.shared_by)}

    @property
    def group(self) -> str | None:
        return self.generation.group

    def batch(self, bench: Workbench) -> tuple[str, int]:
        return "generation", bench.generation_batch

    def make(self, bench: Workbench, progress: Progress) -> dict[str, Any]:
        from ...measure.likelihood import causal_likelihood, in_batches

        tokens = np.asarray(bench.dataset.test.tokens[: self.sequences])
        model, values = self.generation.model, self.generation.model.parameters(bench)

        def batches(done: int, total: int) -> None:
            progress(done, total, "batches")

        if model.family.causal:
            nats = causal_likelihood(bench.causal(model.family, values or {}), tokens, batches)
        else:
            nats = in_batches(tokens, bench.generation_batch, 1, self._replay(bench), batches)
        found = likelihood_record(bench, nats)
        per_sequence = found.pop("per_sequence")
        named = {f"sampler_{name}": value for name, value in found.items()}
        return {"sampler_kind": kind_of_likelihood(self.generation), **named, "per_sequence": per_sequence}

    def _replay(self, bench: Workbench) -> Any:
        """`one` of `in_batches`."""
        from ...engine import noise
        from ...inference.replay import replayed

        cell, seed = self.generation, noise.seed_of(axis="sampler likelihood")
        steps = cell.steps or bench.dataset.length
        evaluator, graph, replay = bench.replay(
            cell.model.family, cell.model.parameters(bench), cell.sampler, tempered=_tempered(cell, steps)
        )
        assert cell.schedule is not None
        schedule = cell.schedule

        def one(texts: IntArray, numbers: IntArray, draw: int) -> FloatArray:
            return replayed(evaluator, graph, replay, schedule, steps, texts.astype(np.int32), seed=seed,
                            sequences=numbers, temperature=cell.temperature)  # fmt: skip

        return one

    @classmethod
    def additions(cls, found: Sequence[tuple[Entry, Record]], taken: set[str]) -> dict[str, Row]:
        shared = {entry.facts["about"]: entry.facts["shared_by"] for entry, _ in found}
        return {hash: row for about, row in super().additions(found, taken).items() for hash in shared[about]}

    @staticmethod
    def summary(record: Record) -> str:
        sign = "≤ " if record["sampler_kind"] == "bound" else ""
        return f"{sign}{record['sampler_nats_per_token']:.4f} nats/token"


def kind_of_likelihood(cell: GenerationCell) -> str:
    """`exact`, `bound`, or nothing: a nucleus and temperature 0 exclude tokens, and a prompt is no whole text."""
    settings = cell.experiment.config.generation
    if settings.nucleus < 1 or settings.prompt or cell.temperature == 0:
        return ""
    if cell.model.family.causal:
        return "exact" if cell.temperature == 1 else ""
    return "" if cell.sampler.remasks else KINDS_OF_ORDER.get(cell.sampler.order, "")


def _tempered(cell: GenerationCell, steps: int) -> bool:
    return any(cell.temperature * cell.sampler.heat(step, steps) != 1 for step in range(steps))

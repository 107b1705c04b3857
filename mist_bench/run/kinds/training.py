"""Training cells: a network of a family under a schedule and a seed; and the models that everything after measures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from ...api.component import Component
from ...api.families import Family
from ...api.schedules import Schedule
from ...measure.statistics import mean_and_error
from ..cells import Cell, Entry, Progress, Record
from ..columns import Column, ModelColumns, Row
from ..experiment import Experiment
from .validation import ALONG, LAST, Amount, validation_tokens

if TYPE_CHECKING:
    from ...training.loop import Progress as TrainingProgress
    from ...training.step import TrainingGraph
    from ..workbench import Parameters, Workbench


class TrainingRow(ModelColumns, total=False):
    """A row of training.csv."""

    parameters: Annotated[int, Column("trained numbers outside the token and position tables", "numbers")]
    embedding_parameters: Annotated[int, Column("trained numbers inside those tables", "numbers")]
    train_steps: Annotated[int, Column("optimiser steps", "steps")]
    train_tokens: Annotated[int, Column("tokens seen: steps x batch x length", "tokens")]
    train_flops_per_token: Annotated[
        float, Column("forward, backward and update of a step over its tokens, counted by tinygrad", "FLOPs")
    ]
    final_loss: Annotated[float, Column("training loss per token at the end", "nats", "lower")]
    tokens_per_second: Annotated[
        float, Column("without compilation; on a CPU trainings run side by side", "tokens/s", "higher")
    ]
    model_flops_utilization: Annotated[
        float, Column("work of all positions over the peak that the device's maker states", "1", "higher")
    ]
    compile_seconds: Annotated[float, Column("time of the calls that capture the graphs", "s", "lower")]
    wall_seconds: Annotated[float, Column("time of the whole cell", "s", "lower")]
    peak_memory_bytes: Annotated[
        int, Column("everything that its captured graphs read and write, with the parameters", "bytes", "lower")
    ]
    kept_step: Annotated[
        int, Column("step of the weights that are measured: the last, or the best on the validation split", "steps")
    ]
    micro_batch: Annotated[int, Column("sequences read at once; the whole batch if it fits", "numbers")]
    devices: Annotated[int, Column("devices that shared each step", "numbers")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingCell(Cell):
    """One network. Its checkpoint lies in the store under the hash of the cell."""

    kind = "training"
    prefix = "training"
    file = "training"
    columns = TrainingRow
    unlisted = frozenset({"curve"})
    trains = True
    evaluates = True

    family: Family
    schedule: Schedule | None
    seed: int
    judges: bool = False
    """Whether it is only trained to judge samples: its curve is not shown."""

    @classmethod
    def plan(cls, experiment: Experiment, planned: Sequence[Cell]) -> Iterator[Cell]:
        yield from (model.training for model in models(experiment) if model.training is not None)
        judge = judging(experiment)
        if judge is not None:
            yield judge

    @property
    def content(self) -> dict[str, Any]:
        config = self.experiment.config
        return {
            **self.experiment.text, "family": self.experiment.content(self.family),
            "schedule": self.experiment.content(self.schedule), "training_seed": self.seed,
            "model": dataclasses.asdict(config.model), "training": config.training.identity(),
            "device": device_of(self.experiment),
        }  # fmt: skip

    @property
    def labels(self) -> dict[str, Any]:
        return {**self.experiment.names, "family": self.family.spec, "schedule": spec_of(self.schedule),
                "training_seed": self.seed}  # fmt: skip

    @property
    def facts(self) -> dict[str, Any]:
        config = self.experiment.config
        return {"tokens_of_a_step": config.training.batch_size * config.length, "judges": self.judges}

    @property
    def group(self) -> str:
        return self.family.spec

    def batch(self, bench: Workbench) -> tuple[str, int]:
        if self.family.causal:
            return "generation", bench.generation_batch
        return "likelihood", bench.likelihood_batch

    def make(self, bench: Workbench, progress: Progress) -> dict[str, Any]:
        from ...training.loop import train

        config, partial = self.experiment.config.training, f"{self.hash}-partial"
        graph, reached = self._resume(bench, partial)
        whole = graph.micro_batch == config.batch_size
        parts = "" if whole else f", {graph.micro_batch} of {config.batch_size} sequences at once"

        def save(now: TrainingProgress) -> None:
            bench.store.save_checkpoint(partial, graph.state(), vars(now))

        reached = train(
            graph, self.schedule, bench.dataset.train.tokens, self.seed, reached,
            validate=lambda values, last: self._validated(bench, values, last, reached), save=save,
            report=lambda step, loss: progress(step, config.train_steps, f"loss {loss:.3f}{parts}"),
        )  # fmt: skip
        best = bench.store.load_checkpoint(f"{self.hash}-best") if reached.best_step else None
        values = graph.averaged() if best is None else best[0]
        bench.store.save_checkpoint(self.hash, values, {"content": self.content, "labels": self.labels})
        for unfinished in (partial, f"{self.hash}-best"):
            bench.store.checkpoint_path(unfinished).unlink(missing_ok=True)
        return {**self._record(graph, reached), "kept_step": reached.best_step if best else config.train_steps}

    def _resume(self, bench: Workbench, partial: str) -> tuple[TrainingGraph, TrainingProgress]:
        """The training as it was last saved, or at its beginning."""
        from ...training.loop import Progress as TrainingProgress

        saved = bench.store.load_checkpoint(partial)
        known = TrainingProgress.__dataclass_fields__  # a state of another release may have other fields
        reached = TrainingProgress(**{k: v for k, v in saved[1].items() if k in known}) if saved else TrainingProgress()
        graph = bench.training_graph(self.family, self.schedule, reached.micro_batch)
        if saved is None:
            graph.start(bench.initial_parameters(self.family, self.seed))
        else:
            graph.restore(saved[0])
        return graph, reached

    def _validated(
        self, bench: Workbench, values: Parameters, last: bool, reached: TrainingProgress
    ) -> dict[str, float | None]:
        """The columns of a point, whose last has more sequences and draws. The weights are kept if they are asked for
        and are the best so far, on the sequences and masks of all points but the last."""
        columns = self._validation(bench, values, LAST if last else ALONG)
        if self.experiment.config.training.keep == "best":
            nats = (self._validation(bench, values, ALONG) if last else columns)["validation_nats_per_token"]
            assert nats is not None
            if not reached.best_step or nats < reached.best_nats:
                reached.best_step, reached.best_nats = reached.step, nats
                bench.store.save_checkpoint(f"{self.hash}-best", values, {"step": reached.step})
        return columns

    def _validation(self, bench: Workbench, values: Parameters, amount: Amount) -> dict[str, float | None]:
        """Nats per token of the first validation sequences with their error, exact or the bound by exact-k."""
        from ...measure.likelihood import causal_likelihood, masked_likelihood

        tokens = validation_tokens(bench, amount)
        if self.family.causal:
            nats = causal_likelihood(bench.causal(self.family, values), tokens)
        else:
            evaluator = bench.masked(self.family, values, batch=bench.likelihood_batch)
            nats = masked_likelihood(evaluator, tokens, amount.draws, None, clock=self.schedule)
        clusters = bench.dataset.validation.clusters(len(nats))
        value, error = mean_and_error(nats / bench.dataset.length, clusters)
        return {
            "validation_nats_per_token": value, "validation_nats_per_token_se": error,
            "validation_sequences": len(nats), "validation_clusters": len(np.unique(clusters)),
        }  # fmt: skip

    def _record(self, graph: TrainingGraph, reached: TrainingProgress) -> dict[str, Any]:
        from ...engine import device
        from ...engine.graph import held

        config, length = self.experiment.config.training, self.experiment.config.length
        per_step = config.batch_size * length
        speed = per_step / float(np.median(reached.step_seconds)) if reached.step_seconds else None
        peak = device.published_peak()
        work = 3 * graph.model.forward_flops() / length  # of a token: the gradients take twice as much again
        return {
            "parameters": graph.model.parameter_count(), "embedding_parameters": graph.model.embedding_parameters(),
            "train_steps": config.train_steps, "train_tokens": config.train_steps * per_step,
            "train_flops_per_token": graph.operations / per_step,
            "final_loss": float(np.mean([point["loss"] for point in reached.curve[-5:]])),
            "tokens_per_second": speed,
            "model_flops_utilization": work * speed / (peak * config.devices) if speed and peak else None,
            "compile_seconds": reached.compile_seconds,
            "wall_seconds": reached.wall_seconds + reached.compile_seconds,
            "peak_memory_bytes": held(graph.graphs), "micro_batch": graph.micro_batch,
            "devices": config.devices, "curve": reached.curve,
        }  # fmt: skip

    @staticmethod
    def summary(record: Record) -> str:
        return f"loss {record['final_loss']:.3f}"

    @classmethod
    def row(cls, entry: Entry, record: Record) -> Row:
        return {**super().row(entry, record), "checkpoint": entry.hash}

    @classmethod
    def more_rows(cls, entry: Entry, record: Record) -> dict[str, list[Row]]:
        if entry.facts["judges"]:
            return {}
        per_step = entry.facts["tokens_of_a_step"]
        points: list[Row] = [
            {**entry.labels, "checkpoint": entry.hash, **point, "train_tokens": point["train_step"] * per_step}
            for point in record["curve"]
        ]
        return {"curves": points}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuredModel:
    """A model that cells measure: a trained network, or an untrained family."""

    experiment: Experiment = dataclasses.field(repr=False, compare=False)
    family: Family
    schedule: Schedule | None = None
    training: TrainingCell | None = None

    @property
    def content(self) -> dict[str, Any]:
        """What identifies the model in the content of a cell."""
        if self.training is not None:
            return {"checkpoint": self.training.hash}
        content = self.experiment.content(self.family)
        return {**self.experiment.text, "family": content, "device": device_of(self.experiment)}

    @property
    def labels(self) -> dict[str, Any]:
        """What its rows begin with."""
        if self.training is not None:
            return {**self.training.labels, "checkpoint": self.training.hash}
        return {**self.experiment.names, "family": self.family.spec, "schedule": None, "control": self.family.control}

    @property
    def needs(self) -> tuple[str, ...]:
        """The training that must be finished."""
        return () if self.training is None else (self.training.hash,)

    def parameters(self, bench: Workbench) -> Parameters | None:
        """The parameters of the checkpoint; None for an untrained family."""
        return None if self.training is None else bench.parameters(self.training.hash)


def models(experiment: Experiment) -> list[MeasuredModel]:
    """The models of the grid: every family, under every schedule if it has one, of every training seed."""
    found = []
    for family in experiment.families:
        if not family.trained:
            found.append(MeasuredModel(experiment=experiment, family=family))
            continue
        for schedule in experiment.schedules if family.uses_schedule else [None]:
            for seed in experiment.config.training_seeds:
                cell = TrainingCell(experiment=experiment, family=family, schedule=schedule, seed=seed)
                found.append(
                    MeasuredModel(experiment=experiment, family=family, schedule=schedule, training=cell)
                )
    return found


def judging(experiment: Experiment) -> TrainingCell | None:
    """The training of the network that judges: of another seed, so that no network judges itself."""
    if experiment.judge_family is None:
        return None
    config = experiment.config
    offset = config.generation.judge_seed_offset
    seed = min(config.training_seeds) + offset
    while seed in config.training_seeds:
        seed += offset
    return TrainingCell(experiment=experiment, family=experiment.judge_family, schedule=None, seed=seed, judges=True)


def device_of(experiment: Experiment) -> str:
    """Device and precision, as they are part of the content of a cell."""
    return f"{experiment.device} {experiment.precision}"


def spec_of(component: Component | None) -> str | None:
    """The name and parameters of a plugin object, as a label."""
    return None if component is None else component.spec

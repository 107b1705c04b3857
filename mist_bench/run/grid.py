"""From a configuration to its cells: every combination of the grid, in an order in which each can be made."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from ..api.component import Component, UserError, parts
from ..api.corpora import Corpus
from ..api.families import Family
from ..api.metrics import Metric
from ..api.samplers import Sampler
from ..api.schedules import Schedule
from ..api.tokenizers import Tokenizer
from ..engine import beam
from ..host.config import RunConfig
from ..host.presets import own_length
from ..host.registry import Kind as PluginKind
from ..host.registry import Registry, kind_of
from ..host.values import parse_spec, suggest
from ..hub.models import HubModel, find_model
from .cells import Cell, Kind

ORACLE_DRAWS = 4
OWN = "mist-bench"
"""The distribution whose plugins change only with FORMAT; any other's code is part of its cells' content."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The objects of a run and its cells, in an order in which each can be made."""

    config: RunConfig
    corpus: Corpus
    tokenizer: Tokenizer
    length: int
    cells: tuple[Cell, ...]
    judge: Cell | None
    """The training of the network that judges, if it is one of ours."""
    text_judge: HubModel | None = None
    """The model of somebody else that judges texts instead."""


def plan(config: RunConfig, registry: Registry, device: str, precision: str) -> Plan:
    """Checks every name of the grid and lays out the cells. Raises `UserError` before anything is made."""
    corpus, tokenizer = registry.make("corpus", config.corpus), registry.make("tokenizer", config.tokenizer)
    length = own_length(corpus, tokenizer) or config.length
    config = dataclasses.replace(config, length=length)  # run.json says what was done
    world = corpus.oracle() is not None and tokenizer.name == "word"
    grid = _Grid(config, registry, corpus, tokenizer, length, f"{device} {precision}", world)
    cells = list({cell.hash: cell for cell in grid.all()}.values())
    order: list[Kind] = ["training", "likelihood", "generation", "judgement", "metric"]
    cells.sort(key=lambda cell: order.index(cell.kind))
    return Plan(
        config=config, corpus=corpus, tokenizer=tokenizer, length=length, cells=tuple(cells), judge=grid.judge,
        text_judge=grid.text_judge,
    )  # fmt: skip


class _Grid:
    """The cells of one configuration."""

    def __init__(
        self, config: RunConfig, registry: Registry, corpus: Corpus, tokenizer: Tokenizer, length: int, device: str,
        world: bool,
    ) -> None:  # fmt: skip
        self.config, self.registry, self.device, self.world = config, registry, device, world
        self.families: list[Family] = [registry.make("family", spec) for spec in config.families]
        self.schedules: list[Schedule] = [registry.make("schedule", spec) for spec in config.schedules]
        self.samplers: list[Sampler] = [registry.make("sampler", spec) for spec in config.samplers]
        self.metrics: list[Metric] = [registry.make("metric", spec) for spec in config.generation.metrics]
        self.text = {
            "corpus": {**corpus.identity(), **self._code("corpus", corpus)},
            "tokenizer": self._content("tokenizer", tokenizer), "length": length,
        }  # fmt: skip
        self.names = {"corpus": corpus.spec, "tokenizer": tokenizer.spec}
        self.prompt = config.generation.prompt
        self.text_judge = judge_model(config.generation.judge) if config.generation.judged_by_text else None
        self.judge = self._judge()
        self._checked = False
        if self.prompt >= length:
            raise UserError(f"generation.prompt is {self.prompt}, but texts have {length} tokens; give fewer")
        idle = [sampler.spec for sampler in self.samplers if sampler.needs_prompt and not self.prompt]
        if idle:
            raise UserError(f"sampler {idle[0]!r} needs a prompt; give each sample one: --set generation.prompt=16")
        if any(not family.trained for family in self.families) and not world:
            raise UserError(
                "family 'oracle' needs a corpus that knows its own truth, with its own tokenizer: "
                "--corpus tales --tokenizer word (or --corpus markov)"
            )

    def _code(self, kind: PluginKind, component: Component) -> dict[str, str]:
        """The digest of the file of a plugin that is not our own: edited, it makes other cells."""
        origin = self.registry.origin(kind, component.name)
        return {} if origin.distribution == OWN else {"code": origin.digest()}

    def _content(self, kind: PluginKind, component: Component | None) -> dict[str, Any] | None:
        if component is None:
            return None
        inside = {name: self._content(kind_of(type(part)) or kind, part) for name, part in parts(component).items()}
        return {**component.content(), **inside, **self._code(kind, component)}

    def all(self) -> Iterator[Cell]:
        models = [model for family in self.families for model in self._models(family)]
        yield from (cell for cell, _ in models if cell is not None)
        if self.judge is not None:
            yield self.judge
        for training, (family, schedule, labels) in models:
            yield from self._likelihoods(family, schedule, training, labels)
        yield from self._likelihood_controls()
        generations = [
            cell
            for training, (family, schedule, labels) in models
            for cell in self._generations(family, schedule, training, labels)
        ]
        generations += list(self._generation_controls())
        yield from generations
        if self.judge is not None or self.text_judge is not None:
            yield from (self._judgement(cell) for cell in generations)
        for metric in self.metrics:
            who = {**metric.identity(), **self._code("metric", metric)}
            yield from (self._metric(cell, metric, who) for cell in generations)

    def _training(self, family: Family, schedule: Schedule | None, seed: int) -> Cell:
        content = {
            **self.text, "family": self._content("family", family),
            "schedule": self._content("schedule", schedule),
            "training_seed": seed, "model": dataclasses.asdict(self.config.model),
            "training": self.config.training.identity(), "device": self.device,
        }  # fmt: skip
        labels = {**self.names, "family": family.spec, "schedule": schedule.spec if schedule else None,
                  "training_seed": seed}  # fmt: skip
        return Cell(kind="training", content=content, labels=labels, family=family, schedule=schedule)

    def _models(self, family: Family) -> Iterator[tuple[Cell | None, tuple[Family, Schedule | None, dict[str, Any]]]]:
        """Each model of a family: its training cell (None for the oracle), and what its rows are labelled with."""
        if not family.trained:
            labels = {**self.names, "family": family.spec, "schedule": None, "control": "oracle"}
            yield None, (family, None, labels)
            return
        for schedule in self.schedules if family.uses_schedule else [None]:
            for seed in self.config.training_seeds:
                cell = self._training(family, schedule, seed)
                yield cell, (family, schedule, {**cell.labels, "checkpoint": cell.hash})

    def _model_content(self, family: Family, training: Cell | None) -> dict[str, Any]:
        if training is not None:
            return {"checkpoint": training.hash}
        return {**self.text, "family": self._content("family", family), "device": self.device}

    def _likelihood(
        self, family: Family, training: Cell | None, labels: dict[str, Any], estimator: str, draws: int,
        schedule: Schedule | None = None, *, sequences: int | None = None, kind: str | None = None,
    ) -> Cell:  # fmt: skip
        content = {
            **self._model_content(family, training), "estimator": estimator, "draws": draws,
            "sequences": sequences or self.config.likelihood.sequences,
            "evaluation_schedule": self._content("schedule", schedule),
        }  # fmt: skip
        if estimator == "exact-k" and family.trained and self.config.likelihood.target_se:
            content["target_se"] = self.config.likelihood.target_se  # absent without one: the cells of before stay
        more = {"kind": kind or family.likelihood_kind, "estimator": estimator, "mask_draws": draws or None,
                "evaluation_schedule": schedule.spec if schedule else None}  # fmt: skip
        return Cell(kind="likelihood", content=content, labels={**labels, **more}, family=family, schedule=schedule,
                    needs=(training.hash,) if training else ())  # fmt: skip

    def _draws(self, family: Family) -> int:
        """An oracle's bound differs from the truth by mask noise alone: it takes more draws, and cheap ones."""
        return self.config.likelihood.mask_draws * (1 if family.trained else ORACLE_DRAWS)

    def _likelihoods(
        self, family: Family, schedule: Schedule | None, training: Cell | None, labels: dict[str, Any]
    ) -> Iterator[Cell]:
        settings = self.config.likelihood
        if family.likelihood_kind != "bound":
            yield self._likelihood(family, training, labels, "chain-rule", 0)
            return
        yield self._likelihood(family, training, labels, "exact-k", self._draws(family))
        if family.trained and settings.chain_rule_sequences:
            few = min(settings.chain_rule_sequences, settings.sequences)
            yield self._likelihood(family, training, labels, "chain-rule", 0, sequences=few, kind="chain-rule")
        if self._checked or not family.trained or settings.weighted_draws == 0:
            return
        self._checked = True  # one checkpoint under several weights shows whether the estimators agree
        for spec in settings.evaluation_schedules:
            other = self.registry.make("schedule", spec)
            if other.reaches_all:
                yield self._likelihood(family, training, labels, "weighted", settings.weighted_draws, other)

    def _likelihood_controls(self) -> Iterator[Cell]:
        """The oracle's own bound, where there is an oracle, tests the estimator; the unigram is what to beat."""
        if self.world:
            family: Family = self.registry.make("family", "oracle")
            labels = {**self.names, "family": family.spec, "control": "oracle"}
            yield self._likelihood(family, None, labels, "exact-k", self._draws(family))
        content = {**self.text, "control": "unigram", "sequences": self.config.likelihood.sequences}
        labels = {**self.names, "family": "unigram", "control": "unigram", "kind": "exact", "estimator": "chain-rule"}
        yield Cell(kind="likelihood", content=content, labels=labels)

    def _generations(
        self, family: Family, schedule: Schedule | None, training: Cell | None, labels: dict[str, Any]
    ) -> Iterator[Cell]:
        causal = family.likelihood_kind == "exact"
        samplers: list[Sampler] = [self.registry.make("sampler", "autoregressive")] if causal else self.samplers
        schedules = [schedule] if schedule or causal else self.schedules
        for sampler in samplers:
            for used in schedules:
                for steps in self.config.steps if sampler.uses_steps else [None]:
                    for temperature in self.config.temperatures:
                        for seed in self.config.seeds:
                            yield self._generation(
                                family, used, training, labels, sampler=sampler, steps=steps,
                                temperature=temperature, seed=seed,
                            )  # fmt: skip

    def _generation(
        self, family: Family, schedule: Schedule | None, training: Cell | None, labels: dict[str, Any], *,
        sampler: Sampler, steps: int | None, temperature: float, seed: int,
    ) -> Cell:  # fmt: skip
        settings = self.config.generation
        content = {
            **self._model_content(family, training), "sampling_schedule": self._content("schedule", schedule),
            "sampler": self._content("sampler", sampler), "steps": steps, "temperature": temperature, "seed": seed,
            "samples": self._samples(family.trained), "batch_size": settings.batch_size, "rounds": settings.rounds,
            "nucleus": settings.nucleus,
        }  # fmt: skip
        if beam.width():  # a speed belongs to a command; a checkpoint does not, since a search changes rounding alone
            content["beam"] = beam.width()
        if self.prompt:
            content |= {"prompt": self.prompt, **self.text}  # the prompts are of the text
        more = {"schedule": schedule.spec if schedule else None, "sampler": sampler.spec, "steps": steps,
                "temperature": temperature, "seed": seed, "batch": settings.batch_size or None,
                "prompt": self.prompt or None}  # fmt: skip
        return Cell(kind="generation", content=content, labels={**labels, **more}, family=family, schedule=schedule,
                    sampler=sampler, needs=(training.hash,) if training else ())  # fmt: skip

    def _samples(self, trained: bool) -> int:
        settings = self.config.generation
        return settings.samples if trained else settings.oracle_samples

    def _generation_controls(self) -> Iterator[Cell]:
        samples = self._samples(any(family.trained for family in self.families))
        for control in ("data", "unigram", "repeater", *(["oracle"] if self.world else [])):
            content = {**self.text, "control": control, "samples": samples}
            yield Cell(kind="generation", content=content, labels={**self.names, "control": control})

    def _metric(self, generation: Cell, metric: Metric, who: dict[str, Any]) -> Cell:
        content = {"generation": generation.hash, "metric": who}
        labels = {**generation.labels, "metric": metric.spec}
        return Cell(kind="metric", content=content, labels=labels, needs=(generation.hash,), metric=metric)

    def _judge(self) -> Cell | None:
        """A baseline of another training seed, so that no network judges itself."""
        if self.config.generation.judge == "none" or self.text_judge is not None:
            return None
        offset = self.config.generation.judge_seed_offset
        seed = min(self.config.training_seeds) + offset
        while seed in self.config.training_seeds:
            seed += offset
        return self._training(self.registry.make("family", "autoregressive"), None, seed)

    def _judgement(self, generation: Cell) -> Cell:
        who: str | dict[str, Any]
        needs: tuple[str, ...]
        if self.text_judge is not None:
            who, name, needs = self.text_judge.identity(), f"hf:{self.text_judge.title}", (generation.hash,)
        else:
            assert self.judge is not None
            who, name = self.judge.hash, f"autoregressive, seed {self.judge.labels['training_seed']}"
            needs = (generation.hash, self.judge.hash)
        content = {"generation": generation.hash, "judge": who}
        return Cell(kind="judgement", content=content, labels={**generation.labels, "judge": name}, needs=needs)


def judge_model(spec: str) -> HubModel:
    """The model that `hf:NAME`, `hf:FOLDER` or `hf[model=NAME,revision=COMMIT]` stands for. Raises `UserError`."""
    asked, known = parse_spec(spec), ("model", "revision")
    given = dict(asked.given) | ({} if asked.first is None else {"model": asked.first})
    if unknown := [key for key in given if key not in known]:
        raise UserError(f"judge {spec!r} has no parameter {unknown[0]!r}; {suggest(unknown[0], known)}")
    if not given.get("model"):
        raise UserError(f"judge {spec!r} names no model; write hf:OWNER/NAME, e.g. hf:gpt2, or hf:FOLDER")
    return find_model(given["model"], revision=given.get("revision", ""), asked=f"judge {spec!r}")

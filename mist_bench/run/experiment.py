"""An experiment: the configuration of a run, and every object that it names, made once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from ..api.component import Component, UserError, parts
from ..api.corpora import Corpus
from ..api.families import CONTROLS, Family
from ..api.metrics import Metric
from ..api.samplers import Sampler
from ..api.schedules import Schedule
from ..api.tokenizers import Tokenizer
from ..host.config import RunConfig
from ..host.discovery import Plugin
from ..host.registry import OWN, Registry, kind_of
from ..host.registry import Kind as PluginKind
from ..host.values import parse_spec, suggest
from ..hub.models import HubModel, find_model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A configuration with its plugin objects."""

    config: RunConfig
    """The settings, with the length that is used, and every name in its shortest form."""
    device: str
    precision: str
    corpus: Corpus
    tokenizer: Tokenizer
    families: tuple[Family, ...]
    schedules: tuple[Schedule, ...]
    samplers: tuple[Sampler, ...]
    metrics: tuple[Metric, ...]
    evaluation_schedules: tuple[Schedule, ...]
    causal_sampler: Sampler | None
    """The sampler that labels the rows of causal families."""
    judge_family: Family | None
    """The family of the network that judges, if one of ours does."""
    text_judge: HubModel | None
    """A model of the Hub that judges texts instead."""
    perfect: Family | None
    """The family that is the corpus's own law, where the corpus and the tokenizer have one."""
    codes: Mapping[tuple[PluginKind, str], str]
    """Digest of the file of each plugin in use that is not our own, by kind and name: edited, it makes different cells.
    Our own plugins change only with FORMAT."""
    plugins: tuple[Plugin, ...]
    """All plugins, for messages and for other processes."""
    left_out: tuple[str, ...] = ()
    """A line for each thing that the preset names and that does not apply."""

    @classmethod
    def of(
        cls, config: RunConfig, registry: Registry, device: str, precision: str, *, written_for: str | None = None,
        length_asked: bool = False, families_asked: bool = True,
    ) -> Experiment:  # fmt: skip
        """Make every object that the configuration names. Raises `UserError` before anything is computed.

        A corpus may fix the length. A length that was written for the corpus `written_for` (a preset's), or was asked
        for, must agree with it; any other gives way. Unless families were asked for, those that do not apply to the
        corpus are left out.
        """
        corpus: Corpus = registry.make("corpus", config.corpus)
        tokenizer: Tokenizer = registry.make("tokenizer", config.tokenizer)
        length = _length(config, corpus, tokenizer, written_for, length_asked)
        families = _made(registry, "family", config.families)
        schedules = _made(registry, "schedule", config.schedules)
        samplers = _made(registry, "sampler", _samplers(config, registry))
        metrics = _made(registry, "metric", config.generation.metrics)
        evaluation = _made(registry, "schedule", config.likelihood.evaluation_schedules)
        judge, text_judge = _judge(config, registry)
        world = corpus.oracle() is not None and tokenizer.keeps_pieces
        perfect = registry.first("family", "needs_oracle") if world else None
        families, left_out = (families, ()) if families_asked or perfect else _without_oracles(families)
        causal = [*families, *([judge] if judge else [])]
        causal_sampler = registry.first("sampler", "left_to_right") if any(each.causal for each in causal) else None
        config = dataclasses.replace(
            config, length=length, families=_specs(families), schedules=_specs(schedules), samplers=_specs(samplers),
            generation=dataclasses.replace(config.generation, metrics=_specs(metrics)),
        )  # fmt: skip
        objects = [corpus, tokenizer, *families, *schedules, *samplers, *metrics, *evaluation]
        objects += [each for each in (judge, perfect, causal_sampler) if each is not None]
        made = cls(
            config=config, device=device, precision=precision, corpus=corpus, tokenizer=tokenizer, families=families,
            schedules=schedules, samplers=samplers, metrics=metrics, evaluation_schedules=evaluation,
            causal_sampler=causal_sampler, judge_family=judge, text_judge=text_judge, perfect=perfect,
            codes=_codes(registry, objects), plugins=tuple(registry.plugins()), left_out=left_out,
        )  # fmt: skip
        made._check(registry)
        return made

    def _check(self, registry: Registry) -> None:
        prompt, length = self.config.generation.prompt, self.config.length
        if prompt >= length:
            raise UserError(f"generation.prompt is {prompt}, but texts have {length} tokens; give fewer")
        idle = [sampler.spec for sampler in self.samplers if sampler.needs_prompt and not prompt]
        if idle:
            raise UserError(f"sampler {idle[0]!r} needs a prompt; give each sample one: --set generation.prompt=16")
        if taken := [family for family in self.families if family.control in CONTROLS]:
            name, control = taken[0].spec, taken[0].control
            raise UserError(f"family {name!r} declares control = {control!r}, which every run has; give another name")
        if self.perfect is None and (lost := [family for family in self.families if family.needs_oracle]):
            worlds = [n for n in registry.names("corpus") if registry.get("corpus", n).oracle is not Corpus.oracle]
            own = [n for n in registry.names("tokenizer") if registry.get("tokenizer", n).keeps_pieces]
            raise UserError(
                f"family {lost[0].spec!r} needs a corpus with a known law ({', '.join(worlds)}), with the corpus's "
                f"own pieces as tokens: --corpus {worlds[0]} --tokenizer {own[0]}; or leave the family out"
            )

    def content(self, component: Component | None) -> dict[str, Any] | None:
        """Name and parameters of a plugin object and of its parts, as they are part of the content of cells."""
        if component is None:
            return None
        inside = {name: self.content(part) for name, part in parts(component).items()}
        return {**component.content(), **inside, **self.code(component)}

    def code(self, component: Component) -> dict[str, str]:
        """The digest of the plugin's code, if the plugin is not our own."""
        kind = kind_of(type(component))
        digest = None if kind is None else self.codes.get((kind, component.name))
        return {} if digest is None else {"code": digest}

    @cached_property
    def text(self) -> dict[str, Any]:
        """The content of everything that is measured on this corpus."""
        corpus = {**self.corpus.identity(), **self.code(self.corpus)}
        return {"corpus": corpus, "tokenizer": self.content(self.tokenizer), "length": self.config.length}

    @property
    def names(self) -> dict[str, Any]:
        """The labels of everything that is measured on this corpus."""
        return {"corpus": self.corpus.spec, "tokenizer": self.tokenizer.spec}


def _without_oracles(families: tuple[Family, ...]) -> tuple[tuple[Family, ...], tuple[str, ...]]:
    """The families that need no known law, if there are any, and a line for each of the others."""
    rest = tuple(family for family in families if not family.needs_oracle)
    if not rest:
        return families, ()
    lost = [family.spec for family in families if family.needs_oracle]
    reason = "it needs a corpus with a known law, with the corpus's own pieces as tokens"
    return rest, tuple(f"family {spec!r} of the preset is left out: {reason}" for spec in lost)


def _made(registry: Registry, kind: PluginKind, specs: Iterable[str]) -> tuple[Any, ...]:
    """The objects of these texts, each once: `confidence` and `confidence[score=proposal]` are one."""
    return tuple({made.spec: made for made in (registry.make(kind, spec) for spec in specs)}.values())


def _specs(components: Iterable[Component]) -> tuple[str, ...]:
    return tuple(component.spec for component in components)


def _samplers(config: RunConfig, registry: Registry) -> list[str]:
    """The samplers by name; `all` is every one that has defaults, and has something to do."""
    prompt = bool(config.generation.prompt)
    every = [s for s in registry.with_defaults("sampler") if prompt or not registry.get("sampler", s).needs_prompt]
    return [name for spec in config.samplers for name in (every if spec == "all" else [spec])]


def _length(config: RunConfig, corpus: Corpus, tokenizer: Tokenizer, written_for: str | None, asked: bool) -> int:
    """The length of a sequence; raises `UserError` if it was asked for and differs from that of the corpus."""
    own = corpus.fixed_length()
    if own is None or own == config.length:
        return config.length
    if not asked and config.corpus != written_for:
        return own if written_for is not None or tokenizer.keeps_pieces else config.length
    if not tokenizer.keeps_pieces:
        return config.length
    advice = f"leave --set length away, or give length={own}" if asked else f"write length = {own} in the preset"
    if hasattr(corpus, "length"):  # a parameter of the world
        advice += f", or take another world: --corpus '{corpus.name}[length={config.length}]'"
    raise UserError(f"length is {config.length}, but sequences of {corpus.spec} have {own} tokens; {advice}")


def _judge(config: RunConfig, registry: Registry) -> tuple[Family | None, HubModel | None]:
    """The family, or the model of the Hub, that judges; neither if `generation.judge` is `none`."""
    name = config.generation.judge
    if name == "none":
        return None, None
    if config.generation.judged_by_text:
        return None, judge_model(name)
    family: Family = registry.first("family", "judges") if name == "auto" else registry.make("family", name)
    if not family.judges:
        known = [each for each in registry.names("family") if registry.get("family", each).judges]
        raise UserError(f"family {name!r} cannot judge; generation.judge is auto, {', '.join(known)}, hf:NAME or none")
    return family, None


def _codes(registry: Registry, components: Iterable[Component]) -> dict[tuple[PluginKind, str], str]:
    """The digest of the file of each object, and of the parts of it, whose plugin is not our own, by kind and name."""
    found: dict[tuple[PluginKind, str], str] = {}
    waiting = list(components)
    while waiting:
        component = waiting.pop()
        waiting += parts(component).values()
        kind = kind_of(type(component))
        if kind is not None:
            origin = registry.origin(kind, component.name)
            if origin.distribution != OWN:
                found[kind, component.name] = origin.digest()
    return found


def judge_model(spec: str) -> HubModel:
    """The model that `hf:NAME`, `hf:FOLDER` or `hf[model=NAME,revision=COMMIT]` stands for. Raises `UserError`."""
    asked, known = parse_spec(spec), ("model", "revision")
    given = dict(asked.given) | ({} if asked.first is None else {"model": asked.first})
    if unknown := [key for key in given if key not in known]:
        raise UserError(f"judge {spec!r} has no parameter {unknown[0]!r}; {suggest(unknown[0], known)}")
    if not given.get("model"):
        raise UserError(f"judge {spec!r} names no model; write hf:OWNER/NAME, e.g. hf:gpt2, or hf:FOLDER")
    return find_model(given["model"], revision=given.get("revision", ""), asked=f"judge {spec!r}")

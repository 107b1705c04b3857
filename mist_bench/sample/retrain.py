"""The command that trains a network: from a configuration back to `mist-bench run …`."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..host.config import HOW_IT_IS_READ, RunConfig
from ..host.presets import load_preset, preset_names
from ..host.registry import Kind, Registry
from ..host.values import parse_spec

DEFAULT_STORE = Path("results/store")


def training_command(config: RunConfig, registry: Registry, store: Path) -> str:
    """What to type for the first family, schedule and training seed of the configuration.

    A preset that does not come with mist-bench is known by its name alone, so its settings are written out against the
    one that comes nearest.
    """
    base = _base(config)
    words = ["mist-bench", "run", "--preset", base.preset]
    for name in ("corpus", "tokenizer"):
        if getattr(config, name) != getattr(base, name):
            words += [f"--{name}", getattr(config, name)]
    words += ["--family", config.families[0]]
    if registry.make("family", config.families[0]).uses_schedule:
        words += ["--schedule", config.schedules[0]]
    words += ["--training-seed", str(config.training_seeds[0])]
    for setting in _settings(config, base):
        words += ["--set", setting]
    for file in _loose_files(config, registry):
        words += ["--plugin", file]
    words += ["--store", str(store)] if store != DEFAULT_STORE else []
    return shlex.join(words)


def _base(config: RunConfig) -> RunConfig:
    names = [config.preset] if config.preset in preset_names() else preset_names()
    return min((load_preset(name) for name in names), key=lambda base: len(list(_settings(config, base))))


def _settings(config: RunConfig, base: RunConfig) -> Iterator[str]:
    """`SECTION.KEY=VALUE` of everything that decides a training and differs."""
    if config.length != base.length:
        yield f"length={config.length}"
    for section in ("model", "training"):
        mine: Any = getattr(config, section)
        other: Any = getattr(base, section)
        for field in dataclasses.fields(mine):
            value = getattr(mine, field.name)
            if value != getattr(other, field.name) and field.name not in HOW_IT_IS_READ:
                yield f"{section}.{field.name}={value}"


def _loose_files(config: RunConfig, registry: Registry) -> list[str]:
    used: list[tuple[Kind, str]] = [
        ("corpus", config.corpus), ("tokenizer", config.tokenizer), ("family", config.families[0]),
        ("schedule", config.schedules[0]),
    ]  # fmt: skip
    origins = [registry.origin(kind, parse_spec(spec).name) for kind, spec in used]
    return list(dict.fromkeys(plugin.file for plugin in origins if not plugin.distribution))

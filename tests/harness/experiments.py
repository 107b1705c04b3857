"""Experiments and their cells, on the smallest grid unless another is given; a workbench and a cell made with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mist_bench.host.config import RunConfig
from mist_bench.host.presets import load_preset, override
from mist_bench.host.registry import Registry
from mist_bench.run.cells import Cell
from mist_bench.run.experiment import Experiment
from mist_bench.run.grid import lay_out
from mist_bench.run.store import Store
from mist_bench.run.workbench import Workbench

from . import GRID

REGISTRY = Registry.discover()


def experiment(
    config: RunConfig | None = None, *, registry: Registry = REGISTRY, device: str = "CPU", precision: str = "float32",
    settings: Sequence[str] = (), **given: Any,
) -> Experiment:  # fmt: skip
    """The experiment of a configuration, with what `--set` and the fields of a run change in it."""
    config = override(config or load_preset(GRID), settings, **given)
    return Experiment.of(config, registry, device, precision)


def cells(config: RunConfig | None = None, **given: Any) -> tuple[Cell, ...]:
    """The cells of `experiment(...)`."""
    return lay_out(experiment(config, **given))


def bench_of(made: Experiment, store: Path) -> Workbench:
    """A workbench with a store in a folder."""
    return Workbench(made, Store(store))


def silent(done: int, total: int, note: str) -> None:
    """Progress that nobody watches."""

"""Small trainings: a graph for each family and each way to read a batch, captured once for all tests of a process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from mist_bench_plugins.family_autoregressive import AutoregressiveFamily
from mist_bench_plugins.family_mdlm import MdlmFamily
from mist_bench_plugins.schedule_linear import LinearSchedule

from harness.brute_force import WORLD, L, S, shaken
from mist_bench import NetworkSize
from mist_bench.host.config import TrainingConfig
from mist_bench.training import loop
from mist_bench.training.step import TrainingGraph

SIZE = NetworkSize(dim=8, layers=1, heads=2, feed_forward=16, conditioning_dim=8)
BATCH = 8
CONFIG = TrainingConfig(
    train_steps=8, batch_size=BATCH, learning_rate=1e-2, warmup_steps=0, weight_decay=0.1, beta1=0.9, beta2=0.99,
    gradient_clip=0.5, ema_decay=0.8, validate_every=4, checkpoint_every=4,
)  # fmt: skip
DATA = WORLD.sample(100, np.random.default_rng(0))
FAMILIES = {
    "mdlm": MdlmFamily(),
    "self-conditioned": MdlmFamily(self_conditioning=True),
    "autoregressive": AutoregressiveFamily(),
}


@cache
def graph(family: str, micro_batch: int = BATCH, devices: int = 1) -> TrainingGraph:
    made, config = FAMILIES[family], replace(CONFIG, micro_batch=micro_batch, devices=devices)
    return TrainingGraph(made, made.create(SIZE, S, L, 0, None), config)


def start(its: TrainingGraph) -> TrainingGraph:
    """Start a training from random numbers, also for those parameters that start at zero."""
    model = its.family.create(SIZE, S, L, 1, None)
    shaken(model, 5)
    its.start({name: tensor.numpy() for name, tensor in model.parameters.items()})
    return its


def train(its: TrainingGraph, progress: Any = None, save: Callable[[Any], None] = lambda now: None) -> loop.Progress:
    """The progress; each point has as its validation a number that depends on all averaged weights."""
    return loop.train(
        its, LinearSchedule(), DATA, 3, progress or loop.Progress(),
        validate=lambda values, last: {"validation_nats_per_token": float(sum(np.abs(v).sum() for v in values.values()))},
        save=save,
        report=lambda step, loss: None,
    )  # fmt: skip


def losses(progress: loop.Progress) -> list[float]:
    return [point["loss"] for point in progress.curve]


def curve(progress: loop.Progress) -> list[float]:
    return [point[name] for point in progress.curve for name in ("loss", "validation_nats_per_token")]


class Saved:
    """Keeps the first state that a training saves: half way."""

    def __init__(self, its: TrainingGraph) -> None:
        self.its, self.state, self.progress = its, {}, loop.Progress()

    def __call__(self, now: loop.Progress) -> None:
        if now.step < CONFIG.train_steps:
            self.state, self.progress = self.its.state(), loop.Progress(**{**vars(now), "curve": list(now.curve)})

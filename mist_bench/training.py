"""One training: the order of the data, warm-up and cosine decay, the curve, resume bit for bit.

Everything random comes from the step's index: the order of the data from (seed, epoch), times and masks from
(seed, step). Schedules enter the captured step as numbers, so that one graph trains them all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tinygrad import Tensor
from tinygrad.helpers import Context

from . import device, noise
from .config import TrainingConfig
from .interfaces import FloatArray, IntArray, Schedule
from .training_step import RING, TrainingGraph, Words, pack


@dataclass(kw_only=True)
class Progress:
    """Where a training stands; what a checkpoint must hold beside the tensors."""

    step: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    compile_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_memory: int = 0
    micro_batch: int = 0
    """Sequences read at once, so that a resumed training rounds as the undisturbed one."""


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Linear warm-up, then a cosine from the full rate down to the final ratio."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.train_steps - config.warmup_steps)
    floor = config.final_learning_rate_ratio
    return config.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def step_rates(config: TrainingConfig, step: int, row: int = 0) -> FloatArray:
    """What `pack` takes. `row`: the place in the batch of the first sequence that is read."""
    n = step + 1
    decay = min(config.ema_decay, n / (n + 10))
    return np.array([learning_rate(config, step), 1 - config.beta1**n, 1 - config.beta2**n, decay, row, step % RING])


def batch_rows(count: int, batch: int, seed: int, step: int) -> IntArray:
    """Which sequences step `step` reads: the data's order is drawn anew each epoch; a short rest is dropped."""
    if count < batch:
        return np.asarray(np.arange(step * batch, (step + 1) * batch) % count)
    epoch, place = divmod(step, count // batch)
    order = np.random.default_rng(np.random.Philox(key=[seed, epoch])).permutation(count)
    return np.asarray(order[place * batch : (place + 1) * batch])


def schedule_numbers(schedule: Schedule | None, batch: int, seed: int, step: int) -> FloatArray:
    """(3, B): low-discrepancy times t_i = u + i/B mod 1 (MDLM, section 3.5), their mask probability and weight."""
    if schedule is None:
        return np.zeros((3, batch))
    u = noise.uniform_numpy(seed, step, noise.TIMES, np.zeros(1, dtype=np.int64), 1)[0, 0]
    t = (u + np.arange(batch) / batch) % 1.0
    t = np.maximum(t, 2.0**-24)
    return np.stack([t, schedule.mask_probability(t), schedule.weight(t)])


def train(
    graph: TrainingGraph,
    schedule: Schedule | None,
    tokens: IntArray,
    seed: int,
    progress: Progress,
    *,
    validate: Callable[[dict[str, np.ndarray[Any, Any]]], float],
    save: Callable[[Progress], None],
    report: Callable[[int, float], None],
) -> Progress:
    """Goes on from `progress` to the last step. `tokens` (N, L); `validate`: nats per token of averaged weights."""
    config, batch = graph.config, graph.config.batch_size
    order_seed, noise_seed = noise.seed_of(axis="order", seed=seed), noise.seed_of(axis="masks", seed=seed)
    start = time.perf_counter()
    while progress.step < config.train_steps:
        began, first = time.perf_counter(), not graph.fits
        stop = min(config.train_steps, (progress.step // RING + 1) * RING, _next(progress.step, config.validate_every),
                   _next(progress.step, config.checkpoint_every))  # fmt: skip
        for step in range(progress.step, stop):
            rows = np.sort(batch_rows(len(tokens), batch, order_seed, step))
            losses = _run(graph, np.asarray(tokens[rows]), schedule, noise_seed, step)
        values = losses.numpy()
        slots = [s % RING for s in range(progress.step, stop)]
        loss = float(np.mean(values[slots], dtype=np.float64))
        if first:
            progress.compile_seconds += graph.compile_seconds
            start += graph.compile_seconds  # counted apart
        else:
            progress.step_seconds.append((time.perf_counter() - began) / (stop - progress.step))
        progress.micro_batch = graph.micro_batch
        progress.step, progress.peak_memory = stop, max(progress.peak_memory, device.memory_used())
        _record(progress, graph, loss, validate, start)
        start = time.perf_counter()
        if stop % config.checkpoint_every == 0 and stop < config.train_steps:
            save(progress)
        report(stop, loss)
    return progress


def _next(step: int, every: int) -> int:
    return (step // every + 1) * every


def _run(graph: TrainingGraph, rows: IntArray, schedule: Schedule | None, seed: int, step: int) -> Tensor:
    numbers, key = schedule_numbers(schedule, len(rows), seed, step), noise.key_words(seed, step)

    def words(start: int, stop: int) -> Words:
        return pack(rows[start:stop], numbers[:, start:stop], key, step_rates(graph.config, step, start))

    with Context(TRAINING=1):  # type: ignore[no-untyped-call]
        return graph.step(words)


def _record(
    progress: Progress,
    graph: TrainingGraph,
    loss: float,
    validate: Callable[[dict[str, np.ndarray[Any, Any]]], float],
    start: float,
) -> None:
    """One point of the curve; at the end and every `validate_every` steps with the validation bound."""
    config = graph.config
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss} at step {progress.step}; a smaller learning_rate may help")
    progress.wall_seconds += time.perf_counter() - start
    point = {"train_step": progress.step, "loss": loss, "seconds": progress.wall_seconds}
    if progress.step % config.validate_every == 0 or progress.step == config.train_steps:
        point["validation_nats_per_token"] = validate(graph.averaged())
    progress.curve.append(point)

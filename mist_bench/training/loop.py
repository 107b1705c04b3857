"""One training: order of the data, warm-up and cosine decay, learning curve, resume bit for bit.

All randomness follows from the index of the step: the order of the data from (seed, epoch), times and masks from
(seed, step). Schedules enter the captured step as numbers, so that one graph trains them all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from ..api.component import FloatArray, IntArray, UserError
from ..api.schedules import Schedule
from ..api.times import Times, uniform_times
from ..engine import noise
from ..engine.graph import fetch
from ..host.config import TrainingConfig
from .batch import Batch, Rates
from .step import RING, TrainingGraph

Validate = Callable[[dict[str, np.ndarray[Any, Any]], bool], Mapping[str, float | None]]
"""Measures the averaged weights, and whether they are the last: the columns that a point of the curve gets."""


@dataclass(kw_only=True)
class Progress:
    """Where a training stands: what a checkpoint holds beside the tensors."""

    step: int = 0
    curve: list[dict[str, float | None]] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    compile_seconds: float = 0.0
    wall_seconds: float = 0.0
    micro_batch: int = 0
    """Sequences read at once, so that a resumed training rounds like an undisturbed one."""
    best_step: int = 0
    """The step with the best validation so far; 0: none is looked for."""
    best_nats: float = 0.0


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Linear warm-up, then a cosine from the full rate down to the final ratio."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.train_steps - config.warmup_steps)
    floor = config.final_learning_rate_ratio
    return config.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def step_rates(config: TrainingConfig, step: int) -> Rates[float]:
    """The optimiser's numbers of this step."""
    n = step + 1
    return Rates(
        learning_rate=learning_rate(config, step),
        first_correction=1 - config.beta1**n,
        second_correction=1 - config.beta2**n,
        average_decay=min(config.ema_decay, n / (n + 10)),
    )


def batch_rows(count: int, batch: int, seed: int, step: int) -> IntArray:
    """Which sequences step `step` reads: each epoch has a new random order; an incomplete last batch is dropped."""
    if count < batch:
        return np.asarray(np.arange(step * batch, (step + 1) * batch) % count)
    epoch, place = divmod(step, count // batch)
    return _epoch_order(count, seed, epoch)[place * batch : (place + 1) * batch]


@lru_cache(maxsize=1)
def _epoch_order(count: int, seed: int, epoch: int) -> IntArray:
    """A random order, cached for the epoch: with millions of sequences drawing it takes longer than a step."""
    return np.asarray(np.random.default_rng(np.random.Philox(key=[seed, epoch])).permutation(count))


def schedule_numbers(
    schedule: Schedule | None, batch: int, seed: int, steps: range, times: Times = uniform_times
) -> FloatArray:
    """(steps, 3, B): times made of low-discrepancy numbers u + i/B mod 1, their mask probability and weight.

    For many steps at once, since those of one step cost as much.
    """
    if schedule is None:
        return np.zeros((len(steps), 3, batch))
    u = noise.uniform_numpy(seed, np.array(steps), noise.TIMES, np.zeros(len(steps), dtype=np.int64), 1)
    t, weight = times(np.maximum((u + np.arange(batch) / batch) % 1.0, 2.0**-24).ravel(), schedule)
    numbers = np.stack([t, schedule.mask_probability(t), weight])
    return np.asarray(numbers.reshape(3, len(steps), batch).swapaxes(0, 1))


def batches(
    config: TrainingConfig, rows: Iterable[IntArray], schedule: Schedule | None, seed: int, steps: range,
    times: Times = uniform_times,
) -> list[Batch]:  # fmt: skip
    """The inputs of these steps. `rows`: the (B, L) tokens of each; `times`: those of the family."""
    numbers = schedule_numbers(schedule, config.batch_size, seed, steps, times)
    return [Batch(np.asarray(own), numbers[i], noise.key_words(seed, step), step_rates(config, step), step % RING)
            for i, (step, own) in enumerate(zip(steps, rows, strict=True))]  # fmt: skip


def train(
    graph: TrainingGraph,
    schedule: Schedule | None,
    tokens: IntArray,
    seed: int,
    progress: Progress,
    *,
    validate: Validate,
    save: Callable[[Progress], None],
    report: Callable[[int, float], None],
) -> Progress:
    """Train from `progress` to the last step. `tokens` (N, L); `validate`: see `Validate`."""
    config, batch = graph.config, graph.config.batch_size
    order_seed, noise_seed = noise.seed_of(axis="order", seed=seed), noise.seed_of(axis="masks", seed=seed)
    start = time.perf_counter()
    while progress.step < config.train_steps:
        began, first = time.perf_counter(), not graph.fits
        stop = min(config.train_steps, (progress.step // RING + 1) * RING, _next(progress.step, config.validate_every),
                   _next(progress.step, config.checkpoint_every))  # fmt: skip
        steps = range(progress.step, stop)
        rows = (tokens[np.sort(batch_rows(len(tokens), batch, order_seed, step))] for step in steps)
        values = fetch(graph.steps(batches(config, rows, schedule, noise_seed, steps, graph.family.times)))
        slots = [s % RING for s in steps]
        loss = float(np.mean(values[slots], dtype=np.float64))
        if first:
            progress.compile_seconds += graph.compile_seconds
            start += graph.compile_seconds  # counted separately
        else:
            progress.step_seconds.append((time.perf_counter() - began) / len(steps))
        progress.micro_batch = graph.micro_batch
        progress.step = stop
        _record(progress, graph, loss, validate, start)
        start = time.perf_counter()
        if stop % config.checkpoint_every == 0 and stop < config.train_steps:
            save(progress)
        report(stop, loss)
    return progress


def _next(step: int, every: int) -> int:
    return (step // every + 1) * every


def _record(
    progress: Progress,
    graph: TrainingGraph,
    loss: float,
    validate: Validate,
    start: float,
) -> None:
    """Add a point to the curve; at the end and every `validate_every` steps with its validation."""
    config = graph.config
    if not math.isfinite(loss):
        raise UserError(f"the loss is {loss} at step {progress.step}; a smaller learning_rate may help")
    progress.wall_seconds += time.perf_counter() - start
    point: dict[str, float | None] = {"train_step": progress.step, "loss": loss, "seconds": progress.wall_seconds}
    if progress.step % config.validate_every == 0 or progress.step == config.train_steps:
        point.update(validate(graph.averaged(), progress.step == config.train_steps))
    progress.curve.append(point)

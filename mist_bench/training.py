"""One training: AdamW, warm-up and cosine decay, clipping, an average of the weights, resume bit for bit.

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
import numpy.typing as npt
from tinygrad import Tensor
from tinygrad.helpers import Context

from . import device, noise
from .config import TrainingConfig
from .families import Family, Model, TrainingBatch
from .graphs import Graph, Inbox, load_parameters, overwrite
from .interfaces import FloatArray, IntArray, Schedule

RATES = 6
RING = 20
"""Losses stay on the device and are fetched every so many steps."""


@dataclass(kw_only=True)
class Progress:
    """Where a training stands; what a checkpoint must hold beside the tensors."""

    step: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    compile_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_memory: int = 0


class TrainingGraph:
    """A model, its optimiser's state and the captured step; reused by every training of the same shape."""

    def __init__(self, family: Family, model: Model, config: TrainingConfig) -> None:
        self.family, self.model, self.config = family, model, config
        self.names = list(model.parameters)
        values = [model.parameters[n] for n in self.names]
        self.first = [Tensor.zeros(*p.shape).contiguous() for p in values]
        self.second = [Tensor.zeros(*p.shape).contiguous() for p in values]
        self.average = [p.detach().clone() for p in values]
        self.losses = Tensor.zeros(RING).contiguous()
        Tensor.realize(*self.first, *self.second, *self.average, self.losses)
        self.told = Inbox(config.batch_size * (model.length + 3) + 2 + RATES)
        self.graph = Graph(f"train {family.spec}", self._step)

    def start(self, parameters: dict[str, np.ndarray[Any, Any]]) -> None:
        """A fresh optimiser and these parameters."""
        load_parameters(self.model, parameters)
        for name, first, second, average in zip(self.names, self.first, self.second, self.average, strict=True):
            overwrite(first, np.zeros(first.shape, dtype=np.float32))
            overwrite(second, np.zeros(second.shape, dtype=np.float32))
            overwrite(average, parameters[name])

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """All tensors of an unfinished training, by name."""
        groups = {"parameters": [self.model.parameters[n] for n in self.names], "first": self.first,
                  "second": self.second, "average": self.average}  # fmt: skip
        return {f"{g}/{n}": t.numpy() for g, ts in groups.items() for n, t in zip(self.names, ts, strict=True)}

    def restore(self, state: dict[str, np.ndarray[Any, Any]]) -> None:
        load_parameters(self.model, {n: state[f"parameters/{n}"] for n in self.names})
        for group, tensors in (("first", self.first), ("second", self.second), ("average", self.average)):
            for name, tensor in zip(self.names, tensors, strict=True):
                overwrite(tensor, state[f"{group}/{name}"])

    def averaged(self) -> dict[str, np.ndarray[Any, Any]]:
        """The averaged weights, what is evaluated."""
        return {n: t.numpy() for n, t in zip(self.names, self.average, strict=True)}

    def _step(self, packed: Tensor) -> Tensor:
        """What `pack` made -> the ring of losses."""
        batch, length = self.config.batch_size, self.model.length
        ends = np.cumsum([0, batch * length, 3 * batch, 2, RATES])
        parts = [packed[int(start) : int(stop)] for start, stop in zip(ends, ends[1:], strict=False)]
        tokens, numbers = parts[0].reshape(batch, length), parts[1].bitcast("float32").reshape(3, batch)
        key, rates = parts[2].bitcast("uint32"), parts[3].bitcast("float32")
        sequences = Tensor.arange(batch).cast("uint32")
        loss = self.family.loss(self.model, TrainingBatch(
            tokens=tokens, t=numbers[0], mask_probability=numbers[1], weight=numbers[2],
            uniform=noise.uniform(key, noise.MASKING, sequences, length).contiguous(),
            coin=noise.uniform(key, noise.COIN, sequences, 1).reshape(batch),
        ))  # fmt: skip
        parameters = [self.model.parameters[n] for n in self.names]
        gradients = [g.contiguous() for g in loss.gradient(*parameters)]
        square = Tensor.stack(*[g.square().sum() for g in gradients]).sum()
        clip = (self.config.gradient_clip / (square.sqrt() + 1e-6)).minimum(1.0).contiguous()
        slot = Tensor.arange(RING) == rates[5].int()
        self.losses.assign(slot.where(loss.detach(), self.losses))
        for p, g, first, second, average in zip(
            parameters, gradients, self.first, self.second, self.average, strict=True
        ):
            self._update(p, g * clip, first, second, average, rates)
        Tensor.realize(self.losses, *self.first, *self.second, *parameters, *self.average)
        return self.losses

    def _update(self, p: Tensor, g: Tensor, first: Tensor, second: Tensor, average: Tensor, rates: Tensor) -> None:
        """AdamW (arXiv 1711.05101); rates: learning rate, 1 - beta1^n, 1 - beta2^n, decay of the average, -, slot."""
        beta1, beta2 = self.config.beta1, self.config.beta2
        first.assign(beta1 * first + (1 - beta1) * g)
        second.assign(beta2 * second + (1 - beta2) * g * g)
        change = (first / rates[1]) / ((second / rates[2]).sqrt() + 1e-8)
        if p.ndim > 1:
            change = change + self.config.weight_decay * p.detach()
        p.assign(p.detach() - rates[0] * change)
        average.assign(rates[3] * average + (1 - rates[3]) * p.detach())


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Linear warm-up, then a cosine from the full rate down to the final ratio."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.train_steps - config.warmup_steps)
    floor = config.final_learning_rate_ratio
    return config.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def step_rates(config: TrainingConfig, step: int) -> FloatArray:
    n = step + 1
    decay = min(config.ema_decay, n / (n + 10))
    return np.array([learning_rate(config, step), 1 - config.beta1**n, 1 - config.beta2**n, decay, 0.0, step % RING])


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
        began, first = time.perf_counter(), graph.graph.compile_seconds == 0.0
        stop = min(config.train_steps, (progress.step // RING + 1) * RING, _next(progress.step, config.validate_every),
                   _next(progress.step, config.checkpoint_every))  # fmt: skip
        for step in range(progress.step, stop):
            rows = np.sort(batch_rows(len(tokens), batch, order_seed, step))
            losses = _run(graph, np.asarray(tokens[rows]), schedule, noise_seed, step)
        values = losses.numpy()
        slots = [s % RING for s in range(progress.step, stop)]
        loss = float(np.mean(values[slots], dtype=np.float64))
        if first:
            progress.compile_seconds += graph.graph.compile_seconds
            start += graph.graph.compile_seconds  # counted apart
        else:
            progress.step_seconds.append((time.perf_counter() - began) / (stop - progress.step))
        progress.step, progress.peak_memory = stop, max(progress.peak_memory, device.memory_used())
        _record(progress, graph, loss, validate, start)
        start = time.perf_counter()
        if stop % config.checkpoint_every == 0 and stop < config.train_steps:
            save(progress)
        report(stop, loss)
    return progress


def _next(step: int, every: int) -> int:
    return (step // every + 1) * every


def pack(rows: IntArray, numbers: FloatArray, key: tuple[int, int], rates: FloatArray) -> npt.NDArray[np.int32]:
    """All inputs of a step as one array of 32-bit words: (B, L) tokens, (3, B) t, mask probability and weight, key,
    rates. One transfer costs as much as four small ones save."""
    words = [rows.astype(np.int32), numbers.astype(np.float32).view(np.int32)]
    words += [np.array(key, dtype=np.uint32).view(np.int32), rates.astype(np.float32).view(np.int32)]
    return np.concatenate([word.ravel() for word in words])


def _run(graph: TrainingGraph, rows: IntArray, schedule: Schedule | None, seed: int, step: int) -> Tensor:
    numbers = schedule_numbers(schedule, len(rows), seed, step)
    words = pack(rows, numbers, noise.key_words(seed, step), step_rates(graph.config, step))
    with Context(TRAINING=1):  # type: ignore[no-untyped-call]
        result: Tensor = graph.graph(graph.told(words))
    return result


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

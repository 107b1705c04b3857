"""mist-bench's own entries, made from the functions that a run calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mist_bench import IntArray
from mist_bench.bench.contest import Entry
from mist_bench.engine import device
from mist_bench.host.registry import Registry
from mist_bench.inference.causal import CausalEvaluator
from mist_bench.inference.generate import SamplerGraph, generate
from mist_bench.inference.masked import MaskedEvaluator
from mist_bench.measure.likelihood import causal_likelihood, masked_likelihood
from mist_bench.training.batch import full_sequences
from mist_bench.training.loop import Progress, train
from mist_bench.training.step import TrainingGraph

from .sizes import Size

DATA = 64
"""Smallest number of sequences that a benchmark's training draws from."""


class _Enough(Exception):
    """Ends a training after one round."""


def create(size: Size, family: str, precision: str = "auto") -> tuple[Any, Any]:
    """(family, untrained model), by default in the device's precision."""
    plugin = Registry.discover().make("family", family)
    model = plugin.create(size.network, size.vocab_size, size.length, 0, None)
    model.set_compute(device.compute_type(precision))
    return plugin, model


def feed_forward(model: Any) -> int:
    """The inner width of the feed-forward layers, which is larger in the baseline."""
    return int(model.parameters["0.feed_forward.in"].shape[1])


def _memory_since(before: int) -> Callable[[], int]:
    return lambda: device.memory_used() - before


def linear() -> Any:
    """The linear schedule."""
    return Registry.discover().make("schedule", "linear")


def training_graph(size: Size, family: Any, model: Any) -> TrainingGraph:
    """The training graph, as a run makes it."""
    full = full_sequences(linear(), size.batch, size.length) if getattr(model, "rows_pay", False) else None
    return TrainingGraph(family, model, size.training(), full=full)


def training(size: Size, family: str) -> Entry:
    """The entry of a training step: `train`, stopped when it first fetches losses."""
    before = device.memory_used()
    plugin, model = create(size, family)
    graph = training_graph(size, plugin, model)
    graph.start({name: tensor.numpy() for name, tensor in model.parameters.items()})
    schedule = linear() if plugin.uses_schedule else None
    data, progress = size.tokens(max(DATA, 4 * size.batch)), Progress()

    def enough(step: int, loss: float) -> None:
        if step % size.train_steps == 0:
            raise _Enough

    def run() -> None:
        try:
            train(graph, schedule, data, 0, progress, validate=lambda *_: {}, save=lambda at: None, report=enough)
        except _Enough:
            device.synchronize()

    sequences = size.train_steps * size.batch
    return Entry(
        run=run, tokens=sequences * size.length, flops=3 * sequences * model.forward_flops(),
        memory=_memory_since(before), note=f"{size.train_steps} steps a round",
    )  # fmt: skip


def _empty(size: Size) -> IntArray:
    return np.full((size.generation_batch, size.length), size.vocab_size, dtype=np.int32)


def generation(size: Size, sampler: str) -> Entry:
    """The entry of a batch of texts by a sampler of masked models."""
    before, registry = device.memory_used(), Registry.discover()
    plugin, model = create(size, "mdlm")
    evaluator = MaskedEvaluator(plugin.spec, model, size.generation_batch)
    schedule, rule = linear(), registry.make("sampler", sampler)
    graph = SamplerGraph(rule, size.generation_batch, size.length, size.vocab_size)
    empty, ids, steps = _empty(size), np.arange(size.generation_batch), size.denoising_steps

    def run() -> None:
        filled, _ = generate(evaluator, graph, schedule, steps, empty, seed=0, sequences=ids, temperature=1.0)
        assert (filled < size.vocab_size).all()

    nfe = rule.nfe(steps, size.length)
    return Entry(
        run=run, tokens=empty.size, flops=nfe * len(empty) * model.forward_flops(), nfe=nfe,
        memory=_memory_since(before),
    )  # fmt: skip


def autoregressive(size: Size) -> Entry:
    """The entry of a batch of texts by the baseline, with its key-value cache."""
    before = device.memory_used()
    plugin, model = create(size, "autoregressive")
    evaluator = CausalEvaluator(plugin.spec, model, size.generation_batch)
    empty, ids = _empty(size), np.arange(size.generation_batch)

    def run() -> None:
        assert (evaluator.generate(empty, 0, ids, 1.0)[0] < size.vocab_size).all()

    work = len(empty) * model.forward_flops()
    return Entry(run=run, tokens=empty.size, flops=work, nfe=size.length, memory=_memory_since(before))


def likelihood(size: Size, family: str) -> Entry:
    """The entry of a likelihood: exact-k of one batch, or the baseline's chain rule of as many batches as exact-k has
    draws."""
    before = device.memory_used()
    plugin, model = create(size, family)
    draws, batch = size.likelihood_draws, size.generation_batch
    if plugin.likelihood_kind == "exact":
        causal, texts = CausalEvaluator(plugin.spec, model, batch), size.tokens(draws * batch)
        run = lambda: causal_likelihood(causal, texts)  # noqa: E731
    else:
        masked, texts = MaskedEvaluator(plugin.spec, model, batch), size.tokens(batch)
        run = lambda: masked_likelihood(masked, texts, draws, None)  # noqa: E731
    tokens = draws * batch * size.length
    work = draws * batch * model.forward_flops()
    return Entry(run=run, tokens=tokens, flops=work, nfe=draws, memory=_memory_since(before))

"""Speed of sampling and of a training step on the device at hand: `make bench`. Compiled and warmed before timing."""

import numpy as np
import pytest
from mist_bench_plugins.family_autoregressive import AutoregressiveFamily
from mist_bench_plugins.family_mdlm import MdlmFamily
from mist_bench_plugins.sampler_autoregressive import AutoregressiveSampler
from mist_bench_plugins.sampler_confidence import ConfidenceSampler
from mist_bench_plugins.schedule_linear import LinearSchedule

from mist_bench import NetworkSize, device, noise, training
from mist_bench.config import TrainingConfig
from mist_bench.evaluation import CausalEvaluator, MaskedEvaluator
from mist_bench.generation import SamplerGraph, generate

SIZE = NetworkSize(dim=32, layers=1, heads=2, feed_forward=64, conditioning_dim=16)
V, L, B, STEPS = 86, 32, 16, 8
EMPTY = np.full((B, L), V, dtype=np.int32)
CONFIG = TrainingConfig(
    train_steps=1, batch_size=B, learning_rate=1e-3, warmup_steps=1, weight_decay=0.0, beta1=0.9, beta2=0.99,
    gradient_clip=1.0, ema_decay=0.9, validate_every=1, checkpoint_every=1,
)  # fmt: skip


def timed(benchmark, run, tokens):
    def synchronised():
        run()
        device.synchronize()

    for _ in range(2):
        synchronised()
    benchmark.pedantic(synchronised, rounds=7, warmup_rounds=1)
    if benchmark.stats:
        benchmark.extra_info["tokens_per_second"] = tokens / benchmark.stats.stats.median


@pytest.mark.benchmark(group="generation")
def test_masked_generation(benchmark):
    evaluator = MaskedEvaluator("bench", MdlmFamily().create(SIZE, V, L, 0, None), B)
    graph = SamplerGraph(ConfidenceSampler(), B, L, V)
    timed(benchmark, lambda: generate(
        evaluator, graph, LinearSchedule(), STEPS, EMPTY, seed=0, sequences=np.arange(B), temperature=1.0
    ), B * L)  # fmt: skip


@pytest.mark.benchmark(group="generation")
def test_cached_generation(benchmark):
    model = AutoregressiveFamily().create(SIZE, V, L, 0, None)
    evaluator = CausalEvaluator("bench", model, B, AutoregressiveSampler())
    timed(benchmark, lambda: evaluator.generate(EMPTY, 0, np.arange(B), 1.0), B * L)


@pytest.mark.benchmark(group="training")
def test_training_step(benchmark):
    graph = training.TrainingGraph(MdlmFamily(), MdlmFamily().create(SIZE, V, L, 0, None), CONFIG)
    rows = np.zeros((B, L), dtype=np.int32)
    seed = noise.seed_of(axis="bench")
    timed(benchmark, lambda: training._run(graph, rows, LinearSchedule(), seed, 0), B * L)

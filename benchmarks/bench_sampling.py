"""One batch of texts by each sampler, all at the same batch; the baseline with its key-value cache."""

from __future__ import annotations

import numpy as np
import pytest

from mist_bench.generation import generate

STEPS = 16


def check(made, bench):
    assert made.shape == (bench.config.generation.batch_size, bench.dataset.length)
    assert (made < bench.dataset.mask).all()


def masks(bench):
    return np.full((bench.config.generation.batch_size, bench.dataset.length), bench.dataset.mask, dtype=np.int32)


@pytest.mark.parametrize("name", ["random", "confidence", "top-k", "first-hitting"])
def test_masked(bench, measure, name):
    family, sampler = bench.registry.make("family", "mdlm"), bench.registry.make("sampler", name)
    evaluator = bench.masked(family, bench.initial_parameters(family, 0))
    graph, schedule, empty = bench.sampler_graph(sampler), bench.registry.make("schedule", "linear"), masks(bench)
    ids = np.arange(len(empty))

    def batch():
        made, _ = generate(evaluator, graph, schedule, STEPS, empty, seed=0, sequences=ids, temperature=1.0)
        check(made, bench)

    batch()
    measure(batch, empty.size, [evaluator.graph, graph.graph])


def test_autoregressive(bench, measure):
    family, empty = bench.registry.make("family", "autoregressive"), masks(bench)
    evaluator = bench.causal(family, bench.initial_parameters(family, 0))

    def batch():
        check(evaluator.generate(empty, 0, np.arange(len(empty)), 1.0), bench)

    batch()
    measure(batch, empty.size, [evaluator.graph])

"""One optimiser step of each family: the two should cost about the same, since they have equal parameters."""

from __future__ import annotations

import numpy as np
import pytest

from mist_bench.training import Progress, train


@pytest.mark.parametrize("family", ["mdlm", "autoregressive"])
def test_training_steps(bench, measure, family):
    """As many steps as losses are fetched after, with the fetch."""
    made = bench.registry.make("family", family)
    graph = bench.training_graph(made)
    graph.start(bench.initial_parameters(made, 0))
    schedule = bench.registry.make("schedule", "linear") if made.uses_schedule else None
    losses = []

    def steps():
        progress = train(
            graph, schedule, bench.dataset.train.tokens, 0, Progress(step=graph.config.train_steps - 20),
            validate=lambda values: 0.0, save=lambda progress: None, report=lambda step, loss: losses.append(loss),
        )  # fmt: skip
        assert progress.step == graph.config.train_steps

    steps()
    measure(steps, 20 * graph.config.batch_size * bench.dataset.length, [graph.graph])
    assert np.isfinite(losses).all()

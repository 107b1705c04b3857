"""A batch that is read in parts trains what the whole batch trains: the same masks, losses and parameters."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from brute_force import WORLD, L, S, shaken
from mist_bench_plugins.family_autoregressive import AutoregressiveFamily
from mist_bench_plugins.family_mdlm import MdlmFamily
from mist_bench_plugins.schedule_linear import LinearSchedule

from mist_bench import NetworkSize, training
from mist_bench.config import TrainingConfig
from mist_bench.training_step import TrainingGraph

SIZE = NetworkSize(dim=8, layers=1, heads=2, feed_forward=16, conditioning_dim=8)
BATCH, PART = 8, 2
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
def graph(family: str, micro_batch: int) -> TrainingGraph:
    made = FAMILIES[family]
    return TrainingGraph(made, made.create(SIZE, S, L, 0, None), replace(CONFIG, micro_batch=micro_batch))


def start(family: str, micro_batch: int) -> TrainingGraph:
    """A fresh training from random numbers, also for those parameters that start at zero."""
    model = FAMILIES[family].create(SIZE, S, L, 1, None)
    shaken(model, 5)
    graph(family, micro_batch).start({name: tensor.numpy() for name, tensor in model.parameters.items()})
    return graph(family, micro_batch)


def train(its: TrainingGraph, progress=None, save=lambda now: None):
    return training.train(
        its, LinearSchedule(), DATA, 3, progress or training.Progress(), validate=lambda values: 0.0, save=save,
        report=lambda step, loss: None,
    )  # fmt: skip


def losses(progress) -> list[float]:
    return [point["loss"] for point in progress.curve]


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_train_what_the_whole_batch_trains(family):
    whole, parts = start(family, BATCH), start(family, PART)
    one, other = train(whole), train(parts)
    np.testing.assert_allclose(losses(other), losses(one), rtol=1e-5)
    before, after = whole.state(), parts.state()
    assert before.keys() == after.keys()
    for name, values in before.items():
        np.testing.assert_allclose(after[name], values, rtol=1e-3, atol=2e-5, err_msg=name)


def test_a_whole_batch_is_one_graph_without_more_buffers():
    whole, parts = graph("mdlm", BATCH), graph("mdlm", PART)
    assert whole.update is None and whole.total == []
    assert parts.update is not None and len(parts.total) == 1 + len(parts.names)
    for its in (whole, parts):
        train(start("mdlm", its.micro_batch))
    assert whole.graph.kernels > parts.graph.kernels > parts.update.kernels > 0
    captured = parts.graph._jit.captured, parts.update._jit.captured
    train(start("mdlm", PART))
    assert captured == (parts.graph._jit.captured, parts.update._jit.captured)


def test_each_part_is_told_its_own_rows(monkeypatch):
    told = []
    real = training.pack

    def spy(rows, numbers, key, rates):
        told.append((rows, numbers, key, rates))
        return real(rows, numbers, key, rates)

    monkeypatch.setattr(training, "pack", spy)
    for micro_batch in (BATCH, PART):
        train(start("mdlm", micro_batch))
    steps, count = CONFIG.train_steps, BATCH // PART
    assert len(told) == steps + steps * count
    for step in range(steps):
        rows, numbers, key, rates = told[step]
        parts = told[steps + step * count :][:count]
        np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), rows)
        np.testing.assert_array_equal(np.concatenate([part[1] for part in parts], axis=1), numbers)
        assert {part[2] for part in parts} == {key}
        assert [part[3][4] for part in parts] == list(range(0, BATCH, PART)) and rates[4] == 0
        assert all((np.delete(part[3], 4) == np.delete(rates, 4)).all() for part in parts)


@pytest.mark.parametrize("then", [PART, BATCH])
def test_a_resumed_training_is_the_undisturbed_one(then):
    """Bit for bit with the same parts; within rounding if it is read otherwise."""
    kept = {}
    its = start("mdlm", PART)

    def save(now):
        kept["state"], kept["progress"] = its.state(), training.Progress(**{**vars(now), "curve": list(now.curve)})

    whole = train(its, save=save)
    undisturbed = its.state()
    assert kept["progress"].step == 4
    other = start("mdlm", then)
    train(other)  # another training in between
    other.restore(kept["state"])
    resumed = train(other, kept["progress"])
    same = then == PART
    assert losses(resumed) == (losses(whole) if same else pytest.approx(losses(whole), rel=1e-5))
    for name, values in other.state().items():
        if same:
            np.testing.assert_array_equal(values, undisturbed[name], err_msg=name)
        else:
            np.testing.assert_allclose(values, undisturbed[name], rtol=1e-3, atol=2e-5, err_msg=name)


def test_what_an_interrupted_step_added_is_forgotten():
    its = start("mdlm", PART)
    train(its)
    undisturbed = its.state()
    start("mdlm", PART)
    rows = np.arange(BATCH)
    numbers = training.schedule_numbers(LinearSchedule(), BATCH, 0, 0)
    its.graph(its.told(training.pack(DATA[rows[:PART]], numbers[:, :PART], (1, 2), training.step_rates(CONFIG, 0))))
    train(its)
    for name, values in its.state().items():
        np.testing.assert_array_equal(values, undisturbed[name], err_msg=name)

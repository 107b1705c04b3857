"""A training step is the bound; a resumed training is the undisturbed one; schedules change only numbers."""

from functools import cache

import numpy as np
import pytest
from mist_bench_plugins.corpus_markov import world
from mist_bench_plugins.family_autoregressive import AutoregressiveFamily
from mist_bench_plugins.family_mdlm import MdlmFamily
from mist_bench_plugins.schedule_cosine import CosineSchedule
from mist_bench_plugins.schedule_linear import LinearSchedule
from tinygrad import Tensor, dtypes

from mist_bench import NetworkSize, TrainingBatch, training
from mist_bench.config import TrainingConfig

SIZE = NetworkSize(dim=16, layers=1, heads=2, feed_forward=32, conditioning_dim=16)
ORACLE = world(3, 4, 1.2)
V, L = ORACLE.vocab_size, 4
TEXTS = ORACLE.sample(256, np.random.default_rng(0))
CONFIG = TrainingConfig(
    train_steps=60, batch_size=16, learning_rate=2e-2, warmup_steps=5, final_learning_rate_ratio=0.1, weight_decay=0.01,
    beta1=0.9, beta2=0.99, gradient_clip=1.0, ema_decay=0.9, validate_every=20, checkpoint_every=20,
)  # fmt: skip


@cache
def graph():
    return training.TrainingGraph(MdlmFamily(), MdlmFamily().create(SIZE, V, L, 0, None), CONFIG)


def start():
    model = MdlmFamily().create(SIZE, V, L, 1, None)
    graph().start({name: tensor.numpy() for name, tensor in model.parameters.items()})
    return training.Progress()


def train(progress, *, save=lambda now: None, schedule=None):
    return training.train(
        graph(), schedule or LinearSchedule(), TEXTS, 0, progress, validate=lambda values: 1.0, save=save,
        report=lambda step, loss: None,
    )  # fmt: skip


def measured(progress):
    return [{k: v for k, v in point.items() if k != "seconds"} for point in progress.curve]


def test_the_loss_falls_and_every_point_is_there():
    progress = train(start())
    assert [point["train_step"] for point in progress.curve] == [20, 40, 60]
    assert progress.curve[-1]["loss"] < progress.curve[0]["loss"]
    assert all("validation_nats_per_token" in point for point in progress.curve)


def test_a_resumed_training_is_the_undisturbed_one_bit_for_bit():
    kept = {}

    def save(now):
        if now.step == 20:
            kept["state"], kept["progress"] = graph().state(), training.Progress(**{**vars(now)})
            kept["progress"].curve = list(now.curve)

    whole = train(start(), save=save)
    undisturbed = graph().averaged()
    start()
    graph().restore(kept["state"])
    resumed = train(kept["progress"])
    assert measured(resumed) == measured(whole)
    for name, values in graph().averaged().items():
        assert np.array_equal(values, undisturbed[name]), name


def test_schedules_share_the_graph_but_not_the_result():
    first = measured(train(start()))
    kernels = graph().graph.kernels
    second = measured(train(start(), schedule=CosineSchedule()))
    assert graph().graph.kernels == kernels
    assert first != second


@pytest.mark.parametrize("schedule", [LinearSchedule(), CosineSchedule()])
def test_times_are_low_discrepancy_and_belong_to_the_step(schedule):
    t, m, w = training.schedule_numbers(schedule, 8, 3, 5)
    assert np.array_equal(np.sort((t * 8).astype(int)), np.arange(8))
    np.testing.assert_allclose(m, schedule.mask_probability(t))
    np.testing.assert_allclose(w, schedule.weight(t))
    assert np.array_equal(training.schedule_numbers(schedule, 8, 3, 5)[0], t)
    assert not np.array_equal(training.schedule_numbers(schedule, 8, 3, 6)[0], t)


def test_an_epoch_reads_every_sequence_once():
    rows = np.concatenate([training.batch_rows(64, 16, 0, step) for step in range(4)])
    assert np.array_equal(np.sort(rows), np.arange(64))
    again = np.concatenate([training.batch_rows(64, 16, 0, step) for step in range(4, 8)])
    assert not np.array_equal(rows, again) and np.array_equal(np.sort(again), np.arange(64))
    assert len(training.batch_rows(5, 16, 0, 0)) == 16


def test_learning_rate_warms_up_and_decays():
    rates = [training.learning_rate(CONFIG, step) for step in range(CONFIG.train_steps)]
    assert rates[0] == pytest.approx(2e-2 / 5) and max(rates) == rates[4] == pytest.approx(2e-2)
    assert rates[5:] == sorted(rates[5:], reverse=True) and rates[-1] == pytest.approx(2e-3, rel=0.05)


def shaken(model):
    rng = np.random.default_rng(2)
    for tensor in model.parameters.values():
        tensor.assign(Tensor(rng.normal(size=tensor.shape).astype(np.float32) * 0.3)).realize()
    return model


def batch_of(tokens, schedule, u, rng):
    t = (np.arange(len(tokens)) / len(tokens) + u) % 1
    numbers = [t, schedule.mask_probability(t), schedule.weight(t)]
    tensors = [Tensor(x.astype(np.float32)) for x in (rng.random(tokens.shape), rng.random(len(tokens)), *numbers)]
    return TrainingBatch(
        tokens=Tensor(tokens.astype(np.int32)), uniform=tensors[0], coin=tensors[1], t=tensors[2],
        mask_probability=tensors[3], weight=tensors[4],
    )  # fmt: skip


@pytest.mark.parametrize("schedule", [LinearSchedule(), CosineSchedule()])
def test_the_loss_is_the_bound(schedule):
    """Averaged over noise, the loss of one text is its bound by enumeration of all 2^4 masks."""
    from test_likelihood import brute_force_bound

    family, rng = MdlmFamily(), np.random.default_rng(0)
    model = shaken(family.create(SIZE, V, L, 0, None))
    text = np.array([[0, 2, 1, 0]])

    def answer(tokens, masked, t):
        given = model.log_probabilities(
            Tensor(np.where(masked, V, tokens).astype(np.int32)), Tensor.zeros(len(tokens))
        ).numpy()
        return np.where(masked, np.take_along_axis(given, tokens[:, :, None], axis=2)[:, :, 0], 0.0)

    copies = np.repeat(text, 2048, axis=0)
    losses = [family.loss(model, batch_of(copies, schedule, rng.random(), rng)).item() * L for _ in range(8)]
    error = np.std(losses, ddof=1) / np.sqrt(8)
    bound = brute_force_bound(text, answer)[0]
    assert abs(np.mean(losses) - bound) < 4 * error
    assert error < 0.05 * bound


def test_the_baselines_loss_is_its_likelihood():
    family, rng = AutoregressiveFamily(), np.random.default_rng(0)
    model = shaken(family.create(SIZE, V, L, 0, None))
    given = model.log_probabilities(Tensor(TEXTS[:16].astype(np.int32))).numpy()
    expected = -np.take_along_axis(given, TEXTS[:16, :, None], axis=2).mean()
    loss = family.loss(model, batch_of(TEXTS[:16], LinearSchedule(), 0.51, rng)).item()
    assert loss == pytest.approx(expected, abs=1e-5)


def test_bfloat16_products_change_little():
    family = MdlmFamily()
    model = shaken(family.create(SIZE, V, L, 0, None))
    batches = [batch_of(TEXTS[:16], LinearSchedule(), 0.51, np.random.default_rng(0)) for _ in range(2)]
    exact = family.loss(model, batches[0]).item()
    model.set_compute(dtypes.bfloat16)
    rough = family.loss(model, batches[1]).item()
    assert rough != exact and rough == pytest.approx(exact, rel=0.05)


def test_a_loss_that_is_no_number_stops_the_training():
    start()
    graph().restore({name: values * np.nan for name, values in graph().state().items()})
    with pytest.raises(FloatingPointError, match="smaller learning_rate"):
        train(training.Progress())

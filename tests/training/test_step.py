"""A training step: its loss is the bound, its gradient the loss's own, its update AdamW; resumed bit for bit.

One captured graph serves all tests. Where the parameters must not move, the learning rate is too small for float32.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from mist_bench_plugins.family_autoregressive import AutoregressiveFamily
from mist_bench_plugins.family_mdlm import MdlmFamily
from mist_bench_plugins.schedule_cosine import CosineSchedule
from mist_bench_plugins.schedule_linear import LinearSchedule
from tinygrad import Tensor, dtypes

from harness.brute_force import (
    SIZE,
    TEXTS,
    WORLD,
    L,
    S,
    assert_within_4_se,
    bound,
    causal_answer,
    costs_of,
    masked_answer,
    network,
    of_tokens,
    shaken,
)
from mist_bench import TrainingBatch, UserError
from mist_bench.engine import noise
from mist_bench.host.config import TrainingConfig
from mist_bench.training import loop
from mist_bench.training.step import TrainingGraph

BATCH = len(TEXTS)
pytestmark = pytest.mark.slow
CONFIG = TrainingConfig(
    train_steps=90, batch_size=BATCH, learning_rate=2e-2, warmup_steps=5, final_learning_rate_ratio=0.1,
    weight_decay=0.1, beta1=0.9, beta2=0.99, gradient_clip=0.25, ema_decay=0.8, validate_every=30, checkpoint_every=30,
)  # fmt: skip
STILL = replace(CONFIG, learning_rate=1e-30)
DATA = WORLD.sample(1000, np.random.default_rng(0))


@cache
def graph() -> TrainingGraph:
    return TrainingGraph(MdlmFamily(), MdlmFamily().create(SIZE, S, L, 0, None), CONFIG)


def start(config: TrainingConfig, *, shake: bool) -> dict[str, np.ndarray]:
    """A fresh training, from the family's own numbers or from shaken ones (also those that start at zero)."""
    model = MdlmFamily().create(SIZE, S, L, 1, None)
    if shake:
        shaken(model, 5)
    values = {name: tensor.numpy() for name, tensor in model.parameters.items()}
    graph().config = config
    graph().start(values)
    return {name: v.astype(np.float64) for name, v in values.items()}


def train(progress=None, *, save=lambda now: None, schedule=None, tokens=DATA, seed=0):
    return loop.train(
        graph(), schedule or LinearSchedule(), tokens, seed, progress or loop.Progress(),
        validate=lambda values, last: {"validation_nats_per_token": float(sum(np.abs(v).sum() for v in values.values()))},
        save=save,
        report=lambda step, loss: None,
    )  # fmt: skip


def on_all_texts(schedule, seed: int, steps: range) -> np.ndarray:
    """Run these steps on all 81 texts; returns the losses."""
    return graph().steps(loop.batches(graph().config, [TEXTS] * len(steps), schedule, seed, steps)).numpy()


def one_step(schedule, step: int, seed: int = 9) -> float:
    """Run one step on all 81 texts; returns its loss."""
    return float(on_all_texts(schedule, seed, range(step, step + 1))[step % loop.RING])


# ---- the loss


def loss_by_numpy(values, schedule, step: int, seed: int = 9) -> float:
    """The loss of `one_step`: the same times and masks, by the host's noise."""
    t = (noise.uniform_numpy(seed, step, noise.TIMES, np.array([0]), 1)[0, 0] + np.arange(BATCH) / BATCH) % 1
    m, w = schedule.mask_probability(t), schedule.weight(t)
    masked = noise.uniform_numpy(seed, step, noise.MASKING, np.arange(BATCH), L) < m[:, None]
    cost = -of_tokens(masked_answer(values, np.where(masked, S, TEXTS)), TEXTS)
    return float(((cost * masked).sum(axis=1) * w).mean() / L)


@pytest.mark.parametrize("schedule", [LinearSchedule(), CosineSchedule()], ids=lambda s: s.spec)
def test_the_loss_is_w_times_the_masked_cross_entropy_over_l(schedule):
    values = start(STILL, shake=True)
    for step in (0, 1, 33):
        assert one_step(schedule, step) == pytest.approx(loss_by_numpy(values, schedule, step), rel=1e-5)


def many_losses(schedule, count: int = 240) -> np.ndarray:
    """Losses of that many steps with parameters that stay, each the mean over all 81 texts once."""
    start(STILL, shake=True)
    ring = loop.RING
    return np.concatenate([on_all_texts(schedule, 17, range(at, at + ring)) for at in range(0, count, ring)])


class WrongWeight(CosineSchedule):
    """Cosine's masks with the weight of `linear`."""

    name = "wrong-weight"

    def weight(self, t):
        return 1 / t


@pytest.mark.parametrize("schedule", [LinearSchedule(), CosineSchedule()], ids=lambda s: s.spec)
def test_the_loss_averaged_over_noise_is_the_exact_bound(schedule):
    values = start(STILL, shake=True)
    truth = bound(costs_of(values)).mean() / L
    found = many_losses(schedule)
    assert_within_4_se(found, truth)
    assert found.std() / np.sqrt(len(found)) < 0.02 * truth


@pytest.mark.parametrize("error", ["wrong weight", "mean over masked positions"])
def test_a_wrong_weight_or_normaliser_of_the_loss_is_caught(error):
    values = start(STILL, shake=True)
    truth = bound(costs_of(values)).mean() / L
    found = many_losses(WrongWeight()) if error == "wrong weight" else many_losses(LinearSchedule()) * L
    with pytest.raises(AssertionError, match="standard errors"):
        assert_within_4_se(found, truth)


def batch_of(tokens, t, uniform, coin) -> TrainingBatch:
    tensors = [Tensor(np.asarray(x, dtype=np.float32)) for x in (uniform, coin, t, t, 1 / t)]
    return TrainingBatch(
        tokens=Tensor(tokens.astype(np.int32)), uniform=tensors[0], coin=tensors[1], t=tensors[2],
        mask_probability=tensors[3], weight=tensors[4],
    )  # fmt: skip


RNG = np.random.default_rng(3)
T = (np.arange(BATCH) + 0.5) / 128  # 1000 t is exact in float32
UNIFORM, COIN = RNG.random((BATCH, L)), RNG.random(BATCH)
MASKED = T[:, None] > UNIFORM


def weighed(answer, rows: slice = slice(None)) -> float:
    """The loss of these rows by the weight of `linear`."""
    return float((-(of_tokens(answer, TEXTS[rows]) * MASKED[rows]).sum(axis=1) / T[rows]).mean() / L)


def test_self_conditioning_is_trained_on_half_of_the_sequences():
    family = MdlmFamily(conditioning="time", self_conditioning=True)
    model, values = network(family)
    seen = np.where(MASKED, S, TEXTS)
    first = np.exp(masked_answer(values, seen, T)) @ values["tokens"][:S]
    told = np.where((COIN < 0.5)[:, None, None], first @ values["condition"], 0.0)
    loss = family.loss(model, batch_of(TEXTS, T, UNIFORM, COIN)).item()
    assert loss == pytest.approx(weighed(masked_answer(values, seen, T, told)), rel=1e-5)
    for wrong in (0.0, first @ values["condition"]):  # as if none, or all, were told
        assert loss != pytest.approx(weighed(masked_answer(values, seen, T, wrong)), rel=1e-4)


def test_bfloat16_products_change_little():
    family = MdlmFamily()
    # a CPU compiles the conversions slowly: few rows, and half the width
    model, values = network(family, replace(SIZE, dim=8, feed_forward=16))
    model.set_compute(dtypes.bfloat16)
    some = slice(60, 68)
    loss = family.loss(model, batch_of(TEXTS[some], T[some], UNIFORM[some], COIN[some])).item()
    exact = weighed(masked_answer(values, np.where(MASKED, S, TEXTS)[some]), some)
    assert loss != pytest.approx(exact, rel=1e-6)
    assert loss == pytest.approx(exact, rel=0.02)


def test_the_baselines_loss_is_its_likelihood():
    family = AutoregressiveFamily()
    model, values = network(family)
    loss = family.loss(model, batch_of(TEXTS, T, UNIFORM, COIN)).item()
    assert loss == pytest.approx(-of_tokens(causal_answer(values, TEXTS), TEXTS).mean(), rel=1e-5)


# ---- the gradient and the update


class Small(LinearSchedule):
    """A loss a thousand times smaller, so that its gradient is not clipped."""

    name = "small"

    def weight(self, t):
        return 1e-3 / t


def gradients() -> dict[str, np.ndarray]:
    """The gradients of the first step, from the optimiser's first moment (1 - beta1) g."""
    state = graph().state()
    return {n: state[f"first/{n}"].astype(np.float64) / (1 - CONFIG.beta1) for n in graph().optimiser.layout.shapes}


def norm(values) -> float:
    return float(np.sqrt(sum((v**2).sum() for v in values.values())))


def test_the_gradient_is_that_of_the_loss_and_clipped_to_its_norm():
    """Against central differences of the loss in float64 along a random direction of each parameter."""
    values = start(STILL, shake=True)
    one_step(Small(), 0)
    small = gradients()
    rng = np.random.default_rng(0)
    for name, value in values.items():
        direction = rng.standard_normal(value.shape)
        both = [loss_by_numpy({**values, name: value + side * direction}, LinearSchedule(), 0) for side in (1e-5, -1e-5)]
        slope = (both[0] - both[1]) / 2e-5
        scale = 1e3 * np.linalg.norm(small[name]) + 1e-3  # what an unlucky direction is measured against
        assert 1e3 * (small[name] * direction).sum() == pytest.approx(slope, abs=1e-3 * scale), name
    assert norm(small) < CONFIG.gradient_clip

    start(STILL, shake=True)
    one_step(LinearSchedule(), 0)
    whole = gradients()
    assert 1e3 * norm(small) > 1.5 * CONFIG.gradient_clip  # so it is clipped, and to the norm of all at once
    assert norm(whole) == pytest.approx(CONFIG.gradient_clip, rel=1e-4)
    for name in values:
        np.testing.assert_allclose(whole[name], small[name] / norm(small) * CONFIG.gradient_clip, rtol=0, atol=1e-5)


def test_the_update_is_adamw_and_the_average_follows():
    start(CONFIG, shake=True)
    for step in range(3):
        one_step(LinearSchedule(), step)
    before = {name: v.astype(np.float64) for name, v in graph().state().items()}
    one_step(LinearSchedule(), 3)
    after = graph().state()
    beta1, beta2, n = CONFIG.beta1, CONFIG.beta2, 4
    rate = CONFIG.learning_rate * 4 / 5  # the fourth of five warm-up steps
    for name in graph().optimiser.layout.shapes:
        p, first, second, average = (before[f"{group}/{name}"] for group in ("parameters", "first", "second", "average"))
        g = (after[f"first/{name}"] - beta1 * first) / (1 - beta1)
        new_first, new_second = beta1 * first + (1 - beta1) * g, beta2 * second + (1 - beta2) * g**2
        change = (new_first / (1 - beta1**n)) / (np.sqrt(new_second / (1 - beta2**n)) + 1e-8)
        decay = CONFIG.weight_decay if p.ndim > 1 else 0.0
        new = p - rate * (change + decay * p)
        np.testing.assert_allclose(after[f"second/{name}"], new_second, rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(after[f"parameters/{name}"], new, rtol=0, atol=2e-6)
        kept = min(CONFIG.ema_decay, n / (n + 10))
        np.testing.assert_allclose(after[f"average/{name}"], kept * average + (1 - kept) * new, rtol=0, atol=2e-6)


# ---- the course of a training


def measured(progress):
    return [{k: v for k, v in point.items() if k != "seconds"} for point in progress.curve]


def entropy_per_token() -> float:
    return WORLD.entropy() / L


def test_the_loss_falls_to_near_the_entropy_and_every_point_is_there():
    start(replace(CONFIG, learning_rate=1e-2), shake=False)
    progress = train()
    # a look at the losses at each end of the ring, of a validation and of a saved state
    assert [point["train_step"] for point in progress.curve] == [20, 30, 40, 60, 80, 90]
    assert [("validation_nats_per_token" in point) for point in progress.curve] == [False, True, False, True, False, True]
    assert progress.curve[-1]["loss"] < progress.curve[0]["loss"]
    values = {name: v.astype(np.float64) for name, v in graph().averaged().items()}
    law = np.exp(WORLD.log_probability(TEXTS))
    cost = (law * bound(costs_of(values))).sum() / L
    assert entropy_per_token() < cost < 1.1 * entropy_per_token() < np.log(S)


def test_a_resumed_training_is_the_undisturbed_one_bit_for_bit():
    kept = {}

    def save(now):
        kept["state"], kept["progress"] = graph().state(), loop.Progress(**{**vars(now), "curve": list(now.curve)})

    start(replace(CONFIG, train_steps=60), shake=False)
    whole = train(save=save)
    undisturbed = graph().state()
    assert kept["progress"].step == 30
    start(replace(CONFIG, train_steps=60), shake=True)  # another training in between
    train()
    graph().restore(kept["state"])
    resumed = train(kept["progress"])
    assert measured(resumed) == measured(whole)
    for name, values in graph().state().items():
        np.testing.assert_array_equal(values, undisturbed[name], err_msg=name)
    # and what is not restored is seen
    del kept["progress"].curve[2:]
    kept["progress"].step = 30
    graph().restore({**kept["state"], "first/head": kept["state"]["first/head"] * 0})
    assert measured(train(kept["progress"])) != measured(whole)


def told(monkeypatch, schedule, seed=0):
    """The inputs of each of the first 25 steps: tokens, numbers, key."""
    seen, real = [], TrainingGraph.steps

    def spy(self, batches):
        seen.extend((batch.tokens, batch.numbers, batch.key) for batch in batches)
        return real(self, batches)

    monkeypatch.setattr(TrainingGraph, "steps", spy)
    start(replace(CONFIG, train_steps=25), shake=False)
    train(schedule=schedule, seed=seed)
    monkeypatch.undo()
    return seen


def test_data_and_masks_do_not_depend_on_the_schedule(monkeypatch):
    linear, cosine = told(monkeypatch, LinearSchedule()), told(monkeypatch, CosineSchedule())
    other = told(monkeypatch, LinearSchedule(), seed=1)
    assert len(linear) == 25
    for one, two, three in zip(linear, cosine, other, strict=True):
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[1][0], two[1][0])  # t
        assert (one[1][1:] != two[1][1:]).any()  # what the schedule makes of it
        assert one[2] == two[2]
        assert one[2] != three[2] and (one[0] != three[0]).any() and (one[1][0] != three[1][0]).all()
    assert len({key for _, _, key in linear}) == 25


@pytest.mark.parametrize("schedule", [LinearSchedule(), CosineSchedule()], ids=lambda s: s.spec)
def test_times_are_low_discrepancy_and_belong_to_the_step(schedule):
    def times(seed: int, step: int) -> np.ndarray:
        return loop.schedule_numbers(schedule, 8, seed, range(step, step + 1))[0]

    t, m, w = times(3, 5)
    np.testing.assert_array_equal(np.sort((t * 8).astype(int)), np.arange(8))
    np.testing.assert_allclose(np.diff(np.sort(t)), 1 / 8)
    np.testing.assert_allclose(m, schedule.mask_probability(t))
    np.testing.assert_allclose(w, schedule.weight(t))
    np.testing.assert_array_equal(times(3, 5)[0], t)
    assert not np.array_equal(times(3, 6)[0], t)
    assert not np.array_equal(times(4, 5)[0], t)
    every = loop.schedule_numbers(schedule, 8, 3, range(2000))
    np.testing.assert_array_equal(every[5], [t, m, w])  # a step's own, however many are asked for
    assert (every[:, 0] > 0).all() and (every[:, 0] < 1).all() and np.isfinite(every).all()
    # each row alone is uniform: no text sees only early times
    assert np.abs(every[:, 0].mean(axis=0) - 0.5).max() < 4 * np.sqrt(1 / 12 / 2000)


def test_an_epoch_reads_every_sequence_once():
    rows = np.concatenate([loop.batch_rows(64, 16, 0, step) for step in range(4)])
    np.testing.assert_array_equal(np.sort(rows), np.arange(64))
    again = np.concatenate([loop.batch_rows(64, 16, 0, step) for step in range(4, 8)])
    assert not np.array_equal(rows, again)
    np.testing.assert_array_equal(np.sort(again), np.arange(64))
    assert not np.array_equal(loop.batch_rows(64, 16, 1, 0), rows[:16])
    # a short rest is dropped, and fewer sequences than a batch are repeated
    assert len(np.unique(np.concatenate([loop.batch_rows(70, 16, 0, step) for step in range(4)]))) == 64
    assert np.bincount(np.concatenate([loop.batch_rows(5, 16, 0, step) for step in range(5)])).tolist() == [16] * 5


def test_the_order_of_an_epoch_is_drawn_once():
    loop._epoch_order.cache_clear()
    for step in range(12):
        loop.batch_rows(64, 16, 5, step)
    assert loop._epoch_order.cache_info().misses == 3


def test_learning_rate_warms_up_and_decays():
    rates = [loop.learning_rate(CONFIG, step) for step in range(CONFIG.train_steps)]
    np.testing.assert_allclose(rates[:5], np.arange(1, 6) / 5 * 2e-2)
    done = (np.arange(5, 90) - 5) / 85
    np.testing.assert_allclose(rates[5:], 2e-2 * (0.1 + 0.9 * (1 + np.cos(np.pi * done)) / 2))
    assert loop.learning_rate(CONFIG, CONFIG.train_steps) == pytest.approx(2e-3)
    assert loop.learning_rate(replace(CONFIG, warmup_steps=0), 0) == pytest.approx(2e-2)


def test_a_loss_that_is_no_number_stops_the_training():
    start(CONFIG, shake=False)
    graph().restore({name: values * np.nan for name, values in graph().state().items()})
    with pytest.raises(UserError, match="smaller learning_rate"):
        train()


def test_one_graph_served_all_of_this():
    assert graph().graph.kernels > 0
    captured = graph().graph._jit.captured
    start(CONFIG, shake=False)
    train(schedule=CosineSchedule(), seed=3)
    assert graph().graph._jit.captured is captured

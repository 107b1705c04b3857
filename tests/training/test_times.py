"""How times are drawn in training and what they weigh: the bell's law, and the expectation of each loss on a tiny world.

Times and weights are numbers on the host, so one graph serves every family here.
"""

import numpy as np
import pytest
from mist_bench_plugins.family_mdlm import MdlmFamily
from mist_bench_plugins.schedule_cosine import CosineSchedule
from mist_bench_plugins.schedule_linear import LinearSchedule

from harness import trainings
from harness.brute_force import MASKS, TEXTS, L, S, bound, masked_answer, of_tokens, shaken, table
from mist_bench import UserError, bell_times
from mist_bench.engine import noise
from mist_bench.host.registry import Registry
from mist_bench.training import loop

pytestmark = pytest.mark.slow
WIDTH = 0.2
GRID = (np.arange(200_000) + 0.5) / 200_000


def bell(t: np.ndarray) -> np.ndarray:
    """The density of the bell at t, its total by the midpoint rule."""
    return np.exp(-((t - 0.5) ** 2) / 2 / WIDTH**2) / np.exp(-((GRID - 0.5) ** 2) / 2 / WIDTH**2).mean()


def test_the_bells_density_is_that_of_its_quantiles():
    uniform = np.linspace(0, 1, 41)
    t, density = bell_times(uniform, WIDTH)
    np.testing.assert_allclose(density, bell(t), rtol=1e-6)
    assert (t[0], t[20], t[40]) == pytest.approx((0.0, 0.5, 1.0), abs=1e-12)
    for u, time in zip(uniform, t, strict=True):  # as much of the density lies below a quantile as it says
        assert (bell(GRID) * (time > GRID)).mean() == pytest.approx(u, abs=2e-5)


@pytest.mark.parametrize("spec", ["mdlm[bell=0.2]", "mdlm[weight=none,bell=0.2]"])
def test_a_training_draws_its_times_from_the_bell(spec):
    family, batch, steps = Registry.discover().make("family", spec), 8, 2000
    numbers = loop.schedule_numbers(CosineSchedule(), batch, 3, range(steps), family.times)
    t, mask_probability, weight = numbers[:, 0], numbers[:, 1], numbers[:, 2]
    np.testing.assert_allclose(mask_probability, CosineSchedule().mask_probability(t))
    np.testing.assert_allclose(weight, 1.0 if "none" in spec else CosineSchedule().weight(t) / bell(t), rtol=1e-6)
    quantiles = bell_times(np.arange(1, batch) / batch, WIDTH)[0]
    # one time of each eighth in every step: as low in discrepancy as uniform times
    np.testing.assert_array_equal(np.sort(np.searchsorted(quantiles, t), axis=1), [range(batch)] * steps)
    shares = np.array([(t < q).mean(axis=0) for q in quantiles])  # each row alone has the law
    assert np.abs(shares - np.arange(1, batch)[:, None] / batch).max() < 4.5 * np.sqrt(0.25 / steps)


def expected(family: MdlmFamily, schedule) -> float:
    """The expectation of the loss over times, by the midpoint rule, and masks, over all of them; times L."""
    t, weight = family.times(GRID, schedule)
    m, k = schedule.mask_probability(t)[:, None], MASKS.sum(axis=1)
    return float(weight @ (m**k * (1 - m) ** (L - k)) @ table().mean(axis=0)) / len(GRID)


@pytest.mark.parametrize("schedule", [LinearSchedule(), CosineSchedule()], ids=lambda schedule: schedule.spec)
def test_the_loss_divided_by_the_density_has_the_bound_as_its_expectation(schedule):
    truth = bound(table()).mean()
    assert expected(MdlmFamily(), schedule) == pytest.approx(truth, rel=1e-5)
    assert expected(MdlmFamily(bell=WIDTH), schedule) == pytest.approx(truth, rel=1e-5)
    for options in ({"bell": WIDTH, "weight": "schedule"}, {"bell": WIDTH, "weight": "none"}, {"weight": "none"}):
        assert abs(expected(MdlmFamily(**options), schedule) / truth - 1) > 1e-3, options


def test_undivided_weights_count_a_time_by_its_density():
    m, k = GRID[:, None], MASKS.sum(axis=1)
    at_each_time = (m**k * (1 - m) ** (L - k)) @ table().mean(axis=0)
    for weight, factor in (("schedule", bell(GRID) / GRID), ("none", bell(GRID))):
        found = expected(MdlmFamily(bell=WIDTH, weight=weight), LinearSchedule())
        assert found == pytest.approx((factor * at_each_time).mean(), rel=1e-5)


# ---- in the captured step


def first_loss(family: MdlmFamily, monkeypatch) -> tuple[float, float]:
    """The loss of the first step of a training; and by numpy, of the same times, masks and parameters."""
    its, schedule, config = trainings.graph("mdlm"), LinearSchedule(), trainings.CONFIG
    monkeypatch.setattr(its, "family", family)
    values = shaken(its.family.create(trainings.SIZE, S, L, 1, None), 5)
    trainings.start(its)
    seen = []
    own = its.steps
    monkeypatch.setattr(its, "steps", lambda batches: seen.append(batches) or own(batches))
    trainings.train(its)
    first = seen[0][0]
    trainings.start(its)
    loss = float(own([first]).numpy()[0])
    t, m, _ = loop.schedule_numbers(schedule, config.batch_size, noise.seed_of(axis="masks", seed=3), range(1), family.times)[0]
    np.testing.assert_array_equal(first.numbers[0], t)  # the loop asked this family
    masked = noise.uniform_numpy(noise.seed_of(axis="masks", seed=3), 0, noise.MASKING, np.arange(len(t)), L) < m[:, None]
    cost = -of_tokens(masked_answer(values, np.where(masked, S, first.tokens)), first.tokens) * masked
    weight = {"none": np.ones_like(t), "schedule": 1 / t, "bound": 1 / t / (bell(t) if family.bell else 1)}[family.weight]
    return loss, float((cost.sum(axis=1) * weight).mean() / L)


@pytest.mark.parametrize("options", [{"weight": "none"}, {"bell": WIDTH}, {"bell": WIDTH, "weight": "schedule"}], ids=str)
def test_the_captured_loss_is_the_weighted_cross_entropy(options, monkeypatch):
    found, by_hand = first_loss(MdlmFamily(**options), monkeypatch)
    assert found == pytest.approx(by_hand, rel=1e-5)


def test_the_cross_entropy_is_the_mean_over_positions_of_what_is_masked(monkeypatch):
    """By hand, of the whole of a tiny batch: nothing but -log p of the masked tokens, added up and divided by B L."""
    its = trainings.graph("mdlm")
    values = shaken(its.family.create(trainings.SIZE, S, L, 1, None), 5)
    trainings.start(its)
    (batch,) = loop.batches(trainings.CONFIG, [TEXTS[:8]], LinearSchedule(), 4, range(1), MdlmFamily(weight="none").times)
    loss = float(its.steps([batch]).numpy()[0])
    masked = noise.uniform_numpy(4, 0, noise.MASKING, np.arange(8), L) < batch.numbers[1][:, None]
    answer = masked_answer(values, np.where(masked, S, TEXTS[:8]))
    total = sum(-answer[b, i, TEXTS[b, i]] for b in range(8) for i in range(L) if masked[b, i])
    assert loss == pytest.approx(total / (8 * L), rel=1e-5)
    assert 0 < masked.sum() < 8 * L


# ---- as a parameter


def test_a_name_has_only_what_was_changed_and_wrong_values_are_one_line():
    registry = Registry.discover()
    assert MdlmFamily(bell=0.2, weight="none").spec == "mdlm[weight=none,bell=0.2]"
    assert registry.make("family", "mdlm[weight=bound,bell=0]") == MdlmFamily()
    for given, said in (
        ("weight=ce", "weight is one of bound, schedule, none, not 'ce'"),
        ("bell=0.05", "the width of a bell is from 0.1 to 10, not 0.05"),
        ("bell=-1", "not -1"),
        ("bell=1e9", "not 1e"),
    ):
        with pytest.raises(UserError, match=said) as error:
            registry.make("family", f"mdlm[{given}]")
        assert "\n" not in str(error.value)

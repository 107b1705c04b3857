"""ReMDM against its rule in numpy: one step from fixed states, whole runs on a small world, the device."""

from dataclasses import replace

import numpy as np
import pytest
from mist_bench_plugins.sampler_random import RandomSampler
from mist_bench_plugins.sampler_remdm import RemdmSampler
from mist_bench_plugins.schedule_cosine import CosineSchedule
from mist_bench_plugins.schedule_linear import LinearSchedule
from tinygrad import Tensor

from harness.brute_force import BATCH, WORLD, assert_counts_follow
from harness.chain import law_of, posterior
from harness.runs import SMALL
from mist_bench import UserError
from mist_bench.host.registry import Registry
from mist_bench.inference.timetable import timetable
from mist_bench.measure.one_step import sequences, transitions
from mist_bench.measure.sampler_law import law_distance, total_variation
from mist_bench.measure.start import Start, view_of

V, L, MASK = 3, 4, 3
ALPHAS = [(0.0, 0.25), (0.2, 0.5), (0.8, 0.9), (0.9, 0.9), (0.3, 0.3), (0.45, 0.6), (0.0, 0.0), (0.6, 0.65),
          (0.4, 0.6)]


def situation(*, last: bool = False, step: int = 0) -> Start:
    """Nine rows: nothing revealed, some, everything; fixed tokens; a fixed mask (of another block); their alphas."""
    m = MASK
    tokens = np.array([[m, m, m, m], [2, m, 0, m], [1, 1, m, 0], [0, 1, 2, 2], [2, m, 1, m], [m, 0, m, 1], [0, m, 1, 1],
                       [1, 0, 2, m], [m, m, m, m]])  # fmt: skip
    free = np.ones((9, L), dtype=bool)
    free[4, 0] = free[4, 3] = free[7, 1] = free[7, 2] = False
    t, s = np.array(ALPHAS).T
    s = np.ones(9) if last else s
    log_p = np.log(np.random.default_rng(3).dirichlet(np.ones(V), size=(9, L)))
    return Start(
        tokens=tokens, free=free, log_probabilities=log_p, to_fill=free.sum(axis=1),
        target_masked=np.zeros(9, dtype=int), reveal_probability=(s - t) / (1 - t), alpha_t=t, alpha_s=s, step=step,
        steps=5, last=last,
    )  # fmt: skip


def drawn(tokens) -> np.ndarray:
    """The p with which each token was drawn, for tests in which it is a function of the text."""
    return 0.1 + 0.2 * tokens + 0.05 * np.arange(L)


def most(t, s):
    return min(1.0, (1 - s) / t) if t else 1.0 if s < 1 else 0.0


def sigma_cap(eta):
    return lambda t, s, tokens, shown: np.full(L, min(eta, most(t, s)))


def sigma_rescale(eta):
    return lambda t, s, tokens, shown: np.full(L, eta * most(t, s))


def sigma_loop(eta):
    return lambda t, s, tokens, shown: np.full(L, min(eta, most(t, s)) if s == t else 0.0)


def sigma_conf(eta):
    def sigma(t, s, tokens, shown):
        e = np.where(shown, np.exp(-drawn(tokens)), 0.0)
        return eta * most(t, s) * (e / e.sum() if shown.any() else e)

    return sigma


def position_laws(tokens, free, p, t, s, sigma) -> np.ndarray:
    """(L, V + 1): the law of each position after one step, independent given the state."""
    law = np.zeros((L, V + 1))
    shown = free & (tokens != MASK)
    again = sigma(t, s, tokens, shown)
    for i in range(L):
        if shown[i]:
            law[i, tokens[i]], law[i, MASK] = 1 - again[i], again[i]
        elif free[i]:
            reveal = (s - (1 - again[i]) * t) / (1 - t)
            law[i, :V], law[i, MASK] = reveal * p[i], 1 - reveal
        else:
            law[i, tokens[i]] = 1.0
    return law


def assert_same_law(sampler, sigma, start: Start) -> None:
    found = np.zeros((len(start.tokens),) + (V + 1,) * L)
    origin, after, weight = transitions(sampler, start)
    np.add.at(found, (origin, *after.T), weight)
    for b in range(len(start.tokens)):
        law = position_laws(start.tokens[b], start.free[b], np.exp(start.log_probabilities[b]), start.alpha_t[b],
                            start.alpha_s[b], sigma)  # fmt: skip
        truth = np.einsum("a,b,c,d->abcd", *law)
        worst = np.abs(found[b] - truth).max()
        assert worst < 1e-6, f"row {b}: a probability is off by {worst}"


class Recalls(RemdmSampler):
    """`conf` without a state: the p with which a token was drawn is read off the text."""

    def recalled(self, view):
        return {"drawn": 0.1 + 0.2 * view.tokens.float() + 0.05 * view.tokens.arange(L)}

    def initial_state(self, batch, length):
        return {}

    def coin(self, view, state):
        return super().coin(view, self.recalled(view))

    def step(self, view, state):
        return super().step(view, self.recalled(view))[0], {}


RULES = [
    (RemdmSampler(), sigma_cap(0.008)),
    (RemdmSampler(eta=0.3), sigma_cap(0.3)),
    (RemdmSampler(eta=1.0), sigma_cap(1.0)),
    (RemdmSampler(kind="rescale"), sigma_rescale(0.015)),
    (RemdmSampler(kind="rescale", eta=0.4), sigma_rescale(0.4)),
    (RemdmSampler(kind="rescale", eta=1.0), sigma_rescale(1.0)),
    (RemdmSampler(kind="loop"), sigma_loop(0.02)),
    (RemdmSampler(kind="loop", eta=0.3), sigma_loop(0.3)),
    (Recalls(kind="conf"), sigma_conf(1.0)),
    (Recalls(kind="conf", eta=0.5), sigma_conf(0.5)),
]


@pytest.mark.parametrize(("sampler", "sigma"), RULES, ids=lambda x: getattr(x, "spec", ""))
def test_one_step_law_is_the_rule(sampler, sigma):
    assert_same_law(sampler, sigma, situation())


@pytest.mark.parametrize(("sampler", "sigma"), RULES, ids=lambda x: getattr(x, "spec", ""))
def test_the_last_step_reveals_all_and_masks_nothing(sampler, sigma):
    start = situation(last=True, step=4)
    assert_same_law(sampler, sigma, start)
    origin, after, _ = transitions(sampler, start)
    assert not ((after == MASK) & start.free[origin]).any()


class TwoPercentTooOften(RemdmSampler):
    def coin(self, view, state):
        return super().coin(replace(view, alpha_t=view.alpha_t * 1.02), state)


class MasksWhatIsFixed(RemdmSampler):
    def step(self, view, state):
        return super().step(replace(view, free=view.free.ones_like()), state)


@pytest.mark.parametrize("wrong", [TwoPercentTooOften, MasksWhatIsFixed])
def test_a_slightly_wrong_sampler_is_caught(wrong):
    with pytest.raises(AssertionError, match="a probability is off by"):
        assert_same_law(wrong(eta=0.3), sigma_cap(0.3), situation(step=2))


class TossesAnotherCoin(RemdmSampler):
    def step(self, view, state):
        return super().step(replace(view, uniform=view.uniform * 0.9), state)


def test_a_coin_that_is_not_the_declared_one_is_an_error():
    with pytest.raises(UserError, match="does not use its noise as its choice = 'coin' declares"):
        transitions(TossesAnotherCoin(eta=0.3), situation())


# ---- times


@pytest.mark.parametrize("steps", [1, 3, 7, 20, 100])
@pytest.mark.parametrize("schedule", [LinearSchedule(), CosineSchedule()])
def test_loop_reaches_holds_and_finishes_without_a_jump(schedule, steps):
    plan = timetable(RemdmSampler(kind="loop"), schedule, steps, np.array([5, 8]), np.full((2, 8), 0.5))
    alpha_t, alpha_s = plan.alpha_t[:, 0], plan.alpha_s[:, 0]
    assert (alpha_t[1:] == alpha_s[:-1]).all() and alpha_t[0] == 0 and alpha_s[-1] == 1
    assert (np.diff(plan.alpha_s, axis=0) >= 0).all()
    for j in range(steps):
        left = 1 - j / steps
        if 0.05 <= left <= 0.55 and j:
            assert alpha_t[j] == pytest.approx(0.9, abs=1e-12)
        elif isinstance(schedule, LinearSchedule):
            linear = 0.9 * (1 - left) / 0.45 if left > 0.55 else 1 - 0.1 * left / 0.05
            assert alpha_t[j] == pytest.approx(linear, abs=1e-12)
    held = (alpha_t.astype(np.float32) == alpha_s.astype(np.float32)).sum()
    # whole steps within [0.05, 0.55]
    assert held == sum(1 - (j + 1) / steps >= 0.05 and 1 - j / steps <= 0.55 + 1e-9 for j in range(steps))


def test_other_kinds_keep_to_the_schedule():
    for kind in ("cap", "rescale", "conf"):
        own, plain = (vars(timetable(sampler, CosineSchedule(), 5, np.array([4]), np.full((1, 4), 0.5)))
                      for sampler in (RemdmSampler(kind=kind), RandomSampler()))  # fmt: skip
        for name, values in plain.items():
            np.testing.assert_array_equal(own[name], values, err_msg=name)


# ---- whole runs under the oracle

STATES = sequences(L, 4)  # 3: masked


def laws_by_step(sampler, sigma, schedule, steps) -> list[np.ndarray]:
    """The law over the 256 states after each step, by matrices in numpy."""
    table = timetable(sampler, schedule, steps, np.array([L]), np.full((1, L), 0.5))
    law, out = np.eye(256)[-1], []
    for t, s in zip(table.alpha_t[:, 0], table.alpha_s[:, 0], strict=True):
        rows = np.zeros((256, 256))
        for number in np.flatnonzero(law):
            here = position_laws(STATES[number], np.ones(L, bool), posterior(tuple(STATES[number].tolist())), t, s, sigma)
            rows[number] = np.einsum("a,b,c,d->abcd", *here).ravel()
        law = law @ rows
        out.append(law)
    return out


RUNS = [
    (RemdmSampler(eta=0.3), sigma_cap(0.3), LinearSchedule(), 4),
    (RemdmSampler(kind="rescale", eta=0.5), sigma_rescale(0.5), CosineSchedule(), 5),
    (RemdmSampler(kind="loop", eta=0.1), sigma_loop(0.1), LinearSchedule(), 9),
]


@pytest.mark.parametrize(("sampler", "sigma", "schedule", "steps"), RUNS, ids=lambda x: getattr(x, "spec", ""))
def test_the_law_of_a_run(sampler, sigma, schedule, steps):
    own = laws_by_step(sampler, sigma, schedule, steps)[-1]
    assert total_variation(law_of(sampler, schedule, steps), own[(STATES < 3).all(axis=1)]) < 1e-5


@pytest.mark.parametrize(("sampler", "sigma", "schedule", "steps"), RUNS, ids=lambda x: getattr(x, "spec", ""))
def test_as_much_is_masked_as_the_schedule_says(sampler, sigma, schedule, steps):
    """The expected number of masks after each step is (1 - alpha(s)) L, from the device's own steps."""
    states, size = sequences(L, WORLD.vocab_size + 1), WORLD.vocab_size
    masked = states == size
    answers = WORLD.log_posterior(Tensor(states.astype(np.int32))).numpy()
    table = timetable(sampler, schedule, steps, np.array([L]), np.full((1, L), 0.5))
    law, many = np.eye(len(states))[-1], L
    names = ("reveal_probability", "alpha_t", "alpha_s", "target_masked")
    for step in range(steps):
        reveal, t, s, stay = (getattr(table, name)[step, 0] for name in names)
        alive = np.flatnonzero(law)
        every = np.ones(len(alive))
        start = Start(
            tokens=states[alive], free=np.ones((len(alive), L), bool),
            log_probabilities=answers[alive], to_fill=(every * many).astype(int),
            target_masked=(every * stay).astype(int), reveal_probability=every * reveal, alpha_t=every * t,
            alpha_s=every * s, step=step, steps=steps, last=step == steps - 1,
        )  # fmt: skip
        origin, after, weight = transitions(sampler, start)
        number = after @ (size + 1) ** np.arange(L - 1, -1, -1)
        law = np.bincount(number, law[alive][origin] * weight, minlength=len(states))
        assert law @ masked.sum(axis=1) == pytest.approx((1 - s) * L, abs=1e-5)


def test_no_law_is_had_where_p_is_remembered():
    assert law_distance(RemdmSampler(kind="conf"), LinearSchedule(), 4, WORLD) is None


# ---- the device

@pytest.mark.parametrize("spec", ["remdm[eta=0]", "remdm[kind=rescale,eta=0]", "remdm[kind=conf,eta=0]"])
def test_without_masking_again_it_is_random_token_for_token(spec):
    for schedule in (LinearSchedule(), CosineSchedule()):
        np.testing.assert_array_equal(SMALL(spec, schedule=schedule)[0], SMALL("random", schedule=schedule)[0])


@pytest.mark.parametrize("spec", ["remdm[eta=1]", "remdm[kind=rescale]", "remdm[kind=conf]", "remdm[kind=loop,eta=0.1]"])
def test_all_is_filled_what_is_fixed_is_kept_and_no_batch_matters(spec):
    rng = np.random.default_rng(0)
    text, fixed = WORLD.sample(BATCH, rng), rng.random((BATCH, L)) < 0.5
    given = np.where(fixed, text, WORLD.vocab_size).astype(np.int32)
    for steps in (1, 3, 25):
        made, nfe = SMALL(spec, given, steps=steps)
        assert (made < 3).all() and (made[fixed] == text[fixed]).all() and (nfe == steps).all()
    other = rng.permutation(BATCH)
    assert np.array_equal(SMALL(spec, given[other], ids=other, steps=25)[0], made[other])


@pytest.mark.parametrize(("spec", "sigma", "steps"), [("remdm[eta=0.3]", sigma_cap(0.3), 4),
                                                     ("remdm[kind=loop,eta=0.1]", sigma_loop(0.1), 9)])  # fmt: skip
def test_what_the_device_draws_follows_the_law(spec, sigma, steps):
    own = laws_by_step(SMALL.graph(spec).sampler, sigma, LinearSchedule(), steps)[-1][(STATES < 3).all(axis=1)]
    assert_counts_follow(SMALL.counts(spec, 24_576, steps=steps, seed=1), own)


def test_conf_remembers_with_which_p_a_token_was_drawn():
    """Two steps of one run on the device: sigma of the second uses what the first has drawn, and keeps it."""
    sampler, start = RemdmSampler(kind="conf"), situation()
    origin, x = np.arange(9), np.random.default_rng(8).integers(0, V, (9, L))
    before = np.random.default_rng(9).random((9, L)).astype(np.float32)
    uniform = np.tile([0.01, 0.999, 0.01, 0.999], (9, 1))
    view = view_of(sampler, start, origin, x, uniform)
    after, state = sampler.step(view, {"drawn": Tensor(before)})
    revealed = (after.numpy() != MASK) & start.masked
    assert revealed.any()
    p = np.exp(np.take_along_axis(start.log_probabilities, x[..., None], 2)[..., 0])
    np.testing.assert_allclose(state["drawn"].numpy(), np.where(revealed, p, before), rtol=1e-6)
    assert sampler.initial_state(2, 3)["drawn"].tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("remdm[kind=caps]", "kind is one of cap, rescale, conf, loop, not 'caps'"),
        ("remdm[eta=1.5]", "eta is from 0 to 1, not 1.5"),
        ("remdm[t_on=0.01]", "t_off and t_on are 0 < t_off < t_on < 1"),
        ("remdm[alpha_on=1]", "alpha_on is between 0 and 1"),
    ],
)
def test_wrong_parameters_are_refused(spec, message):
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        Registry.discover().make("sampler", spec)

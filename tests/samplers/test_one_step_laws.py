"""One-step laws of the samplers against their rules written again in numpy, and their counts over whole trajectories.

A rule here sees one sequence: its masked positions, p (L, V) in float64, the proposal, and the step's numbers. It
gives the sets of positions that may be revealed, with their probabilities. No code is shared with the samplers.
"""

from dataclasses import replace

import numpy as np
import pytest
from mist_bench_plugins.sampler_autoregressive import AutoregressiveSampler
from mist_bench_plugins.sampler_confidence import ConfidenceSampler
from mist_bench_plugins.sampler_entropy import EntropySampler
from mist_bench_plugins.sampler_first_hitting import FirstHittingSampler
from mist_bench_plugins.sampler_margin import MarginSampler
from mist_bench_plugins.sampler_random import RandomSampler
from mist_bench_plugins.sampler_top_k import TopKSampler
from mist_bench_plugins.schedule_cosine import CosineSchedule
from mist_bench_plugins.schedule_linear import LinearSchedule

from harness.rules import (
    MASK,
    L,
    V,
    assert_same_law,
    best,
    ids,
    rule_autoregressive,
    rule_confidence,
    rule_confidence_max,
    rule_entropy,
    rule_first_hitting,
    rule_margin,
    rule_random,
    rule_top_k,
    scheduled,
    situation,
)
from harness.wrong_rates import RevealsFivePercentTooOften, RevealsFivePercentTooRarely
from mist_bench import Choice, Count, Sampler, ScoreSampler, UserError
from mist_bench.measure.one_step import transitions
from mist_bench.measure.start import Start, view_of

RULES = [
    (RandomSampler(), rule_random),
    (FirstHittingSampler(), rule_first_hitting),
    (AutoregressiveSampler(), rule_autoregressive),
    (ConfidenceSampler(), rule_confidence),
    (ConfidenceSampler(score="max"), rule_confidence_max),
    (MarginSampler(), rule_margin),
    (EntropySampler(), rule_entropy),
    (TopKSampler(), rule_top_k),
]


@pytest.mark.parametrize(("sampler", "rule"), RULES, ids=ids)
@pytest.mark.parametrize(("step", "steps", "last"), [(0, 3, False), (1, 3, False), (2, 3, True), (3, 9, False)])
def test_one_step_law_is_the_rule(sampler, rule, step, steps, last):
    start, numbers = situation(step, steps, last=last)
    assert_same_law(sampler, rule, start, numbers)


class CountOffByOne(ConfidenceSampler):
    def step(self, view, state):
        return super().step(replace(view, target_masked=view.target_masked - 1), state)


class LowestMargin(MarginSampler):
    def scores(self, view):
        return -view.margin


class TiesGoRight(EntropySampler):
    def scores(self, view):
        return -view.entropy + 1e-6 * view.entropy.arange(L)


class LateShares(Count):
    def of(self, view, score):
        share = view.to_fill // view.steps + (view.step >= view.steps - view.to_fill % view.steps).int()
        return view.last.where(view.masked.sum(axis=-1).int(), share)


class RemainderLast(TopKSampler):
    count = LateShares()


class FavoursTheLikely(FirstHittingSampler):
    def scores(self, view):
        return view.uniform + 0.5 * view.log_probability.exp()


class DrawsTwice(FirstHittingSampler):
    def step(self, view, state):
        after, state = super().step(view, state)
        return (after != view.tokens).where((after + 1) % V, after), state


@pytest.mark.parametrize(
    ("sampler", "rule", "step", "steps"),
    [
        (CountOffByOne(), rule_confidence, 2, 5),
        (RevealsFivePercentTooOften(), rule_random, 2, 5),
        (RevealsFivePercentTooRarely(), rule_random, 2, 5),
        (LowestMargin(), rule_margin, 2, 5),
        (TiesGoRight(), rule_entropy, 2, 5),
        (RemainderLast(), rule_top_k, 0, 3),
        (FavoursTheLikely(), rule_first_hitting, 2, 5),
        (DrawsTwice(), rule_first_hitting, 2, 5),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, Sampler) else None,
)
def test_a_slightly_wrong_sampler_is_caught(sampler, rule, step, steps):
    # from step 2 on, noise is no longer checked against what a sampler declares: the laws themselves must differ
    start, numbers = situation(step, steps, last=False)
    with pytest.raises(AssertionError, match="a probability is off by"):
        assert_same_law(sampler, rule, start, numbers)


class Undeclared(ScoreSampler):
    name = "undeclared"

    def __init__(self, choice: Choice) -> None:
        object.__setattr__(self, "declared", choice)

    @property
    def choice(self) -> Choice:
        return self.declared  # type: ignore[attr-defined]

    def scores(self, view):
        return (view.uniform * 20).sin()


@pytest.mark.parametrize("choice", ["none", "order", "bernoulli"])
def test_noise_used_otherwise_than_declared_is_an_error(choice):
    start, _ = situation(0, 3, last=False)
    with pytest.raises(UserError, match=f"'undeclared' does not use its noise as its choice = '{choice}' declares"):
        transitions(Undeclared(choice), start)


def test_annealed_choice_noise_follows_maskgit():
    rng = np.random.default_rng(5)
    origin, x = np.arange(4096) % 6, rng.integers(0, V, (4096, L))
    uniform = rng.random((4096, L))
    for score, step, steps in (("proposal", 0, 3), ("max", 1, 4)):
        start, numbers = situation(step, steps, last=False)
        after, _ = ConfidenceSampler(score=score, noise=2.0).step(
            view_of(RandomSampler(), start, origin, x, uniform), {}
        )
        revealed = (after.numpy() != start.tokens[origin]) & start.masked[origin]
        for n in range(600):
            b = origin[n]
            places = np.flatnonzero(start.masked[b])
            lp = start.log_probabilities[b]
            own = {i: lp[i, x[n, i]] if score == "proposal" else lp[i].max() for i in places}
            gumbel = {i: -np.log(-np.log(uniform[n, i])) for i in places}
            order = {i: own[i] + 2.0 * (1 - (step + 1) / steps) * gumbel[i] for i in places}
            assert best(places, order, scheduled(len(places), numbers[b])) == set(np.flatnonzero(revealed[n]))


def test_confidence_declares_what_its_parameters_make_of_it():
    assert ConfidenceSampler(noise=1.0).choice == "continuous"
    assert ConfidenceSampler().choice == "none"
    assert not ConfidenceSampler().exact_one_at_a_time
    assert ConfidenceSampler(score="max", noise=1.0).exact_one_at_a_time


@pytest.mark.parametrize("parameters", [{"score": "best"}, {"noise": -1.0}, {"noise": float("nan")}])
def test_wrong_parameters_are_refused(parameters):
    with pytest.raises(ValueError, match=f"^{next(iter(parameters))} is "):
        ConfidenceSampler(**parameters)


LONG, ROWS = 12, 12


def trajectory(sampler: Sampler, schedule, steps: int):
    """Rows with M = 1..12 positions to fill and the rest fixed: the states (n + 1, B, L), masked target (n, B)."""
    rng = np.random.default_rng(11)
    tokens, free = rng.integers(0, V, (ROWS, LONG)), np.zeros((ROWS, LONG), dtype=bool)
    for b in range(ROWS):
        free[b, rng.permutation(LONG)[: b + 1]] = True
    tokens = np.where(free, MASK, tokens)
    to_fill = free.sum(axis=1)
    t = sampler.times(schedule, steps, to_fill, rng.random((ROWS, LONG)))
    m = np.where(t >= 1, 1.0, np.where(t <= 0, 0.0, schedule.mask_probability(t)))
    target = np.floor(m[:, 1:] * to_fill[:, None] + 0.5 + 1e-9).astype(int).T
    states = [tokens]
    for step in range(t.shape[1] - 1):
        now = states[-1]
        before, after = m[:, step], m[:, step + 1]
        r = np.where(before > 0, (before - after) / np.maximum(before, 1e-300), 1.0)
        p = rng.dirichlet(np.ones(V), (ROWS, LONG))
        start = Start(
            tokens=now, free=free, log_probabilities=np.log(p),
            to_fill=to_fill, target_masked=target[step], reveal_probability=r, alpha_t=1 - before, alpha_s=1 - after,
            step=step, steps=steps, last=step == t.shape[1] - 2,
        )  # fmt: skip
        x = np.where(now == MASK, rng.integers(0, V, now.shape), now)
        view = view_of(sampler, start, np.arange(ROWS), x, rng.random(now.shape))
        states.append(sampler.step(view, {})[0].numpy())
    states = np.array(states)
    assert (states[:, ~free] == tokens[~free]).all(), "a fixed token changed"
    kept = states[:-1] != MASK
    assert (states[1:][kept] == states[:-1][kept]).all(), "a revealed token changed"
    assert (states[-1] != MASK).all(), "something is masked after the last step"
    return (states == MASK).sum(axis=2), target


@pytest.mark.parametrize("steps", [1, 3, 5, 12, 17])
def test_scheduled_counts(steps):
    for schedule in (LinearSchedule(), CosineSchedule())[: 2 if steps == 5 else 1]:
        masked, target = trajectory(ConfidenceSampler(), schedule, steps)
        for b in range(ROWS):
            expected = [b + 1]
            for step in range(steps):
                at_most = min(expected[-1] - 1, target[step, b])
                expected.append(max(0, at_most) if step < steps - 1 else 0)
            assert masked[:, b].tolist() == expected


@pytest.mark.parametrize("sampler", [MarginSampler(), EntropySampler(), ConfidenceSampler(score="max")], ids=ids)
def test_score_samplers_count_as_confidence(sampler):
    np.testing.assert_array_equal(
        trajectory(sampler, LinearSchedule(), 5)[0], trajectory(ConfidenceSampler(), LinearSchedule(), 5)[0]
    )


@pytest.mark.parametrize("steps", [1, 3, 5, 12, 17])
def test_top_k_shares_evenly_and_the_first_steps_take_one_more(steps):
    masked, _ = trajectory(TopKSampler(), LinearSchedule(), steps)
    for b in range(ROWS):
        shares = [len(part) for part in np.array_split(np.arange(b + 1), steps)]
        assert (-np.diff(masked[:, b])).tolist() == shares


@pytest.mark.parametrize("sampler", [FirstHittingSampler(), AutoregressiveSampler()], ids=ids)
def test_one_position_an_evaluation(sampler):
    masked, _ = trajectory(sampler, LinearSchedule(), 3)
    for b in range(ROWS):
        assert masked[:, b].tolist() == [max(0, b + 1 - j) for j in range(13)]


@pytest.mark.parametrize("steps", [1, 5])
def test_random_reveals_all_at_the_last_step(steps):
    masked, _ = trajectory(RandomSampler(), CosineSchedule(), steps)
    assert masked.shape == (steps + 1, ROWS)


def test_first_hitting_times():
    rng = np.random.default_rng(2)
    to_fill, uniform = np.array([5, 1, 3]), rng.random((3, 8))
    for schedule in (LinearSchedule(), CosineSchedule()):
        t = FirstHittingSampler().times(schedule, 99, to_fill, uniform)
        assert t.shape == (3, 6)
        for b, filled in enumerate(to_fill):
            expected, m = [], 1.0
            for j in range(filled):
                m = m * uniform[b, j] ** (1 / (filled - j))
                expected.append(float(schedule.inverse(np.array([m]))[0]))
            expected += [0.0] * (6 - len(expected))
            np.testing.assert_allclose(t[b], expected, rtol=1e-12)
        assert (np.diff(t, axis=1) <= 0).all()
        assert (t[:, 0] < 1).all()  # the network is asked at the time of the reveal that it makes
        assert (t[:, -1] == 0).all()


def test_first_hitting_times_are_order_statistics():
    # under `linear` the M hitting times are M uniforms in falling order: the j-th has mean (M + 1 - j) / (M + 1)
    uniform = np.random.default_rng(4).random((40_000, 6))
    t = FirstHittingSampler().times(LinearSchedule(), 1, np.full(40_000, 6), uniform)
    np.testing.assert_allclose(t[:, :6].mean(axis=0), np.arange(6, 0, -1) / 7, atol=5 * 0.3 / 200)
    # Beta(7 - j, j): what a wrong exponent with the right mean would not give
    var = np.array([(7 - j) * j / (49 * 8) for j in range(1, 7)])
    np.testing.assert_allclose(t[:, :6].var(axis=0), var, rtol=0.05)
    assert (t[:, 6] == 0).all()


def test_autoregressive_times_fall_evenly():
    t = AutoregressiveSampler().times(LinearSchedule(), 99, np.array([4, 2]), np.zeros((2, 4)))
    assert t.tolist() == [[1.0, 0.75, 0.5, 0.25, 0.0], [1.0, 0.5, 0.0, 0.0, 0.0]]
    nothing = np.array([2, 0])
    assert AutoregressiveSampler().times(LinearSchedule(), 99, nothing, np.ones((2, 2)))[1].tolist() == [0.0, 0.0, 0.0]
    assert FirstHittingSampler().times(LinearSchedule(), 99, nothing, np.ones((2, 2)))[1].tolist() == [0.0, 0.0, 0.0]


def test_declared_evaluations():
    assert [s.nfe(5, 12) for s, _ in RULES] == [5, 12, 12, 5, 5, 5, 5, 5]
    assert [s.nfe(20, 12) for s, _ in RULES] == [20, 12, 12, 12, 12, 12, 12, 12]
    assert [s.spec for s, _ in RULES if not s.uses_steps] == ["first-hitting", "autoregressive"]
    assert [s.spec for s, _ in RULES if s.left_to_right] == ["autoregressive"]

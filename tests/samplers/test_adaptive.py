"""Samplers that reveal as many positions as the answer allows: one-step laws, whole laws, and evaluations used."""

from functools import partial
from itertools import product

import numpy as np
import pytest
from mist_bench_plugins.sampler_entropy_bound import EntropyBoundSampler
from mist_bench_plugins.sampler_threshold import ThresholdSampler
from mist_bench_plugins.schedule_cosine import CosineSchedule

from harness.answers import inputs_of
from harness.brute_force import BATCH, assert_counts_follow
from harness.chain import LINEAR, WORLD, brute_force, law_of, truth
from harness.rules import MASK, L, V, assert_same_law, best, ids, situation
from harness.runs import SMALL
from mist_bench.inference.texts import DeviceTexts
from mist_bench.measure.sampler_law import law_distance, total_variation
from mist_bench.measure.start import Start

CLOSE = 1e-9  # p that equals the bar on paper passes it


def confidence(score, places, p, x):
    return {i: p[i, x[i]] if score == "proposal" else p[i].max() for i in places}


def rule_threshold(tau, score, places, p, x, numbers=None):
    own = confidence(score, places, p, x)
    return [(frozenset(i for i in places if own[i] >= tau - CLOSE) | best(places, own, 1), 1.0)]


def rule_factor(factor, score, places, p, x, numbers=None):
    own = confidence(score, places, p, x)
    falling = sorted(own.values(), reverse=True)
    enough = [n for n in range(1, len(places) + 1) if falling[n - 1] >= 1 - factor / (n + 1)]
    return [(best(places, own, max(enough, default=1)), 1.0)]


def rule_entropy_bound(gamma, places, p, x, numbers=None):
    entropy = {i: -sum(q * np.log(q) for q in p[i] if q > 0) for i in places}
    order = sorted(places, key=lambda i: (round(entropy[i], 12), i))
    prefixes = [order[:n] for n in range(1, len(order) + 1)]
    within = [s for s in prefixes if sum(entropy[i] for i in s) - max(entropy[i] for i in s) <= gamma + CLOSE]
    return [(frozenset(max(within, key=len, default=())), 1.0)]


CASES = [
    *[(ThresholdSampler(tau=t, score=s), partial(rule_threshold, t, s))
      for t, s in [(0.9, "proposal"), (0.25, "proposal"), (0.5, "max"), (1.0, "max")]],
    *[(ThresholdSampler(form="factor", factor=f, score=s), partial(rule_factor, f, s))
      for f, s in [(1.0, "proposal"), (1.0, "max"), (2.5, "proposal"), (0.3, "max")]],
    *[(EntropyBoundSampler(gamma=g), partial(rule_entropy_bound, g)) for g in (0.01, 0.0, 0.7, 1.5, 9.0)],
]  # fmt: skip


def sure(p, of=0):
    """A law with p at one token, and the rest unequally over the others."""
    return np.insert((1 - p) * np.array([0.5, 0.3, 0.2]), of, p)


def corners() -> Start:
    """Ties, nothing sure enough, everything, one position masked, none, fixed and later ones, certain ones."""
    m, even = MASK, np.full(V, 0.25)
    rows = [
        ([m, m, m, m], [even] * 4),
        ([m, m, m, m], [sure(0.97), sure(0.98, 1), sure(0.96, 3), sure(0.99)]),
        ([m, m, m, m], [sure(0.4), sure(0.45, 2), sure(0.42), sure(0.41, 1)]),
        ([m, 2, m, m], [sure(0.6), sure(0.5), sure(0.95, 2), sure(0.7)]),
        ([1, 2, 0, m], [even, even, even, sure(0.3, 1)]),
        ([3, 2, 0, 1], [even] * 4),
        ([m, m, m, m], [sure(0.7, 1), sure(0.92), sure(0.7, 2), sure(0.2)]),  # of equals, the bar stops the second
        ([m, m, 0, 1], [sure(0.9), sure(0.5), even, even]),  # only the last one fails
        ([m, m, m, m], [sure(1.0, 2), sure(0.8), sure(1.0, 3), sure(0.8)]),
        ([m, m, m, m], [sure(0.995), sure(0.6), sure(0.9, 1), sure(0.995, 3)]),
        ([m, m, 0, 1], [sure(0.81), sure(0.5), even, even]),  # an entropy of 0.682: a bar of 0.7 is just above
        ([m, m, m, m], [sure(0.4), sure(0.45, 2), sure(0.42), sure(0.99, 1)]),  # the surest is of a later block
    ]
    tokens, p = np.array([row for row, _ in rows]), np.array([law for _, law in rows])
    count = len(rows)
    with np.errstate(divide="ignore"):
        answer = np.maximum(np.log(p), -1e9)
    free = np.ones((count, L), dtype=bool)
    free[3, 1] = free[4, :3] = False
    free[6, 3] = free[11, 3] = False  # masks of a later block
    return Start(
        tokens=tokens, free=free, log_probabilities=answer, to_fill=((tokens == m) & free).sum(axis=1),
        target_masked=np.zeros(count, dtype=int), reveal_probability=np.full(count, 0.5), alpha_t=np.full(count, 0.2),
        alpha_s=np.full(count, 0.5), step=0, steps=4, last=False,
    )  # fmt: skip


@pytest.mark.parametrize(("sampler", "rule"), CASES, ids=ids)
def test_one_step_law_is_the_rule(sampler, rule):
    start = corners()
    assert_same_law(sampler, rule, start, [None] * len(start.tokens))
    start, numbers = situation(1, 3, last=False)
    assert_same_law(sampler, rule, start, numbers)


def test_two_that_are_masked_need_not_go_together():
    """What Fast-dLLM's code does to row 7 of the corners: its loop takes all when only the last position fails."""
    x = dict(enumerate([0, 0]))
    [(revealed, _)] = rule_factor(1.0, "max", [0, 1], np.array([sure(0.9), sure(0.5)]), x)
    assert revealed == {0}


def by_rule(rule):
    """The rule as what `brute_force` wants: every outcome of a step on the chain, from the exact posterior."""

    def outcomes(step, masked, p):
        for values in product(range(p.shape[1]), repeat=len(masked)):
            x = dict(zip(masked, values, strict=True))
            for revealed, chance in rule(masked, p, x):
                yield {i: x[i] for i in revealed}, chance * np.prod([p[i, x[i]] for i in masked])

    return outcomes


OWN = [
    (ThresholdSampler(tau=0.6), partial(rule_threshold, 0.6, "proposal")),
    (ThresholdSampler(tau=0.7, score="max"), partial(rule_threshold, 0.7, "max")),
    (ThresholdSampler(form="factor"), partial(rule_factor, 1.0, "proposal")),
    (EntropyBoundSampler(gamma=0.7), partial(rule_entropy_bound, 0.7)),
]


@pytest.mark.parametrize(("sampler", "rule"), OWN, ids=ids)
def test_the_law_of_a_whole_run_is_enumerated_until_nothing_is_masked(sampler, rule):
    own = brute_force(L, by_rule(rule))
    assert total_variation(law_of(sampler, LINEAR, L), own) < 1e-5
    assert law_distance(sampler, LINEAR, L, WORLD) == pytest.approx(total_variation(own, truth()), abs=1e-5)
    assert total_variation(own, truth()) > 0.01


@pytest.mark.parametrize("sampler", [EntropyBoundSampler(gamma=0.0), ThresholdSampler(tau=1.0, score="max")], ids=ids)
def test_exact_where_only_certain_positions_go_together(sampler):
    assert sampler.exact_one_at_a_time
    assert np.abs(law_of(sampler, LINEAR, 1) - truth()).max() < 1e-6
    assert law_distance(sampler, LINEAR, 1, WORLD) < 1e-5


def test_entropy_bound_loses_at_most_gamma_a_step():
    """KL(truth, law) is at most the number of steps times gamma, and grows with it."""
    losses = []
    for gamma in (0.3, 0.7, 3.0):
        law = law_of(EntropyBoundSampler(gamma=gamma), LINEAR, 1)
        losses.append(float((truth() * np.log(truth() / law)).sum()))
        assert -1e-5 < losses[-1] <= L * gamma
    assert losses == sorted(losses)


def run(sampler, tokens=None, **how):
    return SMALL(sampler, tokens, steps=L, seed=1, **how)


@pytest.mark.parametrize("sampler", [OWN[0][0], OWN[2][0], OWN[3][0], EntropyBoundSampler(gamma=0.0)], ids=ids)
def test_what_the_device_draws_follows_the_law_of_its_own(sampler):
    assert_counts_follow(SMALL.counts(sampler, 8192, steps=L, seed=1), law_of(sampler, LINEAR, L))


@pytest.mark.parametrize("sampler", [OWN[1][0], OWN[2][0], OWN[3][0]], ids=ids)
def test_each_sequence_counts_the_evaluations_that_it_used(sampler):
    """With some positions fixed, and one sequence wholly fixed, which uses none."""
    rng = np.random.default_rng(0)
    given = np.where(rng.random((BATCH, L)) < 0.4, WORLD.sample(BATCH, rng), WORLD.vocab_size).astype(np.int32)
    given[3] = [0, 1, 2, 0]
    states = []
    made, nfe = run(sampler, given, watch=lambda step, tokens, guesses: states.append(tokens))
    masked = np.array([(state == WORLD.vocab_size).any(axis=1) for state in states])
    assert np.array_equal(nfe, masked.sum(axis=0))
    assert nfe[3] == 0 and (made[3] == given[3]).all() and (made < 3).all()
    assert len(set(nfe.tolist())) > 2 and nfe.max() == len(states)
    assert (nfe <= (given == WORLD.vocab_size).sum(axis=1)).all()


def test_networks_are_told_the_time_at_which_as_much_is_masked(monkeypatch):
    told, states, give = [], [], DeviceTexts.give
    monkeypatch.setattr(DeviceTexts, "give", lambda texts, words: told.append(words) or give(texts, words))
    schedule = CosineSchedule()
    run(OWN[3][0], schedule=schedule, watch=lambda step, tokens, guesses: states.append(tokens))
    for words, state in zip(told, states, strict=True):
        fraction = (state == WORLD.vocab_size).mean(axis=1)
        np.testing.assert_allclose(schedule.mask_probability(inputs_of(words, BATCH).t), fraction, atol=1e-6)


def test_declared_facts():
    for sampler, _ in CASES:
        assert sampler.adaptive and not sampler.uses_steps and not sampler.remasks
        assert sampler.nfe(3, 12) == 12 and sampler.choice == "none"
    assert [s.spec for s, _ in CASES if s.exact_one_at_a_time] == [
        "threshold[tau=1.0,score=max]", "entropy-bound[gamma=0.0]",
    ]  # fmt: skip


WRONG = [{"tau": 0.0}, {"tau": 1.5}, {"form": "sum"}, {"factor": 0.0}, {"factor": float("nan")}, {"score": "best"}]


@pytest.mark.parametrize(("kind", "given"), [*((ThresholdSampler, w) for w in WRONG),
                                             (EntropyBoundSampler, {"gamma": -0.1}),
                                             (EntropyBoundSampler, {"gamma": float("inf")})])  # fmt: skip
def test_wrong_parameters_are_refused(kind, given):
    with pytest.raises(ValueError, match=f"^{next(iter(given))} is "):
        kind(**given)

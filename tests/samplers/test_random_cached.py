"""`random[cached=true]`: the tokens of `random`, without the evaluations at steps that reveal nothing."""

from functools import cache

import numpy as np
import pytest
from mist_bench_plugins.sampler_random import RandomSampler
from mist_bench_plugins.schedule_cosine import CosineSchedule
from mist_bench_plugins.schedule_geometric import GeometricSchedule
from mist_bench_plugins.schedule_linear import LinearSchedule

from harness.brute_force import BATCH
from harness.chain import LINEAR, WORLD
from harness.rules import L, assert_same_law, rule_random, situation
from harness.runs import SMALL, Runs
from mist_bench import MaskedModel
from mist_bench.measure.sampler_law import law_distance

CACHED, PLAIN = RandomSampler(cached=True), RandomSampler()


class Told(MaskedModel):
    """A model whose answer depends on the text, the time and, if self-conditioned, its last answer."""

    vocab_size, length = WORLD.vocab_size, L

    def __init__(self, *, self_conditioned):
        from tinygrad import Tensor

        self.self_conditioned, self.parameters = self_conditioned, {"tokens": Tensor.zeros(5, 4)}

    def log_probabilities(self, tokens, t, previous=None):
        kind = tokens.arange(4).float()
        x = (4 * t.reshape(-1, 1, 1) - 0.5 * tokens.sum(axis=1).reshape(-1, 1, 1)).expand(BATCH, L, 1) * (kind % 3)
        answer = (x if previous is None else x + previous).log_softmax(-1)
        itself = (tokens.unsqueeze(-1) == tokens.arange(4)).where(0.0, -1e9)
        return (tokens == 4).unsqueeze(-1).where(answer, itself)

    def condition(self, log_probabilities):
        return 3 * log_probabilities.exp()


@cache
def told(self_conditioned):
    return Runs(WORLD, model=lambda oracle: Told(self_conditioned=self_conditioned))


def run(runs, *, cached, **how):
    """Tokens, evaluations, and the tokens before every step that was taken, by its number."""
    states = {}
    made, nfe = runs(RandomSampler(cached=cached), watch=lambda step, now, guesses: states.update({step: now}), **how)
    return made, nfe, states


def few(length=3):
    """All but the first `length` sequences given, so that there are steps at which none reveals anything."""
    rng = np.random.default_rng(1)
    tokens = WORLD.sample(BATCH, rng).astype(np.int32)
    tokens[:length] = WORLD.vocab_size
    tokens[1, 2] = 0
    return tokens


@pytest.mark.parametrize("schedule", [LinearSchedule(), CosineSchedule(), GeometricSchedule()], ids=lambda s: s.spec)
@pytest.mark.parametrize("steps", [1, 3, 40])
@pytest.mark.parametrize("tokens", [None, few()], ids=["all", "few"])
def test_the_same_tokens_and_no_needless_evaluation(tokens, steps, schedule):
    made, nfe, taken = run(SMALL, cached=True, steps=steps, tokens=tokens, schedule=schedule)
    plain, declared, states = run(SMALL, cached=False, steps=steps, tokens=tokens, schedule=schedule)
    assert np.array_equal(made, plain)
    assert (declared == steps).all() and sorted(states) == list(range(steps))
    states[steps] = plain
    changed = np.array([(states[j] != states[j + 1]).any(axis=1) for j in range(steps)])
    assert np.array_equal(nfe, changed.sum(axis=0))
    assert sorted(taken) == np.flatnonzero(changed.any(axis=1)).tolist()
    assert (nfe <= L).all() and nfe.max() > 0


def test_of_few_sequences_most_steps_are_left_out():
    _, nfe, taken = run(SMALL, cached=True, steps=400, tokens=few())
    assert len(taken) <= 3 * L - 1 and (nfe[3:] == 0).all() and (nfe[:3] >= 1).all()


def test_a_network_that_is_told_the_time_answers_the_same():
    made, nfe, _ = run(told(False), cached=True, steps=30, tokens=few())
    assert np.array_equal(made, run(told(False), cached=False, steps=30, tokens=few())[0])
    assert nfe.max() <= L


def test_a_network_that_is_told_its_last_answer_is_asked_at_every_step():
    made, nfe, taken = run(told(True), cached=True, steps=12, tokens=few())
    assert np.array_equal(made, run(told(True), cached=False, steps=12, tokens=few())[0])
    assert (nfe == 12).all() and len(taken) == 12


def test_graphs_are_captured_by_evaluations_not_by_steps():
    """The warm-up must evaluate the network, even if the first steps reveal nothing."""
    assert len(run(SMALL, cached=True, steps=1000, tokens=few(1), limit=2)[2]) == 2


def test_its_law_is_that_of_random():
    start, numbers = situation(1, 3, last=False)
    assert_same_law(CACHED, rule_random, start, numbers)
    assert law_distance(CACHED, LINEAR, 5, WORLD) == law_distance(PLAIN, LINEAR, 5, WORLD)
    assert CACHED.spec == "random[cached=true]" and CACHED.choice == "bernoulli" and CACHED.skips_idle_steps
    assert not PLAIN.skips_idle_steps

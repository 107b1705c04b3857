"""The likelihood of a sampler, by its own steps on a given text, against its enumerated law and against bounds in numpy."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from math import comb

import numpy as np
import pytest
from mist_bench_plugins.family_oracle import OracleModel
from mist_bench_plugins.schedule_cosine import CosineSchedule
from mist_bench_plugins.schedule_linear import LinearSchedule

from harness.chain import TEXTS, TRUTH, WORLD, L, S, V, law_of, posterior
from mist_bench.host.registry import Registry
from mist_bench.inference.generate import SamplerGraph
from mist_bench.inference.masked import MaskedEvaluator
from mist_bench.inference.replay import Replay, replayed
from mist_bench.inference.step import Needs
from mist_bench.measure.one_step import sequences
from mist_bench.measure.sampler_law import sampler_law

LINEAR, REGISTRY = LinearSchedule(), Registry.discover()
K = np.arange(L + 1)
BINOMIAL = np.array([comb(L, int(k)) for k in K])
ALL = np.array(TEXTS, dtype=np.int32)
SHOWN = ["margin", "entropy", "confidence[score=max]", "autoregressive", "threshold[score=max,tau=0.6]", "entropy-bound[gamma=0.3]",
         "threshold[score=max,form=factor]", "semi-autoregressive[block=3,inner=margin]", "guided[scale=0,inner=margin]"]  # fmt: skip


class Wrong:
    """A network whose answers fit together in no order, as those of a trained one: each order gives another number."""

    length, vocab_size = WORLD.length, WORLD.vocab_size

    def log_posterior(self, tokens):
        return (WORLD.log_posterior(tokens) * 0.6).log_softmax(-1)


@cache
def evaluator(whole: bool, sampler=None, wrong=False):
    needs = Needs(whole=whole, asker=sampler)
    return MaskedEvaluator("oracle", OracleModel(Wrong() if wrong else WORLD), len(ALL), needs=needs)


@cache
def tools(spec, tempered, wrong):
    sampler = REGISTRY.make("sampler", spec)
    model = evaluator(tempered, sampler if sampler.asks_itself else None, wrong)
    return model, SamplerGraph(sampler, len(ALL), L, V), Replay(model, tempered)


def nats_of(spec, steps, *, schedule=LINEAR, temperature=1.0, tempered=False, seed=0, wrong=False):
    model, graph, replay = tools(spec, tempered, wrong)
    return replayed(model, graph, replay, schedule, steps, ALL, seed=seed, sequences=np.arange(len(ALL)) + 1000 * seed,
                    temperature=temperature)  # fmt: skip


@pytest.mark.parametrize("spec", SHOWN)
def test_where_the_order_is_shown_it_is_the_law_of_the_sampler(spec):
    sampler = REGISTRY.make("sampler", spec)
    assert sampler.order == "shown"
    for steps in (1, 2, 3, 4) if sampler.uses_steps else (4,):
        given = np.exp(-nats_of(spec, steps))
        assert given.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(given, law_of(sampler, LINEAR, steps), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("spec", "temperature"), [("margin", 0.7), ("entropy", 1.6), ("confidence[score=max,cool=0.5]", 1.0)])
def test_at_another_temperature_too(spec, temperature):
    sampler = REGISTRY.make("sampler", spec)
    for steps in (2, 4):
        given = np.exp(-nats_of(spec, steps, temperature=temperature, tempered=True))
        np.testing.assert_allclose(given, law_of(sampler, LINEAR, steps, temperature=temperature), rtol=0, atol=1e-5)


def test_one_position_a_step_is_the_truth():
    np.testing.assert_allclose(np.exp(-nats_of("margin", L)), [TRUTH[x] for x in TEXTS], rtol=0, atol=1e-5)


# ---- orders that are noise


@cache
def losses():
    """(81, L + 1): of each text, the mean over sets of k masked positions of the sum of -log p of what is masked, by the
    wrong network."""
    out = np.zeros((len(TEXTS), L + 1))
    for n, x in enumerate(TEXTS):
        for k in range(1, L + 1):
            sets = list(combinations(range(L), k))
            for masked in sets:
                p = posterior(tuple(None if i in masked else x[i] for i in range(L))) ** 0.6
                p = p / p.sum(axis=1, keepdims=True)
                out[n, k] -= sum(np.log(p[i, x[i]]) for i in masked) / len(sets)
    return out


def bound_of_random(schedule, steps):
    """(81,) D3PM's bound in so many steps, from the losses."""
    t = 1 - np.arange(steps + 1) / steps
    a = schedule.alpha(t)
    total = np.zeros(len(TEXTS))
    for now, after in zip(a[:-1], a[1:], strict=True):
        share = 1.0 if after == a[-1] else (after - now) / (1 - now)
        total += share * (losses() * BINOMIAL * (1 - now) ** K * now ** (L - K)).sum(axis=1)
    return total


def mean_of(spec, steps, schedule, seeds=64):
    draws = np.array([nats_of(spec, steps, schedule=schedule, seed=seed, wrong=True) for seed in range(seeds)])
    return draws.mean(axis=0), draws.std(axis=0, ddof=1) / np.sqrt(seeds)


@pytest.mark.parametrize(("schedule", "steps"), [(LINEAR, 1), (LINEAR, 2), (LINEAR, 4), (CosineSchedule(), 3)])
def test_random_is_the_bound_of_d3pm_in_so_many_steps(schedule, steps):
    mean, error = mean_of("random", steps, schedule)
    assert (np.abs(mean - bound_of_random(schedule, steps)) <= 4.5 * error + 1e-5).all()
    # the bound is on the right side of what the sampler itself gives
    law = sampler_law(REGISTRY.make("sampler", "random"), schedule, steps, Wrong().log_posterior, L, V)
    assert (bound_of_random(schedule, steps) >= -np.log(law[(sequences(L, V) < S).all(axis=1)]) - 1e-5).all()


def test_first_hitting_is_the_bound_of_exact_k():
    mean, error = mean_of("first-hitting", L, LINEAR)
    exact_k = (losses()[:, 1:] / np.arange(1, L + 1)).sum(axis=1)
    assert error.min() > 1e-4 and (np.abs(mean - exact_k) <= 4.5 * error).all()


def test_a_replay_is_refused_where_it_cannot_know():
    with pytest.raises(TypeError, match="needs an evaluator with all log-probabilities"):
        Replay(evaluator(False), tempered=True)

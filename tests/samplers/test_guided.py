"""Guidance without labels, and `evaluate`: samplers that call the network themselves, and their evaluations."""

from dataclasses import dataclass

import numpy as np
import pytest
from mist_bench_plugins.sampler_confidence import ConfidenceSampler
from mist_bench_plugins.sampler_guided import GuidedSampler
from mist_bench_plugins.schedule_linear import LinearSchedule
from tinygrad import Tensor

from harness.brute_force import BATCH, WORLD, L
from harness.chain import TEXTS, posterior, truth
from harness.runs import REGISTRY, SMALL
from mist_bench import OuterSampler, UserError
from mist_bench.inference.generate import generate
from mist_bench.inference.step import Needs
from mist_bench.measure.one_step import sequences
from mist_bench.measure.sampler_law import law_distance

pytestmark = pytest.mark.slow
MASK = SMALL.mask
PROMPT = np.tile(np.array([MASK, 2, MASK, MASK]), (BATCH, 1)).astype(np.int32)


def run(spec, tokens=PROMPT, *, steps=3, first=0):
    return SMALL(spec, tokens, steps=steps, first=first, seed=1)


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0])
def test_the_answer_is_the_formula(scale):
    states = [(MASK, 2, MASK, 0), (1, MASK, MASK, MASK), (0, 1, MASK, MASK)]
    free = np.array([[True, False, True, True], [False, True, True, True], [True, False, True, True]])
    asked: list = []

    def network(tokens):
        asked.append(tokens.numpy())
        return WORLD.log_posterior(tokens)

    found = GuidedSampler(scale=scale, inner=ConfidenceSampler()).evaluate(network, Tensor(np.array(states, dtype=np.int32)), Tensor(free))
    assert len(asked) == 2 and np.array_equal(asked[1], np.where(free, states, MASK))
    for row, state, frees in zip(np.exp(found.numpy()), states, free, strict=True):
        without = np.where(frees, state, MASK)
        p, q = posterior(state), posterior(tuple(without.tolist()))
        p = np.where(p > 0, p * (p / np.maximum(q, 1e-30)) ** scale, 0.0)
        p /= p.sum(axis=1, keepdims=True)
        seen = np.array(state) != MASK
        p[seen] = np.eye(3)[np.array(state)[seen]]
        np.testing.assert_allclose(row[:, :3], p, atol=1e-5)
        assert (row[:, 3] < 1e-6).all()  # what cannot be stays impossible


@pytest.mark.parametrize("inner", ["confidence", "random", "entropy-bound[gamma=0.7]", "remdm", "p2"])
def test_scale_0_or_no_prompt_is_the_inner_sampler_at_twice_the_cost(inner):
    plain, cost = run(inner)
    made, nfe = run(f"guided[scale=0,inner={inner}]")
    assert np.array_equal(made, plain) and np.array_equal(nfe, 2 * cost)
    unprompted = run(inner, SMALL.empty)[0]
    scales = (0, 3) if inner == "confidence" else (0,)  # `evaluate` does not look at the inner sampler
    for scale in scales:
        assert np.array_equal(run(f"guided[scale={scale},inner={inner}]", SMALL.empty)[0], unprompted)


def test_the_device_follows_the_guided_law():
    """`entropy` reveals one position a step by what is visible: with the guided answer its law is a walk over that."""
    scale, spec = 1.0, "guided[scale=1.0,inner=autoregressive]"
    made = np.concatenate([run(spec, steps=L, first=i * BATCH)[0] for i in range(32)])
    law: dict = {}

    def walk(state, weight):
        if MASK not in state:
            law[state] = law.get(state, 0.0) + weight
            return
        i = state.index(MASK)
        without = tuple(MASK if j == 1 else a for j, a in enumerate(state))
        p = posterior(state)[i] ** (1 + scale) / posterior(without)[i] ** scale
        for a, share in enumerate(p / p.sum()):
            walk((*state[:i], a, *state[i + 1 :]), weight * share)

    walk((MASK, 2, MASK, MASK), 1.0)
    expected = np.array([law.get(t, 0.0) for t in TEXTS]) * len(made)
    counts = np.bincount(made @ 3 ** np.arange(L - 1, -1, -1), minlength=81)
    many = expected > 5
    chi2 = ((counts - expected)[many] ** 2 / expected[many]).sum()
    assert chi2 < many.sum() + 5 * np.sqrt(2 * many.sum())
    conditional = truth() * (np.array(TEXTS)[:, 1] == 2)
    assert np.abs(expected / len(made) - conditional / conditional.sum()).sum() / 2 > 0.05  # and it is no sample


@dataclass(frozen=True, kw_only=True)
class AsksOnceMore(OuterSampler):
    """Declares two evaluations, and makes three."""

    name = "asks-once-more"
    asks_itself = True
    inner: ConfidenceSampler = ConfidenceSampler()

    @property
    def evaluations(self):
        return 2

    def evaluate(self, network, tokens, free):
        return network(tokens) + 0.0 * network(tokens) + 0.0 * network(tokens)


def test_who_asks_more_often_than_it_says_is_found():
    sampler = AsksOnceMore()
    with pytest.raises(TypeError, match="'asks-once-more.*evaluates the network 3 times a step and declares 2"):
        SMALL(sampler, PROMPT, steps=2)


def test_another_samplers_questions_are_no_answer():
    evaluator = SMALL.evaluator(Needs.of(REGISTRY.make("sampler", "confidence")))
    with pytest.raises(TypeError, match="'guided' needs an evaluator with Needs"):
        generate(evaluator, SMALL.graph("guided"), LinearSchedule(), 2, PROMPT, seed=0, sequences=np.arange(BATCH),
                 temperature=1.0)  # fmt: skip


@pytest.mark.parametrize("inner", ["guided", "wino", "semi-autoregressive[inner=guided]"])
def test_guidance_of_who_asks_itself_is_refused(inner):
    with pytest.raises(UserError, match="inner must not have an evaluation of its own"):
        REGISTRY.make("sampler", f"guided[inner={inner}]")


def test_blocks_of_a_guided_sampler_are_guided_by_the_prompt_alone(monkeypatch):
    inner = "guided[scale=2,inner=autoregressive]"
    assert np.array_equal(run(f"semi-autoregressive[block=3,inner={inner}]")[0], run(inner)[0])
    sampler, told = REGISTRY.make("sampler", f"semi-autoregressive[block=2,inner={inner}]"), []
    denoiser = SMALL.evaluator(Needs.of(sampler)).denoiser
    graph = denoiser.graph
    monkeypatch.setattr(denoiser, "graph", lambda *inputs: told.append(inputs[4].numpy()) or graph(*inputs))
    _, nfe = run(sampler)
    assert (nfe == 6).all() and len(told) == 3 and all((free == (PROMPT == MASK)).all() for free in told)


# ---- `confidence[cool]`: the temperature of the proposals falls


def test_cool_lowers_the_temperature_in_a_straight_line():
    assert [ConfidenceSampler(cool=0.5).heat(j, 5) for j in range(5)] == [1.0, 0.875, 0.75, 0.625, 0.5]
    assert [ConfidenceSampler().heat(j, 5) for j in range(5)] == [1.0] * 5 and ConfidenceSampler(cool=1).heat(0, 1) == 1.0
    with pytest.raises(UserError, match="cool is from 0 to 1, not 1.5"):
        REGISTRY.make("sampler", "confidence[cool=1.5]")


def test_the_device_cools_as_the_law_says():
    """One step is hot; with two, the second is greedy under cool=1: the law by enumeration, and texts against it."""
    from mist_bench.measure.sampler_law import sampler_law

    hot, cool = (REGISTRY.make("sampler", s) for s in ("confidence", "confidence[cool=1]"))
    empty = SMALL.empty
    assert np.array_equal(run("confidence[cool=1]", empty, steps=1)[0], run("confidence", empty, steps=1)[0])
    own = sampler_law(cool, LinearSchedule(), 2, WORLD.log_posterior, L, MASK)
    plain = sampler_law(hot, LinearSchedule(), 2, WORLD.log_posterior, L, MASK)
    assert np.abs(own - plain).sum() / 2 > 0.1
    made = np.concatenate([run("confidence[cool=1]", empty, steps=2, first=i * BATCH)[0] for i in range(32)])
    law = np.zeros(81)
    for p, text in zip(own, sequences(L, MASK), strict=True):
        if p > 0:
            law[int(text @ 3 ** np.arange(L - 1, -1, -1))] = p
    counts = np.bincount(made @ 3 ** np.arange(L - 1, -1, -1), minlength=81)
    expected = law * len(made)
    assert counts[expected == 0].sum() == 0
    many = expected > 5
    chi2 = ((counts - expected)[many] ** 2 / expected[many]).sum()
    assert chi2 < many.sum() + 5 * np.sqrt(2 * many.sum())
    assert law_distance(cool, LinearSchedule(), L, WORLD) > law_distance(hot, LinearSchedule(), L, WORLD)

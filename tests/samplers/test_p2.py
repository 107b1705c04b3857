"""P2 against its rule written again in numpy: one step, whole runs, and the network's own p of visible tokens."""

from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
from mist_bench_plugins.family_oracle import OracleModel
from mist_bench_plugins.sampler_p2 import P2Sampler
from mist_bench_plugins.schedule_cosine import CosineSchedule
from mist_bench_plugins.schedule_linear import LinearSchedule
from tinygrad import Tensor

from harness.answers import answers
from harness.brute_force import BATCH, MASKS, WORLD, assert_counts_follow, masked, masked_answer
from harness.chain import TEXTS, law_of, posterior
from harness.rules import assert_law_of_draws
from harness.runs import SMALL, Runs
from mist_bench import UserError
from mist_bench.host.registry import Registry
from mist_bench.inference.generate import generate
from mist_bench.inference.masked import MaskedEvaluator
from mist_bench.inference.step import Needs
from mist_bench.inference.timetable import timetable
from mist_bench.measure.one_step import transitions
from mist_bench.measure.sampler_law import total_variation
from mist_bench.measure.start import Start

V, L, MASK = 3, 4, 3


def situation(*, last: bool = False, step: int = 2) -> Start:
    """Nine rows: nothing shown, some, everything; fixed tokens; a mask of another block; all equal; a sure thing."""
    m = MASK
    tokens = np.array([[m, m, m, m], [2, m, 0, m], [1, 1, m, 0], [0, 1, 2, 2], [2, m, 1, 0], [m, 0, 1, m], [m, 1, m, 1],
                       [m, 2, m, 0], [1, m, 1, m]])  # fmt: skip
    free = np.ones((9, L), dtype=bool)
    free[4, 0] = free[4, 3] = False
    free[5, 3] = False  # a mask that may not be shown yet
    rng = np.random.default_rng(3)
    p, own = rng.dirichlet(np.ones(V), size=(9, L)), rng.uniform(0.05, 1.0, (9, L))
    p[6], own[6] = 1 / V, 1 / V
    p[7, 0], own[7] = [1e-30, 1.0, 1e-30], [0.5, 1.0, 0.5, 0.9]
    own[8] = 1.0  # as a family that cannot say
    stay = np.array([3, 2, 2, 1, 1, 1, 2, 1, 1])  # the last step shows all, whatever it is told
    every = np.ones(9)
    return Start(
        tokens=tokens, free=free, log_probabilities=np.log(p), to_fill=free.sum(axis=1),
        target_masked=stay, reveal_probability=every / 3, alpha_t=every / 4, alpha_s=every / 2, step=step, steps=5,
        last=last, shown_log_probability=np.where(tokens == m, 0.0, np.log(own)),
    )  # fmt: skip


def after_one_step(tokens, free, can_show, x, p, own, eta, stay) -> tuple[int, ...]:
    """The rule: the `stay` lowest scores are masked; a shown token wins ties, then the left one."""
    places = [i for i in range(L) if free[i] and (tokens[i] != MASK or can_show[i])]
    is_shown = {i: tokens[i] != MASK for i in places}
    score = {i: (eta * np.log(own[i]) if eta else np.inf) if is_shown[i] else np.log(p[i, x[i]]) for i in places}
    best_first = sorted(places, key=lambda i: (-round(score[i], 9), not is_shown[i], i))
    keep = best_first[: len(places) - stay]
    now = list(tokens)
    for i in places:
        now[i] = MASK if i not in keep else tokens[i] if is_shown[i] else x[i]
    return tuple(int(a) for a in now)


def assert_same_law(sampler: P2Sampler, start: Start) -> None:
    own = np.exp(start.shown_log_probability)
    stay = np.zeros_like(start.target_masked) if start.last else start.target_masked

    def after(b, x):
        p = np.exp(start.log_probabilities[b])
        return after_one_step(start.tokens[b], start.free[b], start.masked[b], x, p, own[b], sampler.eta, stay[b])

    assert_law_of_draws(sampler, start, after)


ETAS = [0.0, 0.5, 1.0, 2.0]


@pytest.mark.parametrize("eta", ETAS)
@pytest.mark.parametrize("last", [False, True])
def test_one_step_law_is_the_rule(eta, last):
    assert_same_law(P2Sampler(eta=eta), situation(last=last, step=0))


@pytest.mark.parametrize("eta", ETAS)
def test_as_many_are_masked_as_asked_and_what_is_fixed_stays(eta):
    start = situation()
    origin, after, _ = transitions(P2Sampler(eta=eta), start)
    waits = ~start.free & (start.tokens == MASK)
    assert (((after == MASK) & ~waits[origin]).sum(axis=1) == start.target_masked[origin]).all()
    fixed = ~start.free[origin]
    assert (after[fixed] == start.tokens[origin][fixed]).all()
    again = (after == MASK) & (start.tokens[origin] != MASK)
    more_than_there_are = {2, 3}  # what no run asks for
    others = set(origin[again.any(axis=1)].tolist()) - more_than_there_are
    assert bool(others) == (eta > 0)


class OneMore(P2Sampler):
    def step(self, view, state):
        return super().step(replace(view, target_masked=view.target_masked + 1), state)


class DoubtsByTheDraw(P2Sampler):
    """The published defect: what is shown is scored by a fresh draw."""

    def step(self, view, state):
        return super().step(replace(view, shown_log_probability=view.log_probability), state)


@pytest.mark.parametrize("wrong", [OneMore, DoubtsByTheDraw])
def test_a_slightly_wrong_sampler_is_caught(wrong):
    with pytest.raises(AssertionError, match="a probability is off by"):
        assert_same_law(wrong(), situation())


# ---- whole runs

class Doubts(OracleModel):
    """An oracle whose p of a visible token is that of the same position masked: p(x_i | all other visible tokens)."""

    def free_log_probabilities(self, tokens, t, previous=None):
        parts = []
        for i in range(L):
            here = tokens.arange(L) == i
            parts.append(self.oracle.log_posterior(here.where(self.vocab_size, tokens))[:, i : i + 1])
        return parts[0].cat(*parts[1:], dim=1)


@cache
def outcomes(state, eta: float, stay: int, doubts: bool) -> dict:
    p, own = posterior(state), np.ones(L)
    for i in range(L):
        if doubts and state[i] != MASK:
            own[i] = posterior((*state[:i], MASK, *state[i + 1 :]))[i, state[i]]
    can_show = [a == MASK for a in state]
    places, out = np.flatnonzero(can_show), {}
    for values in product(range(3), repeat=len(places)):
        x = dict(zip(places, values, strict=True))
        after = after_one_step(state, [True] * L, can_show, x, p, own, eta, stay)
        out[after] = out.get(after, 0.0) + np.prod([p[i, x[i]] for i in places])
    return out


def law_of_run(schedule, steps, eta=1.0, doubts=False) -> np.ndarray:
    """(81,) by iterating the rule over the states, in numpy."""
    stays = timetable(P2Sampler(), schedule, steps, np.array([L]), np.full((1, L), 0.5)).target_masked[:, 0]
    law = {(MASK,) * L: 1.0}
    for stay in stays:
        after: dict = {}
        for state, weight in law.items():
            for new, chance in outcomes(state, eta, int(stay), doubts).items():
                after[new] = after.get(new, 0.0) + weight * chance
        law = after
    return np.array([law.get(tuple(int(a) for a in x), 0.0) for x in TEXTS])


@pytest.mark.parametrize(("schedule", "steps"), [(LinearSchedule(), 4), (LinearSchedule(), 7), (CosineSchedule(), 3)])
def test_the_law_of_a_run_under_an_oracle_that_never_doubts(schedule, steps):
    own = law_of_run(schedule, steps)
    assert total_variation(law_of(P2Sampler(), schedule, steps), own) < 1e-5
    np.testing.assert_allclose(own, law_of_run(schedule, steps, eta=0.0), atol=1e-12)


DOUBTING = Runs(WORLD, model=Doubts)


def test_what_the_device_draws_follows_the_law_of_a_network_that_doubts():
    own = law_of_run(LinearSchedule(), 7, doubts=True)
    assert total_variation(own, law_of_run(LinearSchedule(), 7)) > 0.02
    assert_counts_follow(DOUBTING.counts("p2", 12_288, steps=7), own)


def test_all_is_filled_what_is_fixed_is_kept_and_no_batch_matters():
    rng = np.random.default_rng(0)
    text, fixed = WORLD.sample(BATCH, rng), rng.random((BATCH, L)) < 0.3
    given = np.where(fixed, text, WORLD.vocab_size).astype(np.int32)
    for steps in (1, 3, 9):
        made, nfe = DOUBTING("p2", given, steps=steps)
        assert (made < 3).all() and (made[fixed] == text[fixed]).all() and (nfe == steps).all()
    other = rng.permutation(BATCH)
    assert np.array_equal(DOUBTING("p2", given[other], ids=other, steps=9)[0], made[other])


@pytest.mark.parametrize(("spec", "again"), [("p2", True), ("p2[eta=0]", False)])
def test_what_is_shown_is_masked_again_only_with_eta(spec, again):
    seen: list = []
    DOUBTING(spec, steps=7, watch=lambda step, tokens, guesses: seen.append(tokens.copy()))
    states = np.array(seen)
    lost = (states[:-1] < 3) & (states[1:] == WORLD.vocab_size)
    assert lost.any() == again
    counts = (states == WORLD.vocab_size).sum(axis=2)
    plan = timetable(P2Sampler(), LinearSchedule(), 7, np.array([L]), np.full((1, L), 0.5)).target_masked[:-1, 0]
    assert (counts == np.array([L, *plan])[:, None]).all()


# ---- what the network itself says


def test_the_evaluator_gives_the_networks_own_log_p_of_what_is_shown():
    plain, values = masked()
    clean = np.array(TEXTS)[np.random.default_rng(0).integers(0, len(TEXTS), BATCH)]
    hidden = MASKS[np.arange(BATCH) % len(MASKS)]
    seen = np.where(hidden, MASK, clean)
    without = answers(plain, seen, clean)
    evaluator = MaskedEvaluator("mdlm", plain.model, BATCH, needs=Needs(whole=True, shown=True))
    answer = answers(evaluator, seen, clean)
    own = np.take_along_axis(masked_answer(values, seen, None), clean[..., None], axis=2)[..., 0]
    np.testing.assert_allclose(answer.pop("shown_log_probability"), np.where(hidden, 0.0, own), rtol=0, atol=1e-5)
    assert answer.keys() == without.keys()
    for name in without:
        np.testing.assert_array_equal(without[name], answer[name])
    assert evaluator.denoiser.graph.kernels < plain.denoiser.graph.kernels + 5  # the network runs once


def test_an_oracle_never_doubts_what_is_shown():
    tokens = np.tile([0, WORLD.vocab_size, 2, 1], (BATCH, 1))
    shown = answers(SMALL.evaluator(Needs(shown=True)), tokens)["shown_log_probability"]
    np.testing.assert_array_equal(shown, 0.0)


def test_an_evaluator_that_cannot_say_is_refused():
    with pytest.raises(TypeError, match="'p2' needs an evaluator with Needs.*shown=True"):
        generate(SMALL.evaluator(Needs()), SMALL.graph("p2"), LinearSchedule(), 2, SMALL.empty, seed=0,
                 sequences=np.arange(BATCH), temperature=1.0)  # fmt: skip


def test_wrong_parameters_are_refused():
    with pytest.raises(UserError, match="eta is a number of 0 or more, not -1.0"):
        Registry.discover().make("sampler", "p2[eta=-1]")


def test_the_doubting_oracle_is_what_it_says():
    state = (0, MASK, 2, 1)
    own = Doubts(WORLD).free_log_probabilities(Tensor([[0, WORLD.vocab_size, 2, 1]]), None).numpy()[0]
    for i in (0, 2, 3):
        p = posterior((*state[:i], MASK, *state[i + 1 :]))[i]
        np.testing.assert_allclose(np.exp(own[i, :3]), p, atol=1e-6)

"""Errors of published code, planted one by one: each must be caught, and the right code must pass the same test.

A check that cannot fail proves nothing. Planted in this file:

    error                                                  caught by
    the token and the mask drawn at once by float32 noise  chi-square of a skewed vocabulary, the mass of its tail
    coin and value from the same uniform                   chi-square of the device's texts against the sampler's own law
    a reveal probability 5 % off                           one-step law, law of a whole run, `check` (choice)
    a count off by one at the last step or before it       one-step law, law of a whole run, `check` (no-mask-left)
    an estimator that lets hidden tokens in                invariance of the others, the answer is a law
    a weight or a normaliser of another bound              the oracle's own bound is -log p of every text

and elsewhere, each beside the right one:

    wrong weight, normaliser, range of k in an estimator   measure/test_likelihood.py, by enumeration and by 4 standard errors
    wrong weight or normaliser of the training loss        training/test_step.py
    a loss that reads hidden tokens                        harness/bad_families.py (ReadsTheText), by `check` (hidden-tokens)
    order, ties, remainders, value drawn twice             samplers/, by one-step laws
    every promise of every kind of plugin                  harness/bad_*.py, by testing/test_conformance.py
    the rules of the samplers, mutated in their files       harness/mutations.py, run by hand
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from mist_bench_plugins.sampler_confidence import ConfidenceSampler
from mist_bench_plugins.sampler_random import RandomSampler
from mist_bench_plugins.sampler_top_k import TopKSampler
from mist_bench_plugins.schedule_cosine import CosineSchedule
from mist_bench_plugins.schedule_linear import LinearSchedule

from harness.brute_force import (
    BATCH,
    MASKS,
    TEXTS,
    WORLD,
    assert_counts_follow,
    assert_within_4_se,
    lookup,
    masked,
    oracle,
    told_last,
)
from harness.chain import by_coins, law_of
from harness.rules import (
    assert_same_law,
    rule_confidence,
    rule_random,
    rule_top_k,
    situation,
)
from harness.runs import SMALL, Runs
from harness.wrong_estimators import WrongWeight, masked_mean, realized_count, weighted_by
from harness.wrong_rates import RevealsFivePercentTooOften, RevealsFivePercentTooRarely
from mist_bench import EqualSharesCount, UserError
from mist_bench.engine import noise
from mist_bench.host.registry import Registry
from mist_bench.inference.step import on_device
from mist_bench.inference.timetable import timetable
from mist_bench.measure import likelihood
from mist_bench.measure.sampler_law import sampler_law, total_variation
from mist_bench.testing import Subject, checks_of

LINEAR, L, MASK = LinearSchedule(), WORLD.length, WORLD.vocab_size
REGISTRY = Registry.discover()

# ---- the joint draw

P = np.array([0.5, 0.15, 0.05, 1e-3, 1e-4])
MANY = np.array([1, 1, 1, 100, 2000])  # tokens of each probability: the last two are the tail
STEPS, SEQUENCES, PLACES = 1000, 320, 64


def lattice_maximum(rng, bits: int, rows: int) -> np.ndarray:
    """(rows, classes) the largest of `MANY` uniforms that are multiples of 2^-bits, drawn by its own law."""
    return (np.ceil(rng.random((rows, len(P))) ** (1 / MANY) * 2.0**bits) - 1) / 2.0**bits


def gumbel(u):
    return -np.log(-np.log(u + u.dtype.type(1e-10)) + u.dtype.type(1e-10))


def joint_draw(bits: int) -> np.ndarray:
    """Tokens of each class, as MDLM draws them: at every step the argmax of log q + Gumbel, the mask a category too.

    Among tokens that are equally likely the one of the largest uniform wins, so that one is enough for a class.
    """
    rng, kind = np.random.default_rng(0), np.float32 if bits <= 24 else np.float64
    counts, left = np.zeros(len(P), dtype=int), SEQUENCES * PLACES
    for step in range(STEPS):
        alpha_t, alpha_s = step / STEPS, (step + 1) / STEPS
        tokens = np.log(P * (alpha_s - alpha_t)).astype(kind) + gumbel(lattice_maximum(rng, bits, left).astype(kind))
        again = gumbel((rng.integers(0, 2**bits, left) / 2.0**bits).astype(kind))
        stays = again + kind(np.log(1 - alpha_s)) > tokens.max(axis=1) if step < STEPS - 1 else np.zeros(left, bool)
        counts += np.bincount(tokens[~stays].argmax(axis=1), minlength=len(P))
        left = int(stays.sum())
    return counts


def law_of_joint_draw(bits: int, p=P, many=MANY) -> np.ndarray:
    """The mass of each class under noise on a lattice, derived.

    Token v wins a step with E_v / q_v the smallest of all, E = -log u exponential. E_v is a multiple j >= 1 of e =
    2^-bits, each with probability e; the others, of total Q - q_v, all come later with probability
    exp(-j e (Q - q_v) / q_v). So v wins with probability e / (exp(e (Q - q_v) / q_v) - 1), which is q_v / Q for a fine
    lattice, and nearly nothing where q_v is below e. Under `linear` q_v = p / steps and Q = 1 - alpha(t).
    """
    e, q, left, mass = 2.0**-bits, p / STEPS, 1.0, np.zeros(len(p))
    for step in range(STEPS):
        wins = many * e / np.expm1(e * ((1 - step / STEPS) - q) / q)
        mass += left * wins
        left -= left * wins.sum()
    return mass


def coin_then_inverse_cdf() -> np.ndarray:
    """Tokens of each class by the project's own noise, reveal probabilities and draw."""
    from tinygrad import Tensor

    from mist_bench.inference.draw import draw

    ids, everywhere = np.arange(SEQUENCES), np.full(SEQUENCES, PLACES)
    reveal = timetable(RandomSampler(), LINEAR, STEPS, everywhere, np.full((SEQUENCES, PLACES), 0.5)).reveal_probability[:, :1]
    hidden, uniform = np.ones((SEQUENCES, PLACES), dtype=bool), np.zeros((SEQUENCES, PLACES))
    for step, chance in enumerate(reveal):
        now = hidden & (noise.uniform_numpy(1, step, noise.CHOICE, ids, PLACES) < chance)
        uniform[now] = noise.uniform_numpy(1, step, noise.PROPOSAL, ids, PLACES)[now]
        hidden &= ~now
    assert not hidden.any()
    answer = Tensor(np.log(np.repeat(P, MANY)).astype(np.float32)).reshape(1, 1, -1).expand(1, 2048, -1).contiguous()
    parts = [draw(answer, on_device(u, np.float32), Tensor([1.0])).numpy() for u in uniform.reshape(-1, 1, 2048)]
    return np.bincount(np.repeat(np.arange(len(P)), MANY)[np.array(parts).ravel()], minlength=len(P))


def tail_z(counts) -> float:
    """How far the number of rare tokens (p = 1e-4) is from what it should be, in standard deviations."""
    mass, total = P[-1] * MANY[-1], counts.sum()
    return float((counts[-1] - mass * total) / np.sqrt(total * mass * (1 - mass)))


def test_the_joint_draw_by_float32_noise_loses_the_tail():
    counts = joint_draw(bits=23)
    with pytest.raises(AssertionError, match="chi-square"):
        assert_counts_follow(counts, P * MANY)
    assert tail_z(counts) < -12
    assert_counts_follow(counts, law_of_joint_draw(bits=23))


def test_what_the_docs_say_that_it_loses():
    """Docs/method.md: of a fifth of the text in tokens of p = 1e-4, or of 1e-5, so much is left."""
    rarer = np.append(P[:-1], 1e-5), np.append(MANY[:-1], 20_000)
    left = [law_of_joint_draw(bits)[-1] / 0.2 for bits in (23, 24)] + [law_of_joint_draw(23, *rarer)[-1] / 0.2]
    np.testing.assert_allclose(left, [0.786, 0.886, 0.201], atol=5e-4)
    assert law_of_joint_draw(53)[-1] / 0.2 == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("made", [coin_then_inverse_cdf, lambda: joint_draw(bits=53)], ids=["ours", "float64"])
def test_what_draws_finely_enough_keeps_it(made):
    counts = made()
    assert counts.sum() == SEQUENCES * PLACES
    assert_counts_follow(counts, P * MANY)
    assert abs(tail_z(counts)) < 4


# ---- noise used twice


CHOICE = noise.CHOICE


@cache
def texts_of(sampler, stream: int = CHOICE, steps: int = 3) -> np.ndarray:
    """How often each of the 81 texts is made on the device, of 8192; `stream`: where the noise of choices is from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "CHOICE", stream)
        runs = SMALL if stream == CHOICE else Runs(WORLD)  # a graph keeps the stream that it was captured with
        return runs.counts(sampler, 8192, steps=steps, seed=2)


@pytest.mark.parametrize("sampler", [RandomSampler(), ConfidenceSampler(), TopKSampler()], ids=lambda s: s.spec)
def test_what_the_device_draws_follows_the_law_of_its_own(sampler):
    assert_counts_follow(texts_of(sampler), law_of(sampler, LINEAR, 3))


def test_a_coin_and_a_value_of_the_same_uniform_are_caught():
    with pytest.raises(AssertionError, match="chi-square"):
        assert_counts_follow(texts_of(RandomSampler(), noise.PROPOSAL), law_of(RandomSampler(), LINEAR, 3))


# ---- 5 % off, and counts off by one


def checked(sampler, name: str):
    [one] = [check for check in checks_of("sampler") if check.name == name]
    return Subject(kind="sampler", component=sampler, registry=REGISTRY).run(one)


OFF_BY_5 = [RevealsFivePercentTooOften(), RevealsFivePercentTooRarely()]


@pytest.mark.parametrize("sampler", OFF_BY_5, ids=lambda s: type(s).__name__)
def test_the_kit_catches_a_reveal_probability_5_percent_off(sampler):
    assert checked(RandomSampler(), "choice").status == "ok"
    result = checked(sampler, "choice")
    assert result.status == "failed" and "choice is 'bernoulli', but equivalent noise" in result.message


@pytest.mark.parametrize(("sampler", "factor"), [(OFF_BY_5[0], 1.05), (OFF_BY_5[1], 0.95)], ids=["often", "rarely"])
def test_the_law_of_a_whole_run_shows_a_reveal_probability_5_percent_off(sampler, factor):
    chances = [1 / 4, 1 / 3, 1 / 2, 1.0]
    right, wrong = by_coins(chances), by_coins([min(1.0, factor * r) for r in chances[:3]] + [1.0])
    assert total_variation(law_of(RandomSampler(), LINEAR, 4), right) < 1e-5 < 1e-3 < total_variation(wrong, right)
    with pytest.raises(UserError, match="does not use its noise as its choice = 'bernoulli' declares"):
        law_of(sampler, LINEAR, 4)


class LeavesOne(ConfidenceSampler):
    """Leaves one position masked at the last step."""

    def step(self, view, state):
        stay = view.last.where(1, view.target_masked)
        return super().step(replace(view, last=view.last & False, target_masked=stay), state)


class OneTooEarly(ConfidenceSampler):
    """One more than the schedule says, at every step but the last."""

    def step(self, view, state):
        return super().step(replace(view, target_masked=view.target_masked - 1), state)


class OneLess(EqualSharesCount):
    def of(self, view, score):
        return view.last.where(view.masked.sum(axis=-1).int(), (super().of(view, score) - 1).maximum(0))


class OneTooLate(TopKSampler):
    """One less than its share while more is left, so that the last step makes up for it."""

    count = OneLess()


COUNTS = [(OneTooEarly(), rule_confidence, 1), (OneTooLate(), rule_top_k, 0)]


@pytest.mark.parametrize(("sampler", "rule", "step"), COUNTS, ids=lambda x: type(x).__name__)
def test_a_count_off_by_one_before_the_last_step_is_caught(sampler, rule, step):
    right = type(sampler).__bases__[0]()
    start, numbers = situation(step, 3, last=False)
    assert_same_law(right, rule, start, numbers)
    with pytest.raises(AssertionError, match="a probability is off by"):
        assert_same_law(sampler, rule, start, numbers)
    # in three steps over four positions the schedule leaves 3, 1, 0, and top-k's shares are 2, 1, 1
    assert total_variation(law_of(sampler, LINEAR, 3), law_of(right, LINEAR, 3)) > 1e-2


def test_a_mask_left_by_the_last_step_is_caught():
    start, numbers = situation(2, 3, last=True)
    assert_same_law(ConfidenceSampler(), rule_confidence, start, numbers)
    with pytest.raises(AssertionError, match="a probability is off by"):
        assert_same_law(LeavesOne(), rule_confidence, start, numbers)
    # two positions at the last step: only there does one mask stay, as at least one is revealed
    with pytest.raises(UserError, match="leaves positions masked after its last step"):
        sampler_law(LeavesOne(), LINEAR, 2, WORLD.log_posterior, L, MASK)
    result = checked(LeavesOne(), "no-mask-left")
    assert result.status == "failed" and "still hold masks" in result.message


def test_random_that_forgets_its_last_step_is_caught():
    start, numbers = situation(2, 3, last=True)
    wrong = RevealsFivePercentTooRarely()  # 0.95 instead of 1
    assert_same_law(RandomSampler(), rule_random, start, numbers)
    with pytest.raises(AssertionError, match="a probability is off by"):
        assert_same_law(wrong, rule_random, start, numbers)
    assert checked(wrong, "no-mask-left").status == "failed"


# ---- hidden tokens


def assert_hidden_stay_hidden(answer) -> None:
    """What the estimators ask of `answer` must not depend on what is hidden: with another token under the mask at one
    position, the answers at all others stay, and those of the position itself, over all its tokens, are a law."""
    rng = np.random.default_rng(0)
    texts, hidden = TEXTS[rng.integers(0, len(TEXTS), BATCH)], MASKS[rng.integers(1, len(MASKS), BATCH)]
    place = np.array([rng.choice(np.flatnonzero(row)) for row in hidden])
    here = np.arange(L) == place[:, None]
    found = [answer(np.where(here, symbol, texts), hidden, hidden.mean(axis=1)) for symbol in range(3)]
    moved = max(np.abs(other - found[0])[~here].max() for other in found[1:])
    assert moved < 1e-6, f"a hidden token moves the answer elsewhere by {moved:.3g} nats"
    own = [one[here] for one in found]
    off = np.abs(np.exp(own).sum(axis=0) - 1).max()
    assert off < 1e-5, f"over all tokens of one position the answers add up to 1 +- {off:.3g}"


@pytest.mark.parametrize("made", [masked, told_last, lambda: (oracle(), None)], ids=["mdlm", "told", "oracle"])
def test_the_bound_never_sees_what_is_hidden(made):
    assert_hidden_stay_hidden(made()[0].target_log_probability)


def one_is_shown(tokens, hidden, t):
    """The network reads the clean token of one masked position."""
    return masked()[0].target_log_probability(tokens, hidden & (np.arange(L) != 1), t)


def text_is_shown(tokens, hidden, t):
    """The network reads the text at masked positions: every token is certain."""
    return np.where(hidden, -1e-9, 0.0)


@pytest.mark.parametrize(("answer", "message"), [(one_is_shown, "moves the answer elsewhere"),
                                                 (text_is_shown, "the answers add up to 1")])  # fmt: skip
def test_an_estimator_that_lets_hidden_tokens_in_is_caught(answer, message):
    with pytest.raises(AssertionError, match=message):
        assert_hidden_stay_hidden(answer)


# ---- weights and normalisers


@cache
def costs() -> np.ndarray:
    """(81, 16) of the oracle: -log p of the masked positions of each text under each mask."""
    tokens, hidden = np.repeat(TEXTS, len(MASKS), axis=0), np.tile(MASKS, (len(TEXTS), 1))
    rows = np.arange(-(-len(tokens) // BATCH) * BATCH).reshape(-1, BATCH) % len(tokens)
    found = [oracle().target_log_probability(tokens[r], hidden[r], np.full(BATCH, 0.5)) for r in rows]
    return -np.concatenate(found)[: len(tokens)].sum(axis=1).reshape(len(TEXTS), len(MASKS))


def of_the_oracle(estimator, draws: int = 16) -> np.ndarray:
    """(N,) how far the oracle's bound of each text is from the text's own -log p, whose mean is the entropy."""
    texts = WORLD.sample(5000, np.random.default_rng(0))
    made = [estimator(lookup(costs()), texts, np.arange(len(texts)), draw, draws) for draw in range(draws)]
    return np.mean(made, axis=0) + WORLD.log_probability(texts)


class FivePercentTooMuch(CosineSchedule):
    def weight(self, t):
        return 1.05 * super().weight(t)


def over_the_length_less_one(*given):
    return likelihood.exact_k(*given) * (L - 1) / L


RIGHT = {"exact-k": likelihood.exact_k, "linear": weighted_by(LINEAR), "cosine": weighted_by(CosineSchedule())}
WRONG = {
    "weight of linear": weighted_by(WrongWeight()), "weight 5 % off": weighted_by(FivePercentTooMuch()),
    "mean over masked": masked_mean, "realized count": realized_count, "L - 1": over_the_length_less_one,
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_the_oracles_own_bound_is_the_entropy(name):
    off = of_the_oracle(RIGHT[name])
    assert_within_4_se(off, 0.0)
    assert off.std() / np.sqrt(len(off)) < 0.01 * WORLD.entropy()


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_weight_or_normaliser_is_not(name):
    with pytest.raises(AssertionError, match="standard errors"):
        assert_within_4_se(of_the_oracle(WRONG[name]), 0.0)

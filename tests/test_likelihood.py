"""Estimators against exact enumeration: a fixed model on 3 symbols and 4 positions, all 2^4 masks."""

from itertools import product
from math import comb

import numpy as np
import pytest
from mist_bench_plugins.corpus_markov import world
from mist_bench_plugins.schedule_cosine import CosineSchedule
from mist_bench_plugins.schedule_linear import LinearSchedule
from tinygrad import Tensor

from mist_bench import likelihood

SYMBOLS, LENGTH = 3, 4
TEXTS = np.array(list(product(range(SYMBOLS), repeat=LENGTH)))
MASKS = np.array(list(product([False, True], repeat=LENGTH)))
TABLE = np.random.default_rng(0).normal(size=(*[SYMBOLS + 1] * LENGTH, LENGTH, SYMBOLS))
TABLE -= np.log(np.exp(TABLE).sum(-1, keepdims=True))


def wrong_model(tokens, masked, t):
    """Any network: log p(x_i | what is seen) from a table over all (V + 1)^L states."""
    states = np.where(masked, SYMBOLS, tokens)
    answers = TABLE[tuple(states.T)]
    picked = np.take_along_axis(answers, np.asarray(tokens)[:, :, None], axis=2)[:, :, 0]
    return np.where(masked, picked, 0.0)


def brute_force_bound(tokens, answer=wrong_model):
    """E over k uniform in 1..L and masks of k positions of L/k times the masked sum, by all 2^L masks."""
    total = np.zeros(len(tokens))
    for mask in MASKS[1:]:
        k = mask.sum()
        masked = np.broadcast_to(mask, tokens.shape)
        total -= answer(tokens, masked, np.zeros(len(tokens))).sum(1) * (LENGTH / k) / comb(LENGTH, k) / LENGTH
    return total


def brute_force_weighted(schedule, tokens):
    """The integral over t of w(t) times the expected masked sum; the expectation over masks is exact."""
    t = (np.arange(20_000) + 0.5) / 20_000
    m, w = schedule.mask_probability(t), schedule.weight(t)
    total = np.zeros(len(tokens))
    for mask in MASKS[1:]:
        k = mask.sum()
        density = (w * m**k * (1 - m) ** (LENGTH - k)).mean()
        total -= density * wrong_model(tokens, np.broadcast_to(mask, tokens.shape), t).sum(1)
    return total


def monte_carlo(tokens, draws, one):
    numbers = np.arange(len(tokens))
    return np.mean([one(tokens, numbers, draw, draws) for draw in range(draws)], axis=0)


@pytest.mark.parametrize("schedule", [LinearSchedule(), CosineSchedule()])
def test_every_schedule_has_the_same_bound(schedule):
    np.testing.assert_allclose(brute_force_weighted(schedule, TEXTS), brute_force_bound(TEXTS), atol=1e-5)


def sampled(one, draws=16, copies=60):
    """Mean over many sequences of the difference from brute force, and its standard error."""
    tokens = np.tile(TEXTS, (copies, 1))
    difference = monte_carlo(tokens, draws, one) - np.tile(brute_force_bound(TEXTS), copies)
    return difference.mean(), difference.std(ddof=1) / np.sqrt(len(difference))


def exact_k(tokens, numbers, draw, draws):
    return likelihood.exact_k(wrong_model, tokens, numbers, draw, draws)


def weighted(schedule):
    return lambda tokens, numbers, draw, draws: likelihood.weighted(
        wrong_model, schedule, tokens, numbers, draw, draws
    )


@pytest.mark.parametrize("one", [exact_k, weighted(LinearSchedule()), weighted(CosineSchedule())])
def test_monte_carlo_meets_enumeration(one):
    difference, error = sampled(one)
    assert abs(difference) < 4 * error
    assert error < 0.01 * brute_force_bound(TEXTS).mean()


class WrongWeight(CosineSchedule):
    name = "wrong-weight"

    def weight(self, t):
        return 1 / t


def masked_mean(tokens, numbers, draw, draws):
    """The normaliser of a masked-mean loss: 1/k instead of L/k."""
    return likelihood.exact_k(wrong_model, tokens, numbers, draw, draws) / LENGTH


def off_by_one(tokens, numbers, draw, draws):
    """k from 1..L-1 only: never all masked."""
    u = likelihood.noise.uniform_numpy(likelihood.SEED, 0, likelihood.noise.TIMES, numbers, 1)[:, 0]
    k = 1 + np.minimum(((LENGTH - 1) * (draw + u) / draws).astype(int), LENGTH - 2)
    order = likelihood.noise.uniform_numpy(likelihood.SEED, draw, likelihood.noise.MASKING, numbers, LENGTH)
    masked = order.argsort(1).argsort(1) < k[:, None]
    return -wrong_model(tokens, masked, k / LENGTH).sum(1) * LENGTH / k


@pytest.mark.parametrize("one", [weighted(WrongWeight()), masked_mean, off_by_one])
def test_a_wrong_weight_or_normaliser_is_caught(one):
    difference, error = sampled(one)
    assert abs(difference) > 8 * error


def test_the_chain_rule_by_brute_force():
    """Left to right through the masked model sums to one over all texts, and is not the bound."""
    log_p = np.zeros(len(TEXTS))
    for i in range(LENGTH):
        masked = np.broadcast_to(np.arange(LENGTH) >= i, TEXTS.shape)
        log_p += wrong_model(TEXTS, masked, np.zeros(len(TEXTS)))[:, i]
    assert abs(np.exp(log_p).sum() - 1) < 1e-5
    assert (brute_force_bound(TEXTS) + log_p).std() > 0.1


def test_the_oracles_own_bound_is_the_entropy():
    oracle = world(SYMBOLS, LENGTH, 1.2)
    mask = oracle.vocab_size

    def answer(tokens, masked, t):
        given = oracle.log_posterior(Tensor(np.where(masked, mask, tokens).astype(np.int32))).numpy()
        return np.where(masked, np.take_along_axis(given, tokens[:, :, None], axis=2)[:, :, 0], 0.0)

    log_p = oracle.log_probability(TEXTS)
    bound = (np.exp(log_p) * brute_force_bound(TEXTS, answer)).sum()
    assert abs(bound - oracle.entropy()) < 1e-5
    assert abs((np.exp(log_p) * -log_p).sum() - oracle.entropy()) < 1e-9


def test_stratified_k_is_uniform_for_each_draw():
    seen = []

    def spy(tokens, masked, t):
        seen.append(masked.sum(1))
        return np.zeros(tokens.shape)

    tokens = np.zeros((4000, 8), dtype=int)
    for draw in range(8):
        likelihood.exact_k(spy, tokens, np.arange(4000), draw, 8)
    assert np.array_equal(np.array(seen), np.arange(1, 9)[:, None] + np.zeros((8, 4000)))


def test_ratio_error_matches_simulation():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(40), 5)

    def one():
        shared = np.repeat(rng.normal(size=40), 5)
        return 2.0 + shared + rng.normal(size=200)

    means, errors = zip(*[likelihood.ratio(one(), np.ones(200), clusters) for _ in range(400)], strict=True)
    assert abs(np.std(means) / np.mean(errors) - 1) < 0.12


def test_estimate_counts_bytes_and_tokens():
    found = likelihood.estimate(np.array([8.0, 4.0]), 4, np.array([10, 6]), np.array([0, 1]))
    assert found.nats_per_token == pytest.approx(1.5)
    assert found.bits_per_byte == pytest.approx(12 / np.log(2) / 16)
    assert found.nats_per_token_se == pytest.approx(0.5)


def test_repeats_that_fill_the_last_batch_are_dropped():
    seen = likelihood.in_batches(
        np.arange(5)[:, None], 3, 2, lambda part, numbers, draw: part[:, 0] * 1.0 + draw, lambda done, total: None
    )
    assert seen.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]

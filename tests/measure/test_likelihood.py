"""Estimators against exact enumeration: a model on 3 symbols and 4 positions, all 2^4 masks.

Two ways. Enumerated: the estimator's own code runs on every value that its noise can take, which must give the truth to
1e-5. Monte Carlo: the real noise, which must come within 4 standard errors. Both must notice planted errors.
"""

from itertools import permutations, product
from math import comb

import numpy as np
import pytest
from mist_bench_plugins.schedule_cosine import CosineSchedule
from mist_bench_plugins.schedule_cosine_md4 import CosineMd4Schedule
from mist_bench_plugins.schedule_cosine_squared import CosineSquaredSchedule
from mist_bench_plugins.schedule_geometric import GeometricSchedule
from mist_bench_plugins.schedule_linear import LinearSchedule
from mist_bench_plugins.schedule_linear_sigma import LinearSigmaSchedule
from mist_bench_plugins.schedule_polynomial import PolynomialSchedule

from harness.brute_force import (
    BATCH,
    MASKS,
    TEXTS,
    WORLD,
    L,
    S,
    assert_within_4_se,
    bound,
    causal,
    causal_answer,
    lookup,
    masked_answer,
    of_tokens,
    oracle,
    table,
    told_last,
)
from harness.brute_force import masked as network
from harness.wrong_estimators import MaskedMean, WrongWeight, masked_mean, realized_count, weighted_by
from mist_bench.engine import noise
from mist_bench.measure import likelihood, statistics

SCHEDULES = [LinearSchedule(), CosineSchedule(), CosineSquaredSchedule(), CosineMd4Schedule(), PolynomialSchedule()]
ORDERS = np.array(list(permutations(range(L)))) / L


def plant_noise(monkeypatch, times, places) -> None:
    """The noise of sequence n: times[n] for its time, places[n] (L,) for its positions."""

    def planted(seed, step, stream, sequences, length):
        assert seed == likelihood.SEED
        return times[sequences][:, None] if stream == noise.TIMES else places[sequences][:, :length]

    monkeypatch.setattr(noise, "uniform_numpy", planted)


def every(times, places):
    """All combinations of text, time and places, as rows: tokens, times, places."""
    text, i, j = (x.ravel() for x in np.indices((len(TEXTS), len(times), len(places))))
    return TEXTS[text], times[i], places[j]


def averaged(estimator, tokens, draws: int, weights=1.0) -> np.ndarray:
    """(81,) mean over all rows of a text, and over the draws."""
    numbers = np.arange(len(tokens))
    total = sum(estimator(lookup(table()), tokens, numbers, draw, draws) for draw in range(draws)) / draws
    return (total.reshape(len(TEXTS), -1) * weights).mean(axis=1)


# ---- enumerated


@pytest.mark.parametrize("draws", [1, 3, 4, 7])
def test_exact_k_over_all_its_noise_is_the_bound(monkeypatch, draws):
    tokens, times, places = every((np.arange(84) + 0.5) / 84, ORDERS)
    plant_noise(monkeypatch, times, places)
    found = averaged(likelihood.exact_k, tokens, draws)
    np.testing.assert_allclose(found, bound(table()), rtol=0, atol=1e-5)


def integral(monkeypatch, schedule, low: float, high: float) -> np.ndarray:
    """(81,) of `weighted` between two mask probabilities: 64 Gauss-Legendre times, and all masks by their law."""
    first, last = schedule.inverse(np.array([low, high]))
    node, weight = np.polynomial.legendre.leggauss(64)
    t, weight = first + (last - first) * (node + 1) / 2, weight * (last - first) / 2
    tokens, times, places = every(t, np.where(MASKS, 0.0, 1.0))
    plant_noise(monkeypatch, times, places)
    m, k = schedule.mask_probability(t)[:, None], MASKS.sum(axis=1)
    law = m**k * (1 - m) ** (L - k) * weight[:, None]
    return averaged(weighted_by(schedule), tokens, 1, law.ravel() * law.size)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.spec)
def test_weighted_over_all_its_noise_is_the_bound_less_what_is_stated(monkeypatch, schedule):
    edge = likelihood.SMALLEST_MASK
    found = integral(monkeypatch, schedule, edge, 1.0)
    m = (np.arange(1000) + 0.5) / 1000 * edge
    sizes = MASKS.sum(axis=1)
    law = np.where(sizes > 0, m[:, None] ** np.maximum(sizes - 1, 0) * (1 - m[:, None]) ** (L - sizes), 0)
    dropped = table() @ law.mean(axis=0) * edge
    np.testing.assert_allclose(found, bound(table()) - dropped, rtol=0, atol=1e-5)
    assert (integral(monkeypatch, schedule, edge * 1e-3, edge * 0.999) == 0).all()
    assert (dropped < 1e-3 * bound(table())).all()


def k_from(low: int, high: int):
    """exact-k with k drawn from `low` to `high`, written again."""

    def estimator(answer, tokens, numbers, draw, draws):
        u = noise.uniform_numpy(likelihood.SEED, 0, noise.TIMES, numbers, 1)[:, 0]
        k = low + ((high - low + 1) * (draw + u) / draws).astype(int)
        order = noise.uniform_numpy(likelihood.SEED, draw, noise.MASKING, numbers, L)
        masked = order.argsort(axis=1).argsort(axis=1) < k[:, None]
        return -answer(tokens, masked, k / L).sum(axis=1) * L / np.maximum(k, 1)

    return estimator


@pytest.mark.parametrize("estimator", [masked_mean, k_from(0, L - 1), k_from(1, L - 1)])
def test_a_wrong_count_or_normaliser_is_caught_by_enumeration(monkeypatch, estimator):
    tokens, times, places = every((np.arange(84) + 0.5) / 84, ORDERS)
    plant_noise(monkeypatch, times, places)
    np.testing.assert_allclose(averaged(k_from(1, L), tokens, 4), bound(table()), rtol=0, atol=1e-5)
    assert np.abs(averaged(estimator, tokens, 4) - bound(table())).max() > 1e-2


@pytest.mark.parametrize("schedule", [WrongWeight(), MaskedMean()], ids=lambda s: s.name)
def test_a_wrong_weight_is_caught_by_enumeration(monkeypatch, schedule):
    assert np.abs(integral(monkeypatch, schedule, likelihood.SMALLEST_MASK, 1.0) - bound(table())).max() > 1e-2


# ---- a network that is told the time


def told_costs(t) -> np.ndarray:
    """(N, 16): the costs of the table, and how far a network that is told t changes those of each number of masks."""
    return 1 + 0.5 * np.sin(3 * np.asarray(t)[:, None] + MASKS.sum(axis=1))


def told(tokens, masked, t):
    """An `answer` that depends on t: text and mask from the table, changed by `told_costs`."""
    mask = masked @ 2 ** np.arange(L - 1, -1, -1)
    return lookup(table())(tokens, masked, t) * told_costs(t)[np.arange(len(t)), mask][:, None]


def bound_by_the_clock(clock) -> np.ndarray:
    """(81,) the integral over the mask probability u of the law of the masks over u times their cost at the time of u,
    written again: 400 Gauss-Legendre nodes."""
    node, weight = np.polynomial.legendre.leggauss(400)
    u, k = (node + 1) / 2, MASKS.sum(axis=1)
    law = np.where(k > 0, u[:, None] ** np.maximum(k - 1, 0) * (1 - u[:, None]) ** (L - k), 0.0)
    return table() @ (law * told_costs(clock.inverse(u)) * weight[:, None] / 2).sum(axis=0)


def exact_k_by_the_clock(monkeypatch, clock) -> np.ndarray:
    """(81,) of `exact_k` over all k, all sets of k positions, and 64 nodes of the k-th smallest number's law."""
    node, weight = np.polynomial.legendre.leggauss(64)
    u, weight = (node + 1) / 2, weight / 2
    times, places, laws = [], [], []
    for mask in MASKS[1:]:
        k = int(mask.sum())
        last = L * comb(L - 1, k - 1) * u ** (k - 1) * (1 - u) ** (L - k)  # Beta(k, L - k + 1)
        rank = np.where(mask, mask.cumsum(), 0)
        places.append(np.where(mask, u[:, None] * rank / k, (1 + u[:, None]) / 2))
        times.append(np.full(len(u), (k - 0.5) / L))
        laws.append(weight * last / comb(L, k) / L)
    each = [np.concatenate(part) for part in (times, places, laws)]
    plant_noise(monkeypatch, np.tile(each[0], len(TEXTS)), np.tile(each[1], (len(TEXTS), 1)))
    texts = np.repeat(TEXTS, len(each[0]), axis=0)
    found = likelihood.exact_k(told, texts, np.arange(len(texts)), 0, 1, clock=clock)
    return found.reshape(len(TEXTS), -1) @ each[2]


CLOCKS = [CosineSchedule(), CosineMd4Schedule(), PolynomialSchedule(), GeometricSchedule(), LinearSigmaSchedule()]


@pytest.mark.parametrize("clock", CLOCKS, ids=lambda s: s.spec)
def test_exact_k_is_the_bound_of_a_network_by_its_own_clock(monkeypatch, clock):
    truth = bound_by_the_clock(clock)
    np.testing.assert_allclose(exact_k_by_the_clock(monkeypatch, clock), truth, rtol=1e-4)
    assert np.abs(exact_k_by_the_clock(monkeypatch, None) / truth - 1).max() > 1e-2, "k/L is not its time"


@pytest.mark.parametrize("clock", CLOCKS, ids=lambda s: s.spec)
def test_every_weight_gives_the_bound_of_a_network_by_its_own_clock(clock):
    """Also for a clock that does not reach all mask probabilities, and under the weight of another schedule."""
    numbers, truth = np.arange(len(MANY)), np.tile(bound_by_the_clock(clock), 60)
    for schedule in (LinearSchedule(), CosineSchedule()):
        draws = [likelihood.weighted(told, schedule, MANY, numbers, d, 16, clock) for d in range(16)]
        assert_within_4_se(np.mean(draws, axis=0), truth)
    draws = [likelihood.exact_k(told, MANY, numbers, d, 16, clock=clock) for d in range(16)]
    assert_within_4_se(np.mean(draws, axis=0), truth)


def test_a_network_that_is_told_the_time_has_one_bound_as_in_a_run():
    evaluator, _ = told_last()
    texts, clock = np.tile(TEXTS, (13, 1)), CosineSchedule()
    exact, own, other = (likelihood.masked_likelihood(evaluator, texts, 8, schedule, clock=clock)
                         for schedule in (None, clock, LinearSchedule()))  # fmt: skip
    for weighted in (own, other):
        difference, error = statistics.disagreement(exact, weighted, np.arange(len(exact)))
        assert abs(difference) < 4 * error < 0.1 * exact.mean()
    assert np.abs(exact - likelihood.masked_likelihood(evaluator, texts, 8, None)).max() > 1e-3


# ---- Monte Carlo


MANY = np.tile(TEXTS, (60, 1))


def monte_carlo(estimator, draws: int = 16) -> np.ndarray:
    numbers = np.arange(len(MANY))
    return np.mean([estimator(lookup(table()), MANY, numbers, d, draws) for d in range(draws)], axis=0)


@pytest.mark.parametrize(
    "estimator", [likelihood.exact_k, *(weighted_by(s) for s in SCHEDULES)], ids=["exact-k", *(s.spec for s in SCHEDULES)]
)
def test_monte_carlo_comes_within_4_standard_errors(estimator):
    found, truth = monte_carlo(estimator), np.tile(bound(table()), 60)
    assert_within_4_se(found, truth)
    assert (found - truth).std() / np.sqrt(len(MANY)) < 0.01 * truth.mean()


@pytest.mark.parametrize(
    "estimator",
    [weighted_by(WrongWeight()), weighted_by(MaskedMean()), masked_mean, realized_count, k_from(0, L - 1),
     k_from(1, L - 1)],
    ids=["wrong-weight", "no-weight", "masked-mean", "realized-count", "k-from-0", "k-to-L-1"],
)  # fmt: skip
def test_planted_errors_are_caught_by_4_standard_errors(estimator):
    with pytest.raises(AssertionError, match="standard errors"):
        assert_within_4_se(monte_carlo(estimator), np.tile(bound(table()), 60))


def test_the_network_gives_what_the_table_says():
    evaluator, _ = network()
    tokens, masked = np.repeat(TEXTS, len(MASKS), axis=0), np.tile(MASKS, (len(TEXTS), 1))
    found = []
    for start in range(0, len(tokens), BATCH):
        rows = np.arange(start, start + BATCH) % len(tokens)
        found.append(evaluator.target_log_probability(tokens[rows], masked[rows], np.full(BATCH, 0.5)))
    found = np.concatenate(found)[: len(tokens)]
    assert (found[~masked] == 0).all()
    np.testing.assert_allclose(-found.sum(axis=1), table().ravel(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("schedule", [None, LinearSchedule(), CosineSchedule()])
def test_the_whole_path_comes_within_4_standard_errors(schedule):
    """The network's graph, batches, draws and errors as in a run."""
    evaluator, _ = network()
    texts = np.tile(TEXTS, (13, 1))
    found = likelihood.masked_likelihood(evaluator, texts, 8, schedule)
    truth = np.tile(bound(table()), 13)
    assert_within_4_se(found, truth)
    made = likelihood.estimate(found, L, np.full(len(texts), L), np.arange(len(texts)))
    assert abs(made.nats_per_token - truth.mean() / L) < 4 * made.nats_per_token_se
    assert made.nats_per_token_se < 0.03 * made.nats_per_token


def test_estimators_of_one_checkpoint_agree_within_their_paired_error():
    exact = monte_carlo(likelihood.exact_k)
    for schedule in (LinearSchedule(), CosineSchedule()):
        difference, error = statistics.disagreement(exact, monte_carlo(weighted_by(schedule)), np.arange(len(exact)))
        assert abs(difference) < 4 * error
        assert error < 0.02 * exact.mean()
    difference, error = statistics.disagreement(exact, monte_carlo(weighted_by(WrongWeight())), np.arange(len(exact)))
    assert abs(difference) > 4 * error


# ---- the chain rule


def test_the_chain_rule_by_brute_force():
    evaluator, values = causal()
    found = likelihood.causal_likelihood(evaluator, TEXTS)
    truth = -of_tokens(causal_answer(values, TEXTS), TEXTS).sum(axis=1)
    np.testing.assert_allclose(found, truth, rtol=0, atol=1e-5)
    assert np.exp(-found).sum() == pytest.approx(1, abs=1e-5)
    assert found.std() > 0.1


def chain_rule_of(values, times=None) -> np.ndarray:
    """(81,) nats of a masked network read from left to right, one position after the other."""
    log_p = np.zeros(len(TEXTS))
    for i in range(L):
        t = None if times is None else np.full(len(TEXTS), times[i])
        answer = masked_answer(values, np.where(np.arange(L) >= i, S, TEXTS), t)
        log_p += of_tokens(answer, TEXTS)[:, i]
    return -log_p


def test_left_to_right_by_brute_force():
    evaluator, values = network()
    found, truth = likelihood.left_to_right(evaluator, TEXTS), chain_rule_of(values)
    np.testing.assert_allclose(found, truth, rtol=0, atol=1e-5)
    assert np.exp(-truth).sum() == pytest.approx(1, abs=1e-9), "a law of its own"
    assert np.abs(bound(table()) - truth).max() > 0.1


def test_left_to_right_tells_the_time_of_what_is_masked():
    """The time equals the masked fraction k / L; the self-conditioning is empty."""
    evaluator, values = told_last()
    found = likelihood.left_to_right(evaluator, TEXTS)
    np.testing.assert_allclose(found, chain_rule_of(values, (L - np.arange(L)) / L), rtol=0, atol=1e-5)
    assert np.abs(found - chain_rule_of(values, np.ones(L))).max() > 1e-3


def test_left_to_right_tells_the_time_of_the_networks_clock():
    """That at which as large a share is masked. A recorder is asked, since a network's sines of 1000 t round in float32."""
    recorder = Recorder(16)
    likelihood.left_to_right(recorder, TEXTS[:5], clock=CosineSchedule())
    for asked in recorder.asked.values():
        for mask, time in asked:
            assert CosineSchedule().mask_probability(time) == pytest.approx(sum(mask) / L, abs=1e-12)


def test_the_oracle_from_left_to_right_is_the_truth():
    texts = TEXTS[np.isfinite(WORLD.log_probability(TEXTS))]
    found = likelihood.left_to_right(oracle(), texts)
    np.testing.assert_allclose(found, -WORLD.log_probability(texts), rtol=0, atol=1e-5)
    assert len(texts) > 10 and found.std() > 0.5


def test_left_to_right_does_not_depend_on_the_batch():
    texts = np.array(list(product(range(3), repeat=4)))[:13]
    one, other = Recorder(16), Recorder(7)
    reported = []
    first = likelihood.left_to_right(one, texts, lambda *at: reported.append(at))
    np.testing.assert_array_equal(first, likelihood.left_to_right(other, texts))
    np.testing.assert_array_equal(first, texts.sum(axis=1) + L, "each position once, and its own token")
    assert reported[-1] == (4, 4) and len(reported) == 4
    for text in texts:
        masks = {mask for mask, _ in one.asked[tuple(text)]}
        assert masks == {tuple(np.arange(L) >= i) for i in range(L)}


# ---- draws, batches, errors


def test_stratified_k_is_uniform_over_the_draws_of_each_sequence():
    seen = []

    def spy(tokens, masked, t):
        seen.append(masked.sum(axis=1))
        np.testing.assert_allclose(t, masked.mean(axis=1))
        return np.zeros(tokens.shape)

    tokens = np.zeros((4000, 8), dtype=int)
    for draw in range(8):
        likelihood.exact_k(spy, tokens, np.arange(4000), draw, 8)
    assert np.array_equal(np.array(seen), np.arange(1, 9)[:, None] + np.zeros((8, 4000)))


def test_blocks_are_stratified_sets_of_their_own_and_block_0_is_the_plain_one():
    seen = {}

    def spy(tokens, masked, t):
        seen.setdefault(now, []).append(masked)
        return np.zeros(tokens.shape)

    tokens = np.zeros((2000, 8), dtype=int)
    for now in (0, 1, 2, "plain"):
        for draw in range(4):
            more = {} if now == "plain" else {"block": now}
            likelihood.exact_k(spy, tokens, np.arange(2000), draw, 4, **more)
    for masks in seen.values():
        for draw, masked in enumerate(masks):
            assert np.isin(masked.sum(axis=1), [2 * draw + 1, 2 * draw + 2]).all()
    np.testing.assert_array_equal(seen[0], seen["plain"])
    sizes = [np.array(seen[b])[0].sum(axis=1) for b in (0, 1, 2)]
    assert np.abs(np.corrcoef(sizes)[np.triu_indices(3, 1)]).max() < 4 / np.sqrt(2000)
    assert (np.array(seen[0])[1] != np.array(seen[1])[1]).any(axis=1).mean() > 0.9


def test_times_of_the_weighted_form_are_stratified_and_every_mask_is_independent():
    seen = []

    def spy(tokens, masked, t):
        seen.append((t, masked))
        return np.zeros(tokens.shape)

    tokens = np.zeros((4000, 8), dtype=int)
    for draw in range(4):
        likelihood.weighted(spy, CosineSchedule(), tokens, np.arange(4000), draw, 4)
    for draw, (t, masked) in enumerate(seen):
        assert (np.floor(t * 4) == draw).all()
        m = CosineSchedule().mask_probability(t)
        z = (masked - m[:, None]).sum(axis=0) / np.sqrt((m * (1 - m)).sum())
        assert np.abs(z).max() < 4
    assert abs(np.corrcoef(seen[0][0], seen[0][1].mean(axis=1))[0, 1]) > 0.2
    assert not np.array_equal(seen[0][1] > 0, seen[1][1] > 0)


class Recorder:
    """An evaluator that only records the masks of its calls."""

    def __init__(self, batch: int) -> None:
        self.batch, self.asked = batch, {}

    def target_log_probability(self, tokens, masked, t):
        assert len(tokens) == self.batch
        for row, mask, time in zip(tokens, masked, t, strict=True):
            self.asked.setdefault(tuple(row), []).append((tuple(mask), time))
        return -1.0 * masked * (1.0 + tokens)


@pytest.mark.parametrize("schedule", [None, LinearSchedule()])
def test_masks_belong_to_the_sequence_and_not_to_the_batch(schedule):
    texts = np.array(list(product(range(3), repeat=4)))[:50]
    one, other = Recorder(16), Recorder(7)
    first = likelihood.masked_likelihood(one, texts, 3, schedule)
    second = likelihood.masked_likelihood(other, texts, 3, schedule)
    np.testing.assert_array_equal(first, second)
    for number, text in enumerate(texts):
        # those that fill the last batch come after: they are repeats with numbers of their own
        assert one.asked[tuple(text)][:3] == other.asked[tuple(text)][:3], number
    assert len({tuple(x) for x in one.asked.values()}) > 40


def test_repeats_that_fill_the_last_batch_are_dropped():
    seen = likelihood.in_batches(
        np.arange(5)[:, None], 3, 2, lambda part, numbers, draw: part[:, 0] * 1.0 + draw, lambda done, total: None
    )
    assert seen.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]


def test_progress_is_reported_to_its_end():
    reported = []
    likelihood.in_batches(np.zeros((5, 1)), 2, 2, lambda part, numbers, draw: np.zeros(2), lambda *at: reported.append(at))
    assert reported == [(i, 6) for i in range(1, 7)]


def test_ratio_error_matches_simulation():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(40), 5)

    def one():
        sizes = np.repeat(rng.integers(5, 15, size=40), 5) * 1.0
        shared = np.repeat(rng.normal(size=40), 5)
        return sizes * (2.0 + shared) + rng.normal(size=200), sizes

    means, errors = zip(*[statistics.ratio(*one(), clusters) for _ in range(400)], strict=True)
    assert abs(np.std(means) / np.mean(errors) - 1) < 0.12
    # as if the members of a cluster were independent: too small an error, which the test above would see
    alone = [statistics.ratio(*one(), np.arange(200))[1] for _ in range(50)]
    assert np.std(means) / np.mean(alone) > 1.5


def test_estimate_counts_bytes_and_tokens():
    found = likelihood.estimate(np.array([8.0, 4.0]), 4, np.array([10, 6]), np.array([0, 1]))
    assert found.nats_per_token == pytest.approx(1.5)
    assert found.bits_per_byte == pytest.approx(12 / np.log(2) / 16)
    assert found.nats_per_token_se == pytest.approx(0.5)
    assert np.isnan(statistics.ratio(np.ones(3), np.ones(3), np.zeros(3))[1])

"""The markov world against brute-force enumeration, and against forward-backward when it is long."""

from itertools import product

import numpy as np
import pytest
from mist_bench_plugins.corpus_markov import MarkovCorpus, MarkovOracle
from tinygrad import Tensor

from mist_bench.inference.draw import statistics

SMALL = MarkovCorpus()  # 3 letters, 4 positions: V = 4 with the end token
ALL = np.array(list(product(range(3), repeat=4)))
MASKS = np.array(list(product([False, True], repeat=4)))


def joint_law(oracle: MarkovOracle) -> dict[tuple[int, ...], float]:
    law = {}
    for x in product(range(oracle.symbols), repeat=oracle.length):
        p = oracle.initial[x[0]]
        for a, b in zip(x[:-1], x[1:], strict=True):
            p = p * oracle.transition[a, b]
        law[x] = float(p)
    return law


@pytest.fixture(scope="module")
def law():
    return joint_law(SMALL.oracle())


@pytest.fixture(scope="module")
def every_state():
    """All 2^4 masks of all 3^4 sequences, as tokens with the mask's id 4."""
    return np.where(MASKS[:, None], 4, ALL[None]).reshape(-1, 4)


@pytest.fixture(scope="module")
def answer(every_state):
    return SMALL.oracle().log_posterior(Tensor(every_state.astype(np.int32))).numpy()


def enumerated_posterior(law, state) -> np.ndarray:
    out = np.zeros((4, 4))
    for x, p in law.items():
        if all(s in (4, a) for s, a in zip(state, x, strict=True)):
            out[np.arange(4), list(x)] += p
    return out / out.sum(axis=1, keepdims=True)


def test_posterior_equals_enumeration(law, every_state, answer):
    truth = np.array([enumerated_posterior(law, state) for state in every_state])
    assert answer.shape == (16 * 81, 4, 4)
    np.testing.assert_allclose(np.exp(answer), truth, rtol=0, atol=1e-6)
    possible = truth > 0
    np.testing.assert_allclose(answer[possible], np.log(truth[possible]), rtol=0, atol=1e-5)
    assert (np.exp(answer[~possible]) == 0).all()


def test_seen_positions_carry_over_and_nothing_is_nan(every_state, answer):
    seen = every_state < 4
    assert (answer[seen].argmax(axis=-1) == every_state[seen]).all()
    assert (answer[seen].max(axis=-1) == 0).all()
    known = statistics(Tensor(answer), Tensor(np.zeros_like(every_state, dtype=np.int32)))
    for value in known.values():
        assert np.isfinite(value.numpy()).all()
    assert (known["entropy"].numpy()[seen] == 0).all()
    assert (known["margin"].numpy()[seen] == 1).all()


def test_positions_that_are_equally_sure_tie_to_the_last_bit(every_state, answer):
    # a _ _ a with the same proposal a in both gaps: p is T[a,a] T^2[a,a] / T^3[a,a] at both
    gap = (every_state[:, 1:3] == 4).all(axis=1) & (every_state[:, 0] == every_state[:, 3]) & (every_state[:, 0] < 4)
    a = every_state[gap, 0]
    assert set(a.tolist()) == {0, 1, 2}
    assert (answer[gap][np.arange(len(a)), 1, a] == answer[gap][np.arange(len(a)), 2, a]).all()


def test_a_seen_end_token_leaves_the_masked_positions_uniform(every_state):
    states = every_state.copy()  # of the same shape, so that nothing is compiled anew
    states[0] = [0, 3, 4, 4]
    answer = SMALL.oracle().log_posterior(Tensor(states.astype(np.int32))).numpy()[0]
    np.testing.assert_allclose(answer[2:], np.log(1 / 4), rtol=1e-6)
    assert answer[:2].argmax(axis=-1).tolist() == [0, 3]


def test_probability_and_entropy(law):
    oracle = SMALL.oracle()
    truth = np.array(list(law.values()))
    assert truth.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(oracle.log_probability(ALL), np.log(truth), rtol=1e-12)
    assert oracle.entropy() == pytest.approx(-(truth * np.log(truth)).sum(), rel=1e-12)
    assert oracle.log_probability(np.array([[0, 1, 2, 3]])).tolist() == [-np.inf]


def test_the_bound_of_the_posterior_is_the_entropy(law, every_state, answer):
    """Exact-k over all masks and texts: mean over k of (L/k) sum of -log p over the masked equals H, with no noise."""
    masked = every_state == 4
    true = np.tile(ALL, (16, 1))
    loss = -(np.take_along_axis(answer, true[..., None], axis=-1)[..., 0].astype(np.float64) * masked).sum(axis=1)
    k = masked.sum(axis=1)
    texts = np.tile(list(law.values()), 16)
    subsets = np.array([1, 4, 6, 4, 1])
    bound = sum((texts[k == j] * loss[k == j]).sum() / subsets[j] * 4 / j for j in range(1, 5)) / 4
    assert bound == pytest.approx(SMALL.oracle().entropy(), abs=1e-6)


def forward_backward(oracle: MarkovOracle, state) -> np.ndarray:
    """(L, S): the textbook recursions over one sequence, scaled."""
    mask = oracle.vocab_size
    seen = np.array([np.ones(oracle.symbols) if x == mask else np.eye(oracle.symbols)[x] for x in state])
    forward, backward = np.zeros_like(seen), np.ones_like(seen)
    forward[0] = oracle.initial * seen[0]
    for i in range(1, len(state)):
        forward[i] = (forward[i - 1] @ oracle.transition) * seen[i]
        forward[i] /= forward[i].sum()
    for i in range(len(state) - 2, -1, -1):
        backward[i] = oracle.transition @ (seen[i + 1] * backward[i + 1])
        backward[i] /= backward[i].sum()
    both = forward * backward
    return both / both.sum(axis=1, keepdims=True)


def test_posterior_of_a_long_world_equals_forward_backward():
    oracle = MarkovCorpus(symbols=5, length=12, skew=0.7).oracle()
    rng = np.random.default_rng(3)
    tokens = oracle.sample(64, rng)
    state = np.where(rng.random((64, 12)) < np.linspace(0, 1, 64)[:, None], 6, tokens)
    answer = oracle.log_posterior(Tensor(state.astype(np.int32))).numpy()
    truth = np.array([forward_backward(oracle, row) for row in state])
    assert (state == 6).all(axis=1).any()
    assert (state < 6).all(axis=1).any()
    np.testing.assert_allclose(np.exp(answer[..., :5]), truth, rtol=0, atol=1e-5)
    assert (np.exp(answer[..., 5]) == 0).all()


def test_samples_follow_the_law(law):
    oracle, count = SMALL.oracle(), 50_000
    drawn = oracle.sample(count, np.random.default_rng(1))
    codes, truth = oracle.slots(drawn)
    counts = np.bincount(codes, minlength=81)
    # chi-square with 80 degrees of freedom: mean 80, standard deviation 12.6
    assert ((counts - count * truth) ** 2 / (count * truth)).sum() < 80 + 5 * 12.6


def test_slots_of_a_small_world_are_its_sequences(law):
    codes, truth = SMALL.oracle().slots(ALL)
    assert codes.tolist() == list(range(81))
    np.testing.assert_allclose(truth, list(law.values()), rtol=1e-12)
    assert SMALL.oracle().slots(np.array([[0, 1, 2, 3]]))[0].tolist() == [-1]
    assert SMALL.oracle().expected_distinct(1) == pytest.approx(1)


def test_slots_of_a_long_world_are_its_first_letters():
    oracle = MarkovCorpus(symbols=4, length=10, skew=0.4).oracle()
    codes, truth = oracle.slots(oracle.sample(100, np.random.default_rng(0)))
    assert truth.shape == (4**4,)
    np.testing.assert_allclose(truth, list(joint_law(MarkovCorpus(symbols=4, length=4, skew=0.4).oracle()).values()))
    assert codes.max() < 4**4
    ten = MarkovCorpus(symbols=10, length=10).oracle()
    assert ten.slots(np.zeros((1, 10), dtype=np.int32))[1].shape == (1000,)


def test_texts_are_drawn_from_the_world_and_always_the_same(tmp_path):
    texts = SMALL.load(tmp_path)
    assert texts == SMALL.load(tmp_path)
    assert (len(texts.train), len(texts.validation), len(texts.test)) == (20_000, 1_024, 1_024)
    assert list(texts.train[:1024]) != list(texts.validation) != list(texts.test)
    assert {len(text) for text in texts.train} == {SMALL.fixed_length()} == {4}
    assert set("".join(texts.train)) == set(SMALL.vocabulary()) == set("abc")
    _, truth = SMALL.oracle().slots(ALL)
    ids = np.array([["abc".index(c) for c in text] for text in texts.train])
    share = np.bincount(SMALL.oracle().slots(ids)[0], minlength=81) / 20_000
    assert np.abs(share - truth).max() < 0.02


@pytest.mark.parametrize(
    ("name", "value"), [("symbols", 1), ("symbols", 27), ("length", 0), ("skew", -0.1), ("skew", 9)]
)
def test_parameters_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name} is from "):
        MarkovCorpus(**{name: value})

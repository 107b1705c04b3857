"""The story world against brute force over all its stories."""

import itertools
from functools import cache

import numpy as np
import pytest
from mist_bench_plugins.corpus_tales import TalesCorpus, world
from mist_bench_plugins.family_oracle import OracleModel
from tinygrad import Tensor

from mist_bench import Plot, SlotWorld
from mist_bench.inference.masked import MaskedEvaluator
from mist_bench.measure import likelihood, statistics, text


@cache
def everything():
    """All possible stories, and their probabilities."""
    tales = world()
    possible = np.flatnonzero(tales.truth > 0)
    return tales.render(possible), tales.truth[possible]


def test_the_world_is_what_the_docs_say():
    tales = world()
    stories, p = everything()
    assert len(stories) == 107_520 == len(np.unique(stories, axis=0))
    assert tales.vocab_size < 100 and stories.shape[1] == 64
    assert p.sum() == pytest.approx(1, abs=1e-12)
    assert p.max() / p.min() > 100
    assert tales.entropy() == pytest.approx(-(p * np.log(p)).sum(), abs=1e-9)


def test_log_probability_of_all_stories_and_of_none():
    stories, p = everything()
    some = np.arange(0, len(stories), 97)
    np.testing.assert_allclose(world().log_probability(stories[some]), np.log(p[some]), atol=1e-12)
    broken = stories[some].copy()
    broken[:, 20] = (broken[:, 20] + 1) % world().vocab_size
    assert (world().log_probability(broken) < np.log(p.min()) - 1e-9).all()


@pytest.mark.parametrize("share", [0.3, 0.9, 0.98, 1.0])
def test_posterior_against_brute_force(share):
    tales, rng = world(), np.random.default_rng(3)
    stories, p = everything()
    text = tales.sample(8, rng)
    masked = rng.random(text.shape) < share
    seen = np.where(masked, tales.vocab_size, text).astype(np.int32)
    found = np.exp(tales.log_posterior(Tensor(seen)).numpy())
    for row in range(len(seen)):
        weight = p * ((stories == seen[row]) | masked[row]).all(axis=1)
        weight /= weight.sum()
        truth = [np.bincount(stories[:, i], weights=weight, minlength=tales.vocab_size) for i in range(64)]
        np.testing.assert_allclose(found[row], truth, atol=1e-5)


def test_posterior_of_what_cannot_be_is_uniform():
    tales = world()
    seen = np.full((8, 64), tales.vocab_size, dtype=np.int32)
    seen[:, :9] = 1
    p = np.exp(tales.log_posterior(Tensor(seen)).numpy())
    np.testing.assert_allclose(p[:, 20], 1 / tales.vocab_size, atol=1e-6)


def test_the_oracles_bound_is_the_entropy_of_the_very_stories():
    tales = world()
    tokens = tales.sample(256, np.random.default_rng(0))
    evaluator = MaskedEvaluator("oracle", OracleModel(tales), 32)
    bound = likelihood.masked_likelihood(evaluator, tokens, 16, None)
    difference, error = statistics.disagreement(bound, -tales.log_probability(tokens), np.arange(256))
    assert abs(difference) < 4 * error
    assert error < 0.02 * tales.entropy()


def test_samples_follow_the_law():
    tales = world()
    found, truth = tales.slots(tales.sample(4000, np.random.default_rng(1)))
    assert (found >= 0).all()
    shown, law = tales.shown_joint(found)
    assert law.sum() == pytest.approx(1)
    counts = np.bincount(shown, minlength=len(law))
    chi_square = ((counts - 4000 * law) ** 2 / (4000 * law)).sum()
    assert chi_square < len(law) + 4.5 * np.sqrt(2 * len(law))
    expected = tales.expected_distinct(4000)
    assert abs(len(np.unique(found)) - expected) < 4 * np.sqrt(expected)


def test_splits_read_as_stories():
    texts = TalesCorpus().load(None)
    assert (len(texts.train), len(texts.validation), len(texts.test)) == (20_000, 1_024, 1_024)
    assert all(text.startswith("One day, ") and text.endswith(".") for text in texts.test)
    assert texts.test == TalesCorpus().load(None).test


def test_a_small_world_by_hand():
    small = SlotWorld(
        length=4,
        plots=[Plot(pieces=("a", ("x", 0), ("x", 1))), Plot(pieces=("b", ("x", 0)))],
        plot_law=np.array([0.75, 0.25]),
        slots={"x": [(" 1", " i"), (" 2", " ii")]},
        groups={("x",): np.array([[0.9, 0.1], [0.5, 0.5]])},
        shown=("x",),
    )
    assert small.pieces == (" 1", " 2", " i", " ii", "a", "b")
    mask, end = 7, 6
    seen = np.array([[mask, 0, mask, mask], [mask, mask, mask, end]], dtype=np.int32)
    p = np.exp(small.log_posterior(Tensor(seen)).numpy())
    first = 0.75 * 0.9 / (0.75 * 0.9 + 0.25 * 0.5)
    np.testing.assert_allclose(p[0, 0, [4, 5]], [first, 1 - first], atol=1e-6)
    np.testing.assert_allclose(p[0, 2, [2, 6]], [first, 1 - first], atol=1e-6)
    np.testing.assert_allclose(p[1, 0, [4, 5]], [0.75, 0.25], atol=1e-6)
    assert small.slots(np.array([[4, 0, 2, 6], [5, 1, 6, 6], [4, 0, 3, 6]]))[0].tolist() == [0, 3, -1]
    with pytest.raises(ValueError, match="never shows slot 'x'"):
        SlotWorld(length=2, plots=[Plot(pieces=("a",))], plot_law=np.ones(1), slots={"x": [("b",)]},
                  groups={("x",): np.ones((1, 1))}, shown=("x",))  # fmt: skip


def test_metrics_of_known_texts():
    tokens = np.array([[0, 0, 1, 1], [2, 2, 2, 2]])
    np.testing.assert_allclose(text.token_entropy(tokens, 3), [np.log(2), 0])
    assert text.distinct_2(tokens, 3) == pytest.approx(4 / 6)
    assert text.divergence(np.array([0, 0, -1, 1]), np.array([0.5, 0.5])) == pytest.approx(0.25)
    floor, spread = text.divergence_floor(100, np.full(4, 0.25), 0)
    assert 0.03 < floor < 0.08 and 0.01 < spread < 0.04
    assert text.unigram(tokens, 3).tolist() == pytest.approx([3 / 11, 3 / 11, 5 / 11])


def test_the_floor_of_the_divergence_is_that_of_perfect_samples_by_enumeration():
    law = np.array([0.5, 0.3, 0.2])
    outcomes = np.array(list(itertools.product(range(3), repeat=3)))
    chance = law[outcomes].prod(axis=1)
    found = np.array([text.divergence(outcome, law) for outcome in outcomes])
    mean = chance @ found
    spread = np.sqrt(chance @ (found - mean) ** 2)
    assert text.divergence_floor(3, law, 0, repeats=40_000) == pytest.approx((mean, spread), abs=0.003)


def test_oracle_columns_tell_good_from_bad():
    tales = world()
    good = text.oracle_columns(tales, tales.sample(400, np.random.default_rng(2)), 0, np.arange(400))
    assert good["oracle_valid_rate"] == 1 and abs(good["oracle_distinct_ratio"] - 1) < 0.05
    assert abs(good["oracle_divergence"] - good["oracle_divergence_floor"]) < 0.05
    same = text.oracle_columns(tales, np.repeat(tales.sample(1, np.random.default_rng(2)), 400, axis=0), 0, np.zeros(400))
    assert same["oracle_valid_rate"] == 1 and same["oracle_distinct_ratio"] < 0.01
    assert same["oracle_divergence"] > 0.9

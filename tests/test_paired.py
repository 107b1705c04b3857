"""Pairs of models on the same sequences: differences and ratios with errors that cover the truth."""

import numpy as np
import pytest

from mist_bench import paired
from mist_bench.cells import Cell

LENGTH = 8


def likelihood_cell(family, estimator, kind, needs=(), **labels) -> Cell:
    content = {"family": family, "estimator": estimator, "kind": kind, "needs": list(needs), **labels}
    labels = {"training_seed": 0, **labels, "family": family, "estimator": estimator, "kind": kind}
    return Cell(kind="likelihood", content=content, labels=labels, needs=tuple(needs))


def recorded(*pairs):
    """Cells with their values -> the cells, and their records by hash."""
    return [cell for cell, _ in pairs], {cell.hash: {"per_sequence": list(values)} for cell, values in pairs}


def test_a_chain_rule_is_compared_with_its_own_bound_on_its_own_sequences():
    chain = likelihood_cell("mdlm", "chain-rule", "chain-rule", ["a"])
    cells, records = recorded(
        (likelihood_cell("mdlm", "exact-k", "bound", ["b"]), [50.0] * 4),
        (likelihood_cell("mdlm", "weighted", "bound", ["a"]), [40.0] * 4),
        (likelihood_cell("mdlm", "exact-k", "bound", ["a"]), [10.0, 12.0, 14.0, 99.0]),
        (chain, [9.0, 10.0, 11.0]),
    )
    found = paired.columns(cells, records, np.arange(4), LENGTH)
    assert [key for key, more in found.items() if more] == [chain.hash]
    assert found[chain.hash]["bound_minus_chain_rule"] == pytest.approx(2 / LENGTH)
    assert found[chain.hash]["bound_minus_chain_rule_se"] == pytest.approx(1 / np.sqrt(3) / LENGTH)


def test_the_ratio_is_to_the_baseline_of_the_same_seed_on_the_same_sequences():
    mdlm = likelihood_cell("mdlm", "exact-k", "bound", ["a"], training_seed=1)
    chain = likelihood_cell("mdlm", "chain-rule", "chain-rule", ["a"], training_seed=1)
    alone = likelihood_cell("mdlm", "exact-k", "bound", ["b"], training_seed=2)
    mine, first = np.array([12.0, 8.0, 15.0, 11.0]), np.array([10.0, 8.0, 12.0, 9.0])
    cells, records = recorded(
        (likelihood_cell("autoregressive", "chain-rule", "exact", ["c"], training_seed=0), [1.0] * 4),
        (likelihood_cell("unigram", "chain-rule", "exact"), [99.0] * 4),
        (likelihood_cell("autoregressive", "chain-rule", "exact", ["d"], training_seed=1), first),
        (mdlm, mine), (chain, mine[:2]), (alone, mine),
        (likelihood_cell("oracle", "exact-k", "bound", control="oracle"), mine),
    )  # fmt: skip
    found = paired.columns(cells, records, np.arange(4), LENGTH)
    assert {key for key, more in found.items() if "ratio_to_ar" in more} == {mdlm.hash, chain.hash}
    assert found[mdlm.hash]["ratio_to_ar"] == pytest.approx(46 / 39)
    assert found[chain.hash]["ratio_to_ar"] == pytest.approx(20 / 18)
    # the delta method: the gradient of a quotient of means, by the covariance of the two
    gradient = np.array([1 / first.mean(), -mine.mean() / first.mean() ** 2])
    expected = np.sqrt(gradient @ np.cov(mine, first) @ gradient / 4)
    assert found[mdlm.hash]["ratio_to_ar_se"] == pytest.approx(expected)


def test_the_error_of_the_ratio_is_that_of_repeated_test_splits():
    """Sequences share their difficulty: the paired error is right, and that of independent errors far too wide."""
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(60), 3)

    def split():
        difficulty = np.repeat(rng.gamma(20, 0.5, size=60), 3)
        exact = difficulty + rng.gamma(4, 0.25, size=180)
        return 1.1 * exact + rng.normal(0, 0.3, size=180), exact

    found = [paired.ratio_of_nats(*split(), clusters) for _ in range(600)]
    quotients, errors = np.array(found).T
    assert abs(quotients.std() / errors.mean() - 1) < 0.1
    assert abs(quotients.mean() - 1.1) < 4 * quotients.std() / np.sqrt(600)

"""Variances of the estimators: integrals against simulations of the estimators, on an enumerable world."""

import numpy as np
import pytest
from mist_bench_plugins.schedule_cosine import CosineSchedule
from mist_bench_plugins.schedule_linear import LinearSchedule
from mist_bench_plugins.schedule_polynomial import PolynomialSchedule

from harness.brute_force import MASKS, TEXTS, L, bound, lookup, masked, table
from mist_bench.measure import likelihood
from mist_bench.pages import variance

REPEATS = 3000
SIZES = MASKS.sum(axis=1)


def truth() -> variance.Curves:
    """The curves by enumeration: all masks of each size."""
    groups = [table()[:, k == SIZES] for k in range(1, L + 1)]
    means = np.stack([g.mean(axis=1) for g in groups], axis=1)
    return variance.Curves(means=(means, means), variance=np.stack([g.var(axis=1) for g in groups], axis=1))


def simulated(estimator, draws: int) -> np.ndarray:
    """(81, REPEATS) means over the draws of the estimator itself."""
    tokens, numbers = np.repeat(TEXTS, REPEATS, axis=0), np.arange(len(TEXTS) * REPEATS)
    total = sum(estimator(lookup(table()), tokens, numbers, draw, draws) for draw in range(draws)) / draws
    return total.reshape(len(TEXTS), REPEATS)


def assert_same_variance(found, values):
    """Mean over the texts; the error is that of the squared deviations."""
    squares = (values - values.mean(axis=1, keepdims=True)) ** 2 * REPEATS / (REPEATS - 1)
    error = np.sqrt((squares.var(axis=1, ddof=1) / REPEATS).sum()) / len(TEXTS)
    assert abs(found.mean() - squares.mean()) < 4 * error
    assert error < 0.03 * squares.mean(), "an assertion that could not fail"


@pytest.mark.parametrize("draws", [1, 2, 4, 3])
def test_exact_k(draws):
    assert_same_variance(variance.exact_k_variance(truth(), draws), simulated(likelihood.exact_k, draws))


@pytest.mark.parametrize("schedule", [LinearSchedule(), CosineSchedule(), PolynomialSchedule()], ids=lambda s: s.spec)
@pytest.mark.parametrize("draws", [1, 3])
def test_weighted(schedule, draws, monkeypatch):
    monkeypatch.setattr(likelihood, "SMALLEST_MASK", 0.05)

    def estimator(answer, *rest):
        return likelihood.weighted(answer, schedule, *rest)

    assert_same_variance(variance.weighted_variance(truth(), schedule, draws, 0.05), simulated(estimator, draws))


@pytest.mark.parametrize("schedule", [LinearSchedule(), CosineSchedule()], ids=lambda s: s.spec)
def test_what_the_truncation_leaves_is_the_bound(schedule):
    np.testing.assert_allclose(variance.weighted_mean(truth(), schedule, 1e-9), bound(table()), rtol=0, atol=1e-5)
    assert (variance.weighted_mean(truth(), schedule, 0.05) < bound(table()) - 1e-2).all()


def test_the_variance_under_linear_grows_with_the_logarithm_of_the_truncation():
    found = [variance.weighted_variance(truth(), LinearSchedule(), 1, 10.0**-n).mean() for n in (3, 4, 5, 6)]
    slopes = np.diff(found)
    np.testing.assert_allclose(slopes, slopes[-1], rtol=0.02)
    one_masked = (truth().means[0][:, 0] ** 2 + truth().variance[:, 0]).mean()
    assert slopes[-1] == pytest.approx(L * one_masked * np.log(10), rel=1e-3)


def test_measured_curves_are_the_enumerated_ones():
    evaluator, _ = masked()
    chosen = np.arange(0, 81, 8)
    found, right = variance.measure_curves(evaluator, TEXTS[chosen], 200), truth()
    for half in found.means:
        error = np.sqrt(right.variance[chosen] / 100)
        assert (np.abs(half - right.means[0][chosen]) < 4.5 * error + 1e-5).all()
    np.testing.assert_allclose(found.variance.mean(axis=0), right.variance[chosen].mean(axis=0), rtol=0.15, atol=1e-9)
    assert not np.array_equal(found.means[0][:, 0], found.means[1][:, 0]), "independent halves"


def test_the_tables_can_be_read():
    text = variance.tables(truth(), [LinearSchedule(), CosineSchedule()], 4, np.arange(5.0))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 3 + 2 + 4 and "| exact-k | - |" in text and "nan" not in text

"""Wilson's interval: its equation, and how often it covers the truth, by enumeration of the binomial; Student's; and
what has no error: one unit, and digits that sums round."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mist_bench.measure import statistics
from mist_bench.measure.statistics import Z, combined, interval, standard_error, wilson
from mist_bench.measure.text import clusters_of_samples
from mist_bench.report import pooling
from mist_bench.report.pooling import valid_interval


@pytest.mark.parametrize("count", [1, 7, 96, 512, 10_000])
def test_both_ends_are_where_the_rate_is_as_far_as_their_own_error_reaches(count):
    for seen in {0, 1, count // 3, count - 1, count}:
        rate = seen / count
        low, high = wilson(rate, count)
        assert 0 <= low <= rate <= high <= 1 and low < high
        for end in (low, high):
            if 0 < end < 1:
                assert abs(rate - end) == pytest.approx(Z * math.sqrt(end * (1 - end) / count))
        assert wilson(1 - rate, count) == pytest.approx((1 - high, 1 - low))


def test_published_values():
    assert wilson(0, 96) == pytest.approx((0, 0.03847), abs=1e-5)
    assert wilson(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)  # Newcombe 1998, table I
    assert wilson(1, 64) == pytest.approx((64 / (64 + Z**2), 1))


def coverage(interval, count):
    """How often the interval covers p, exactly, for many p in (0, 1)."""
    p = (np.arange(2000) + 0.5) / 2000
    seen = np.arange(count + 1)
    ways = np.array([math.comb(count, k) for k in seen], dtype=float)
    law = ways * p[:, None] ** seen * (1 - p[:, None]) ** (count - seen)
    ends = np.array([interval(k / count, count) for k in seen])
    return (law * ((ends[:, 0] <= p[:, None]) & (p[:, None] <= ends[:, 1]))).sum(axis=1)


def wald(rate, count):
    return statistics.interval(rate, math.sqrt(rate * (1 - rate) / max(1, count - 1)), count)


@pytest.mark.parametrize("count", [5, 10, 20, 48, 96])
def test_coverage_is_near_95_per_cent_where_that_of_the_standard_error_is_not(count):
    ours = coverage(wilson, count)
    assert abs(ours.mean() - 0.95) < 0.01 and ours.min() > 0.82
    assert coverage(wald, count).min() < 0.05, "near 0 and 1 it has no width"


def test_a_row_counts_the_units_of_its_sampling_seeds_and_one_text_many_times_is_one():
    table = [{"training_seed": t, "seed": s, "samples": 96, "clusters": 96, "oracle_valid_rate": 0.0}
             for t in (0, 1) for s in (0, 1, 2)]  # fmt: skip
    (pooled,) = pooling.over_seeds(table, (), ("oracle_valid_rate",))
    assert pooled["pooled_clusters"] == 288 and pooled["samples"] == 96
    assert valid_interval(pooled) == wilson(0, 288)
    assert valid_interval(table[0]) == wilson(0, 96)
    (same,) = pooling.over_seeds([{**row, "clusters": 1} for row in table], (), ("oracle_valid_rate",))
    assert same["pooled_clusters"] == 1 and valid_interval(same) is None
    assert valid_interval({"clusters": 96}) is None and valid_interval({"oracle_valid_rate": 0.5}) is None


# ---- Student's intervals


@pytest.mark.parametrize(("units", "wide"), [(2, 12.7062), (3, 4.30265), (24, 2.06866), (29, 2.04841), (None, Z)])
def test_an_interval_is_students_where_units_are_few(units, wide):
    low, high = statistics.interval(5.0, 0.5, units)
    assert (low, high) == (pytest.approx(5 - wide / 2, abs=1e-5), pytest.approx(5 + wide / 2, abs=1e-5))


def test_one_unit_has_no_interval():
    assert statistics.interval(5.0, 0.5, 1) is None
    assert statistics.interval(5.0, None, 30) is None and statistics.interval(5.0, math.nan, 30) is None
    assert statistics.mean_and_error(np.array([1.0, 2.0]), np.zeros(2)) == (1.5, None)
    assert statistics.perplexity_columns(0.0, math.nan, 1) == {
        "perplexity": 1.0, "perplexity_low": None, "perplexity_high": None}  # fmt: skip


def test_what_sums_round_is_no_error():
    same = np.tile([0.1, np.nextafter(0.1, 1)], 5)
    assert 0 < same.std(ddof=1) < 1e-15
    assert statistics.mean_and_error(same, np.arange(10))[1] == 0.0
    assert statistics.standard_error([0.07 + 1e-17, 0.1 - 0.03, 0.07]) == 0.0
    small = 5.0 + 1e-9 * np.arange(4.0)
    assert statistics.mean_and_error(small, np.arange(4))[1] == pytest.approx(small.std(ddof=1) / 2)


def test_samples_that_are_one_text_are_one_unit():
    tokens = np.array([[1, 2], [1, 2], [1, 3]])
    assert clusters_of_samples(tokens).tolist() == [0, 1, 2]
    assert clusters_of_samples(tokens, np.array([4, 4, 7])).tolist() == [4, 4, 7]
    assert clusters_of_samples(tokens[:2]).tolist() == [0, 0]
    assert clusters_of_samples(tokens[:2], np.array([4, 7])).tolist() == [0, 0]


def test_two_sources_of_error_are_added_as_squares():
    assert combined(0.3, 20, None, 1) == (0.3, pytest.approx(20))
    assert combined(None, 1, 0.4, 3) == (0.4, pytest.approx(3))
    assert combined(0.3, None, 0.4, 3)[0] == pytest.approx(0.5)
    assert combined(0.2, 11, 0.2, 11) == (pytest.approx(0.2 * 2**0.5), pytest.approx(21)), "twice the degrees of freedom"
    assert combined(0.0, 5, 0.0, 3) == (0.0, math.inf), "nothing varies"
    assert combined(None, 1, None, 1) == (None, 1)


def test_the_interval_of_both_errors_covers_as_it_says():
    """Four networks measured on the same thirty sequences: the mean over networks and texts, 4000 times."""
    rng, covered, seeds, sequences = np.random.default_rng(0), 0, 4, 30
    for _ in range(4000):
        networks, texts = rng.normal(0, 0.5, seeds), rng.normal(0, 2.0, sequences)
        measured = networks[:, None] + texts + rng.normal(0, 0.3, (seeds, sequences))
        error = texts.std(ddof=1) / sequences**0.5
        ends = interval(measured.mean(), *combined(error, sequences, standard_error(measured.mean(axis=1).tolist()), seeds))
        covered += ends[0] <= 0 <= ends[1]
    assert 0.94 < covered / 4000 < 0.97

"""Draws for a wanted standard error: on simulated sequences whose two variances are known."""

import math

import numpy as np
import pytest

from mist_bench.measure import likelihood, statistics, target_error

LENGTH, N = 10, 400
SEQUENCES, MASKS = 3.0, 8.0  # standard deviations in nats: between sequences, and of a block within one


def block_of(seed: int, sequences=SEQUENCES, masks=MASKS, n=N):
    """Blocks that depend on their number alone, as real ones do."""
    means = 50 + np.random.default_rng((seed, 999)).normal(0, sequences, size=n)
    return lambda number, blocks: means + np.random.default_rng((seed, number)).normal(0, masks, size=n)


def exact_error(blocks: float, sequences=SEQUENCES, masks=MASKS, n=N) -> float:
    return math.sqrt((sequences**2 + masks**2 / blocks) / n) / LENGTH


def test_the_pilot_tells_the_two_variances_apart_without_bias():
    pilots = [target_error.pilot(*(block_of(s)(b, 2) for b in (0, 1)), 0.02, LENGTH, np.arange(N)) for s in range(400)]
    needed = MASKS**2 / ((0.02 * LENGTH) ** 2 * N - SEQUENCES**2)
    assert np.median([p.needed for p in pilots]) == pytest.approx(needed, rel=0.1)
    limits = np.array([p.limit for p in pilots]) ** 2
    assert abs(limits.mean() - exact_error(math.inf) ** 2) < 4 * limits.std() / np.sqrt(400)


def test_the_target_is_met():
    errors = []
    for seed in range(60):
        values, pilot = target_error.mean_of_blocks(block_of(seed), 0.025, LENGTH, np.arange(N))
        assert 2 < pilot.blocks < target_error.LARGEST_MULTIPLE
        errors.append(likelihood.estimate(values, LENGTH, np.full(N, LENGTH), np.arange(N)).nats_per_token_se)
    assert np.mean(errors) < 0.025 * 1.03
    assert np.mean(errors) > exact_error(2 * target_error.LARGEST_MULTIPLE), "and not by drawing all there are"


def test_few_draws_are_enough_for_a_wide_target_and_the_same_call_gives_the_same():
    values, pilot = target_error.mean_of_blocks(block_of(0), 1.0, LENGTH, np.arange(N))
    np.testing.assert_array_equal(values, (block_of(0)(0, 2) + block_of(0)(1, 2)) / 2)
    again, same = target_error.mean_of_blocks(block_of(0), 1.0, LENGTH, np.arange(N))
    np.testing.assert_array_equal(values, again)
    assert pilot == same and pilot.blocks == 2


def test_where_the_sequences_limit_it_drawing_stops_near_what_they_leave():
    target = 0.9 * exact_error(math.inf)
    values, pilot = target_error.mean_of_blocks(block_of(0, masks=3.0), target, LENGTH, np.arange(N))
    assert pilot.needed == math.inf and pilot.limit > target
    error = statistics.ratio(values, np.full(N, 10.0), np.arange(N))[1]
    assert pilot.limit <= error < 1.06 * pilot.limit and pilot.blocks < target_error.LARGEST_MULTIPLE
    line = target_error.shortfall("mdlm", target, error, pilot.limit, 80, 160, N)
    assert "its 400 sequences alone leave" in line and "likelihood.sequences" in line


def test_the_most_is_the_most_and_is_said():
    _, pilot = target_error.mean_of_blocks(block_of(0, masks=40.0), 0.02, LENGTH, np.arange(N))
    assert pilot.blocks == target_error.LARGEST_MULTIPLE < pilot.needed < math.inf
    line = target_error.shortfall("mdlm", 0.02, 0.05, pilot.limit, 160, 160, N)
    assert "the most (16 times likelihood.mask_draws)" in line
    assert target_error.shortfall("mdlm", 0.02, 0.0201, 0.015, 80, 160, N) == "", "missed by luck alone"
    assert target_error.shortfall("mdlm", 0.02, 0.019, 0.015, 160, 160, N) == ""


def test_chapters_are_the_units():
    clusters = np.repeat(np.arange(40), 10)
    chapter = np.random.default_rng(5).normal(0, 4.0, size=40)[clusters]
    made = [block_of(0)(b, 2) + chapter for b in (0, 1)]
    by_chapter = target_error.pilot(*made, 0.02, LENGTH, clusters)
    alone = target_error.pilot(*made, 0.02, LENGTH, np.arange(N))
    assert by_chapter.limit > 1.5 * alone.limit


def test_one_cluster_has_no_error_and_the_report_says_so():
    """One sequence, or any number of one unit: drawing ends, and a line says what is missing."""
    for n in (1, 4):
        values, pilot = target_error.mean_of_blocks(block_of(0, n=n), 0.05, LENGTH, np.zeros(n, dtype=int))
        assert pilot.blocks == 2 and math.isnan(pilot.limit) and len(values) == n
        line = target_error.shortfall("mdlm", 0.05, None, None, 20, 160, n)
        assert "no standard error" in line and "likelihood.sequences" in line

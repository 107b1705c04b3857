"""Pairs of models on the same sequences: differences and ratios with errors that cover the truth."""

import numpy as np
import pytest

from mist_bench.measure import statistics
from mist_bench.report import pairs
from mist_bench.run.cells import Entry
from mist_bench.run.store import content_hash

LENGTH = 8


def likelihood_cell(family, estimator, kind, model=(), **labels) -> Entry:
    labels = {"training_seed": 0, **labels, "family": family, "estimator": estimator, "kind": kind}
    facts = {"model": list(model), "one_bound": True}
    return Entry(hash=content_hash({**labels, **facts}), kind="likelihood", title=family, labels=labels, facts=facts)


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
    found = pairs.columns(cells, records, np.arange(4), LENGTH)
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
    found = pairs.columns(cells, records, np.arange(4), LENGTH)
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

    found = [pairs.ratio_of_nats(*split(), clusters) for _ in range(600)]
    quotients, errors = np.array(found).T
    assert abs(quotients.std() / errors.mean() - 1) < 0.1
    assert abs(quotients.mean() - 1.1) < 4 * quotients.std() / np.sqrt(600)


# ---- comparisons


def paired_models(rng, chapters: int, difference: float, spread: float = 0.4):
    """Nats of two models on the same text: shared difficulty, a difference that varies by chapter, mask noise."""
    clusters = np.repeat(np.arange(chapters), rng.integers(2, 7, size=chapters))
    shared = rng.gamma(9, 1.0, size=len(clusters)) + rng.normal(0, 2.0, size=chapters)[clusters]
    apart = LENGTH * difference + rng.normal(0, spread, size=chapters)[clusters]
    noise = rng.normal(0, 0.5, size=(2, len(clusters)))
    return shared + apart + noise[0], shared + noise[1], clusters


@pytest.mark.parametrize("chapters", [12, 150])
def test_the_interval_of_a_difference_covers_it_19_times_of_20(chapters):
    rng = np.random.default_rng(chapters)
    times, inside, found = 1500, 0, 0
    for _ in range(times):
        a, b, clusters = paired_models(rng, chapters, 0.02)
        row = pairs.of_networks(a, b, clusters, LENGTH)
        inside += row["difference_low"] <= 0.02 <= row["difference_high"]
        a, b, clusters = paired_models(rng, chapters, 0.0)
        found += pairs.of_networks(a, b, clusters, LENGTH)["p_value"] < 0.05
    # 4 standard errors of a share of 0.95 in 1500 are 0.0225
    assert abs(inside / times - 0.95) < 0.0225
    assert abs(found / times - 0.05) < 0.0225


def test_without_clusters_or_pairs_the_interval_would_be_wrong():
    rng = np.random.default_rng(3)
    alone, unpaired, errors = 0, [], []
    for _ in range(400):
        a, b, clusters = paired_models(rng, 60, 0.02, spread=1.0)
        row = pairs.of_networks(a, b, np.arange(len(a)), LENGTH)
        alone += row["difference_low"] <= 0.02 <= row["difference_high"]
        unpaired.append(np.hypot(*[pairs.difference(x, 0 * x, clusters, LENGTH)[1] for x in (a, b)]))
        errors.append(pairs.difference(a, b, clusters, LENGTH)[1])
    assert alone / 400 < 0.85, "the members of a chapter are not independent"
    assert np.mean(unpaired) > 2 * np.mean(errors), "the pairing is worth something"


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_the_p_value_over_training_seeds_is_right_for_few(seeds):
    rng = np.random.default_rng(seeds)
    found = [pairs.of_seeds(list(rng.normal(size=seeds)))["seed_p_value"] < 0.05 for _ in range(1500)]
    assert abs(np.mean(found) - 0.05) < 0.0225


def test_rows_are_pairs_of_one_kind_at_each_seed_and_over_all():
    rng = np.random.default_rng(0)

    def cell(schedule, seed, estimator="exact-k", kind="bound", **more):
        return likelihood_cell("mdlm", estimator, kind, [f"{schedule}{seed}"], schedule=schedule, training_seed=seed, **more)

    given = [(cell(schedule, seed), rng.normal(size=6)) for schedule in ("linear", "cosine") for seed in (0, 1)]
    given += [(cell("linear", 2), rng.normal(size=6)), (cell("linear", 0, "chain-rule", "chain-rule"), rng.normal(size=2)),
              (cell("linear", 0, "weighted", evaluation_schedule="linear"), rng.normal(size=6)),
              (likelihood_cell("autoregressive", "chain-rule", "exact", ["x"]), rng.normal(size=6)),
              (likelihood_cell("oracle", "exact-k", "bound", control="oracle"), rng.normal(size=6))]  # fmt: skip
    rows = pairs.compare(*recorded(*given), np.arange(6), LENGTH)
    assert [(r["schedule_a"], r["schedule_b"], r["training_seed"], r["training_seeds"]) for r in rows] == [
        ("linear", "cosine", 0, 1), ("linear", "cosine", 1, 1), ("linear", "cosine", None, 2)]  # fmt: skip
    each = [row["difference"] for row in rows]
    assert each[2] == pytest.approx(np.mean(each[:2]))
    assert rows[2]["difference_seed_se"] == pytest.approx(abs(each[0] - each[1]) / 2)
    assert rows[0]["difference"] == pytest.approx((given[0][1] - given[2][1]).mean() / LENGTH)


def test_one_cluster_has_no_interval():
    row = pairs.of_networks(np.arange(3.0), np.zeros(3), np.zeros(3, dtype=int), LENGTH)
    assert np.isnan(row["difference_se"]) and "p_value" not in row and row["clusters"] == 1
    assert "p_value" not in pairs.of_networks(np.ones(3), np.zeros(3), np.arange(3), LENGTH)


@pytest.mark.parametrize(
    ("freedom", "wide"), [(1, 12.7062), (2, 4.30265), (10, 2.22814), (23, 2.06866), (60, 2.00030), (10**6, 1.95997)]
)
def test_students_t_is_that_of_the_tables(freedom, wide):
    assert statistics.quantile(freedom) == pytest.approx(wide, abs=1e-5)
    assert statistics.two_sided(wide, freedom) == pytest.approx(0.05, abs=1e-5)
    assert statistics.two_sided(0.0, freedom) == 1.0
    angle = 1 - 2 / np.pi * np.arctan(3.0)
    assert statistics.two_sided(3.0, 1) == pytest.approx(angle, rel=1e-12)
    assert 0 < statistics.two_sided(40.0, 1000) < 1e-100


def test_the_differences_of_sequences_are_those_of_the_comparison():
    rng = np.random.default_rng(5)
    given = [(likelihood_cell("mdlm", "exact-k", "bound", [f"{schedule}{seed}"], schedule=schedule, training_seed=seed),
              rng.normal(size=6)) for schedule in ("linear", "cosine") for seed in (0, 1)]  # fmt: skip
    given += [(likelihood_cell("mdlm", "weighted", "bound", [f"{schedule}0"], schedule=schedule), rng.normal(size=6))
              for schedule in ("linear", "cosine")]  # fmt: skip
    rows = pairs.by_sequence(*recorded(*given), LENGTH)
    assert {(row["pair"], row["kind"]) for row in rows} == {("mdlm linear − mdlm cosine", "bound")}
    (mean,) = [row["difference"] for row in pairs.compare(*recorded(*given), np.arange(6), LENGTH)
               if row["training_seed"] is None and row["estimator"] == "exact-k"]  # fmt: skip
    assert len(rows) == 6 and np.mean([row["difference"] for row in rows]) == pytest.approx(mean)
    assert rows[0]["difference"] == pytest.approx((given[0][1] + given[1][1] - given[2][1] - given[3][1])[0] / 2 / LENGTH)


def test_untrained_families_are_not_each_others_network():
    cells, records = recorded(
        (likelihood_cell("oracle", "exact-k", "bound", control="oracle"), [5.0] * 4),
        (likelihood_cell("uniform", "chain-rule", "chain-rule", control="uniform"), [9.0] * 4),
    )
    assert not any(pairs.columns(cells, records, np.arange(4), LENGTH).values())

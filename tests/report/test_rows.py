"""Rows from records: the clusters that their errors are over, and what is said where there is one, or few."""

from types import SimpleNamespace

import numpy as np
import pytest

from harness import synthetic_rows
from mist_bench.data.dataset import Split
from mist_bench.measure import statistics
from mist_bench.report import pooling, tables
from mist_bench.report.plot_entropy import _bar
from mist_bench.report.plots import _points
from mist_bench.report.rows import Finished, disagreements, shortfalls
from mist_bench.run.cells import Entry
from mist_bench.run.kinds.generation import CLUSTER_OF, GenerationCell, stored_clusters
from mist_bench.run.kinds.likelihood import likelihood_record
from mist_bench.run.kinds.metric import _with_errors
from mist_bench.run.store import Store, plain

COUNT, LENGTH = 48, 8


def packed() -> Split:
    """Sequences of documents of four, each from the middle of one to the middle of another."""
    numbers = np.arange(COUNT)
    main = numbers // 4
    documents = np.stack([np.maximum(main - (numbers % 4 == 0), 0), main, main], axis=1)
    return Split(tokens=numbers[:, None], documents=documents, places=numbers, text_bytes=np.full(COUNT, 20))


BENCH = SimpleNamespace(dataset=SimpleNamespace(test=packed(), length=LENGTH))


def test_a_likelihood_is_over_the_clusters_of_its_sequences():
    nats = np.random.default_rng(0).normal(20, 1, size=COUNT) + np.repeat(np.arange(COUNT // 4) % 3, 4)
    record = likelihood_record(BENCH, nats)
    assert record["sequences"] == COUNT and record["clusters"] == 6  # of two documents: at least 7 sequences
    means = nats.reshape(6, 8).mean(axis=1)
    error = means.std(ddof=1) / np.sqrt(6) / LENGTH
    assert record["nats_per_token_se"] == pytest.approx(error)
    assert record["bits_per_byte_se"] == pytest.approx(error * LENGTH / 20 / np.log(2))
    wide = statistics.quantile(5) * error
    assert np.log(record["perplexity_high"]) - record["nats_per_token"] == pytest.approx(wide)


def test_one_sequence_has_a_likelihood_without_an_error():
    record = plain(likelihood_record(BENCH, np.array([20.0])))
    assert record["clusters"] == 1 and record["nats_per_token"] == 2.5 and record["perplexity"] is not None
    assert {record[name] for name in ("nats_per_token_se", "bits_per_byte_se", "perplexity_low", "perplexity_high")} == {None}


def test_samples_that_share_a_prompt_share_its_cluster():
    cell = SimpleNamespace(experiment=SimpleNamespace(config=SimpleNamespace(generation=SimpleNamespace(prompt=2))))
    found = GenerationCell._prompt_clusters(cell, BENCH, 2 * COUNT)
    assert found.tolist() == packed().clusters(COUNT).tolist() * 2
    assert GenerationCell._prompt_clusters(cell, BENCH, 5).tolist() == packed().clusters(5).tolist()
    cell.experiment.config.generation.prompt = 0
    assert GenerationCell._prompt_clusters(cell, BENCH, 5) is None


def test_a_judge_takes_the_clusters_that_the_generation_stored(tmp_path):
    bench = SimpleNamespace(store=Store(tmp_path))
    bench.store.write("a" * 16, {CLUSTER_OF: [0, 0, 1]})
    bench.store.write("b" * 16, {})
    assert stored_clusters(bench, "a" * 16, 3).tolist() == [0, 0, 1]
    assert stored_clusters(bench, "b" * 16, 3).tolist() == [0, 1, 2]


# ---- what a report says


def finished(**records) -> Finished:
    """The likelihoods of one network by estimator, each with its record; the corpus has two clusters."""
    facts = {"model": ["m"], "one_bound": True, "corpus": "c", "target_se": 0.05, "draws": 4}
    entries = [Entry(hash=name, kind="likelihood", title=name, facts=facts,
                     labels={"estimator": name.replace("_", "-")}) for name in records]  # fmt: skip
    return Finished(entries=tuple(entries), records={**records, "c": {"clusters": [0, 0, 1, 1]}})


def test_a_target_for_one_sequence_ends_in_a_line():
    record = {"nats_per_token_se": None, "nats_per_token_se_limit": None, "mask_draws": 8, "sequences": 1}
    (line,) = shortfalls(finished(exact_k=record))
    assert "exact_k has no standard error: its 1 sequence is one independent unit" in line
    assert shortfalls(finished(exact_k={**record, "nats_per_token_se": 0.04, "nats_per_token_se_limit": 0.03})) == []


def test_two_clusters_are_not_enough_for_estimators_to_disagree():
    exact = {"per_sequence": [10.0] * 4}
    by_two = {"per_sequence": [11.0, 11.0, 12.0, 12.0]}  # three errors of its two clusters
    assert disagreements(finished(exact_k=exact, weighted=by_two)) == []
    (line,) = disagreements(finished(exact_k=exact, weighted={"per_sequence": [11.0, 11.0, 11.001, 11.001]}))
    assert "estimators disagree" in line
    one = Finished(entries=finished(exact_k=exact, weighted=exact).entries,
                   records={"exact_k": exact, "weighted": by_two, "c": {"clusters": [0] * 4}})  # fmt: skip
    assert disagreements(one) == []


def test_a_table_of_one_sequence_says_why_it_has_no_errors():
    none = {name: None for name in ("nats_per_token_se", "bits_per_byte_se", "nats_per_sequence_se", "ratio_to_ar_se", "ratio_to_truth_se")}
    rows = [{**row, **none, "sequences": 1, "clusters": 1, "training_seed": 0} for row in synthetic_rows.likelihood()[:1]]
    (table,) = tables.perplexity_tables([], rows)
    assert any("one independent unit" in note for note in table.notes)
    assert not any(sign in cell for row in table.rows for cell in row for sign in "±[")


def test_few_clusters_widen_what_is_shown():
    row = synthetic_rows.likelihood()[0]
    wide, narrow = (tables._perplexity({**row, "clusters": n}) for n in (4, 512))
    assert wide != narrow and wide.split()[0] == narrow.split()[0]
    prose = {**synthetic_rows.generation()[0], "oracle_valid_rate": None, "clusters": 4}
    (point,), _ = _points([prose])
    assert point.high - point.quality == pytest.approx(statistics.quantile(3) * 0.0091)
    assert _bar(prose, "token_entropy") == pytest.approx(statistics.quantile(3) * 0.01)
    assert _bar({**prose, "token_entropy_se": None}, "token_entropy") == 0.0


def test_sampling_seeds_that_continue_the_same_prompts_are_not_independent():
    rows = [{"family": "mdlm", "training_seed": 0, "seed": seed, "clusters": 40, "x": 1.0, "x_se": 0.2} for seed in (0, 1)]
    (free,) = pooling.over_seeds(rows, ("family",), ("x",))
    (given,) = pooling.over_seeds([{**row, "prompt": 3} for row in rows], ("family",), ("x",))
    assert (free["x_se"], pooling.units_of(free)) == (pytest.approx(0.2 / np.sqrt(2)), 80)
    assert (given["x_se"], pooling.units_of(given)) == (pytest.approx(0.2), 40)


def test_speeds_of_sampling_seeds_are_independent_and_their_ratios_have_the_baseline_in_common():
    rows = [{"family": "a", "training_seed": 0, "seed": seed, "prompt": prompt, "tokens_per_second": 10.0, "speed_ratio_to_ar": 2.0,
             "tokens_per_second_se": 0.4, "speed_ratio_to_ar_se": 0.4} for seed in range(4) for prompt in (None, 3)]  # fmt: skip
    for pooled in pooling.over_seeds(rows, ("family", "prompt"), ("tokens_per_second", "speed_ratio_to_ar")):
        assert pooled["tokens_per_second_se"] == pytest.approx(0.2), pooled["prompt"]
        assert pooled["speed_ratio_to_ar_se"] == pytest.approx(0.4), pooled["prompt"]


def test_a_metrics_errors_are_not_rounding():
    columns = {"x": 3.0, "x_se": 4e-17, "y": 2.0, "y_se": 0.5, "lone_se": 1e-20}
    assert _with_errors(columns, one_text=False) == {**columns, "x_se": 0.0}
    assert _with_errors(columns, one_text=True) == {**columns, "x_se": None, "y_se": None}


def test_one_text_at_several_sampling_seeds_is_one_text():
    rows = [{**row, "temperature": 0.0, "seed": seed, "clusters": 1, "oracle_valid_rate": 1.0, "oracle_valid_rate_se": None,
             "judge_nats_per_token_se": None, "oracle_divergence_floor_se": None, "timed_rounds": 1, "speed_ratio_to_ar_se": None} for row in synthetic_rows.generation()[:1] for seed in (0, 1)]  # fmt: skip
    (pooled,) = pooling.over_seeds(rows, ("family",), ("oracle_valid_rate", "judge_nats_per_token"))
    assert pooling.units_of(pooled) == 1 and pooled["judge_nats_per_token_se"] is None
    (table,) = tables.throughput_tables(rows)
    assert any("all samples are the same text" in note for note in table.notes)
    assert not any(sign in cell for row in table.rows for cell in row for sign in "±[")

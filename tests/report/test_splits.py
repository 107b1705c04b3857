"""What the splits share: the likelihood of unseen sequences, the lines of a run, and both from records alone."""

from __future__ import annotations

import numpy as np
import pytest

from harness import synthetic_rows
from mist_bench.report import splits, tables
from mist_bench.report.rows import Finished, about_splits, read_rows
from mist_bench.run.cells import Entry

LENGTH = 8
FACTS = {
    "train": {"sequences": 90, "left_out": 0.001},
    "validation": {"sequences": 6, "left_out": 0.0, "same": 0, "shifted": 0},
    "test": {"sequences": 5, "left_out": 0.0, "same": 2, "shifted": 1},
}


def test_unseen_sequences_have_nats_of_their_own_with_their_own_error():
    rng = np.random.default_rng(0)
    nats, truth, in_train = rng.normal(10, 1, 300), rng.normal(8, 1, 300), rng.integers(3, size=300)
    own, its = nats[in_train == 0], truth[in_train == 0]
    found = splits.unseen(nats, in_train == 0, truth, np.arange(300), LENGTH)
    assert found["unseen_sequences"] == len(own)
    assert found["unseen_nats_per_token"] == pytest.approx(own.mean() / LENGTH)
    assert found["unseen_nats_per_token_se"] == pytest.approx(own.std(ddof=1) / np.sqrt(len(own)) / LENGTH)
    assert found["unseen_ratio_to_truth"] == pytest.approx(own.sum() / its.sum())
    residual = own - found["unseen_ratio_to_truth"] * its
    expected = np.sqrt((residual**2).sum() * len(own) / (len(own) - 1)) / its.sum()
    assert found["unseen_ratio_to_truth_se"] == pytest.approx(expected)


def test_fewer_sequences_are_the_first_ones():
    """A chain rule has fewer: where they occur, their truth and their clusters are those of the first."""
    found = splits.unseen(np.array([3.0, 5.0]), np.array([False, True, True]), np.array([1.0, 4.0, 9.0]), np.arange(3), LENGTH)
    assert (found["unseen_sequences"], found["unseen_nats_per_token"]) == (1, 5 / LENGTH)
    assert found["unseen_ratio_to_truth"] == 5 / 4


def test_nats_are_held_against_the_truth_pair_by_pair():
    rng = np.random.default_rng(1)
    truth = rng.gamma(9.0, 1.0, 4000)
    nats = 1.25 * truth + rng.normal(0, 0.1, 4000)
    found = splits.to_truth(nats, np.append(truth, 7.0), np.arange(4001))
    assert found["ratio_to_truth"] == pytest.approx(nats.sum() / truth.sum())
    assert found["ratio_to_truth_se"] == pytest.approx(0.1 / truth.mean() / 4000**0.5, rel=0.1), "what both share cancels"
    assert splits.to_truth(nats, None, np.arange(4000)) == {}
    assert splits.to_truth(nats, truth, np.zeros(4000, dtype=int))["ratio_to_truth_se"] is None


def test_the_error_of_unseen_sequences_is_over_their_documents():
    nats, clusters = np.array([1.0, 1.0, 3.0, 3.0, 9.0]), np.array([0, 0, 1, 1, 1])
    found = splits.unseen(nats, np.arange(5) < 4, None, clusters, 1)
    assert found == {"unseen_sequences": 4, "unseen_nats_per_token": 2.0, "unseen_nats_per_token_se": pytest.approx(1.0)}


def test_nothing_is_said_where_nothing_is_shared_and_no_mean_where_all_is():
    assert splits.unseen(np.ones(3), np.full(3, True), None, np.arange(3), LENGTH) == {}
    assert splits.unseen(np.ones(3), np.full(3, False), None, np.arange(3), LENGTH) == {"unseen_sequences": 0}


def test_lines_say_what_is_shared_and_what_was_left_out():
    (shared,) = splits.lines(FACTS, "prose", LENGTH)
    assert shared == (
        "held-out text of prose that is in its train split, token for token: 2 and 1 at another offset of 5 test sequences"
    )
    clean = {**FACTS, "test": {**FACTS["test"], "same": 0, "shifted": 0}}
    assert splits.lines(clean, "prose", LENGTH) == []
    (left,) = splits.lines({**clean, "train": {**FACTS["train"], "left_out": 0.3512}}, "prose", LENGTH)
    assert left.startswith("left out of prose, in no sequence of 8 tokens: 35 % of train, 0 % of validation, 0 % of test (")


def finished() -> Finished:
    """A corpus, a likelihood on its five test sequences, and a curve of two points."""
    labels = {"corpus": "prose", "tokenizer": "byte"}
    corpus = Entry(hash="a", kind="corpus", title="prose", labels=labels)
    likelihood = Entry(
        hash="b", kind="likelihood", title="mdlm",
        labels={**labels, "family": "mdlm", "training_seed": 0, "estimator": "exact-k", "kind": "bound"},
        facts={"corpus": "a", "model": ["c"], "one_bound": True},
    )  # fmt: skip
    training = Entry(hash="c", kind="training", title="mdlm", labels={**labels, "family": "mdlm", "training_seed": 0},
                     facts={"judges": False, "tokens_of_a_step": 1})  # fmt: skip
    curve = [{"train_step": 1, "loss": 2.0}, {"train_step": 2, "loss": 1.0, "validation_nats_per_token": 1.0,
             "validation_nats_per_token_se": 0.1, "validation_sequences": 256}]  # fmt: skip
    records = {
        "a": {"clusters": [0, 1, 2, 3, 4], "unseen": [False, True, False, True, False], "truth": [1.0] * 5, "splits": FACTS,
              "validation_truth": {"64": 0.5, "256": 0.7}},
        "b": {"nats_per_token": 1.0, "sequences": 5, "per_sequence": [8.0, 16.0, 8.0, 24.0, 8.0]},
        "c": {"curve": curve},
    }  # fmt: skip
    return Finished(entries=(corpus, training, likelihood), records=records)


def test_rows_and_lines_come_from_records_alone():
    rows = read_rows(finished(), LENGTH)
    (row,) = rows["likelihood"]
    assert (row["unseen_sequences"], row["unseen_nats_per_token"], row["unseen_ratio_to_truth"]) == (2, 2.5, 20.0)
    assert [point.get("validation_truth_nats_per_token") for point in rows["curves"]] == [None, 0.7]
    assert about_splits(finished(), LENGTH) == splits.lines(FACTS, "prose", LENGTH)
    assert about_splits(Finished(entries=(), records={}), LENGTH) == []


def test_the_table_shows_unseen_sequences_and_its_foot_counts_them():
    more = {"unseen_nats_per_token": 0.25, "unseen_nats_per_token_se": 0.0021, "unseen_ratio_to_truth": 1.204,
            "unseen_ratio_to_truth_se": 0.013}  # fmt: skip
    rows = [{**row, **more, "unseen_sequences": row["sequences"] // 2} for row in synthetic_rows.likelihood()]
    (table,) = tables.perplexity_tables(synthetic_rows.training(), rows)
    shown = dict(zip(table.headers, table.rows[0], strict=True))
    assert shown["unseen nats/token ↓"] == "0.2500 ±0.0021" and shown["unseen ÷truth ↓"] == "1.204 ±0.013"
    assert any(note.startswith("unseen: the 256 of 512 test sequences") for note in table.notes)
    (known,) = tables.perplexity_tables([], [{**row, "unseen_sequences": 0} for row in synthetic_rows.likelihood()])
    assert "all 512 test sequences are in the train split, token for token" in known.notes
    (plain,) = tables.perplexity_tables(synthetic_rows.training(), synthetic_rows.likelihood())
    assert not any("unseen" in text for text in (*plain.headers, *plain.notes))

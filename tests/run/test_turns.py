"""The speed of a run's rows: one cell, whose rounds all rows take in turn, and whose batches the generations take."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from mist_bench_plugins.family_autoregressive import AutoregressiveFamily

from harness.experiments import bench_of, experiment, silent
from mist_bench.measure.statistics import quantile
from mist_bench.run.cells import Cell
from mist_bench.run.execute import execute, to_do
from mist_bench.run.grid import lay_out
from mist_bench.run.kinds.generation import GenerationCell
from mist_bench.run.kinds.speed import LEFT_OUT, ROUNDS, SpeedCell, speed_columns
from mist_bench.run.make import make
from mist_bench.run.store import unpack_tokens

ORACLE = {"families": "oracle", "schedules": "linear,cosine", "samplers": "random", "steps": "2,4"}
SETTINGS = ["generation.judge=none", "generation.rounds=4"]


def planned(**given):
    its = experiment(settings=SETTINGS, **{**ORACLE, **given})
    cells = lay_out(its)
    [speed] = [cell for cell in cells if isinstance(cell, SpeedCell)]
    return its, cells, speed


@dataclasses.dataclass(frozen=True)
class Other(AutoregressiveFamily):
    name = "other"


class Silent:
    def __getattr__(self, name):
        return lambda *details: None


@pytest.fixture
def recorded(monkeypatch):
    """The batches that are made, as (hash, number), without those that warm up."""
    made, real = [], GenerationCell.sample

    def sample(cell, bench, generator, number, limit=None):
        if limit is None:
            made.append((cell.hash, number))
        return real(cell, bench, generator, number, limit)

    monkeypatch.setattr(GenerationCell, "sample", sample)
    return made


def test_all_rows_take_turns_and_generations_take_their_batches(recorded, tmp_path):
    its, cells, speed = planned()
    bench = bench_of(its, tmp_path)
    record = make(speed, bench, silent).record
    hashes = {row.hash for row in speed.rows}
    assert len(hashes) == 4 and set(record[ROUNDS]) == hashes
    for number in range(4):
        mine = recorded[4 * number : 4 * number + 4]
        assert {hash for hash, _ in mine} == hashes and {each for _, each in mine} == {number}
    assert all(len(seconds) == 4 and min(seconds) > 0 for seconds in record[ROUNDS].values())
    assert record["tokens_per_round"] == 32 * 4 and bench.store.read(speed.hash)["measured_by"]
    row = speed.rows[0]
    timed = np.concatenate([bench.batches[row.hash, number][0] for number in range(3)])[:96]
    recorded.clear()
    made = make(row, bench, silent).record
    assert not recorded and not any(hash == row.hash for hash, _ in bench.batches), "96 samples are three batches of 32"
    fresh = bench_of(its, tmp_path / "fresh")
    again = make(row, fresh, silent).record
    assert len(recorded) == 3 and again["tokens"] == made["tokens"] and again["nfe"] == made["nfe"]
    assert again["peak_memory_bytes"] == made["peak_memory_bytes"], "of its graphs, wherever its batches were made"
    np.testing.assert_array_equal(unpack_tokens(made["tokens"]), timed)


def test_there_are_as_many_rounds_as_every_row_needs_batches_at_least(recorded, tmp_path):
    its, _, speed = planned(steps="2", schedules="linear")
    its_more = experiment(settings=[*SETTINGS, "generation.oracle_samples=192"], **{**ORACLE, "steps": "2"})
    [more] = [cell for cell in lay_out(its_more) if isinstance(cell, SpeedCell)]
    for cell, one, rounds in ((speed, its, 4), (more, its_more, 6)):
        record = make(cell, bench_of(one, tmp_path), silent).record
        assert all(len(seconds) == rounds for seconds in record[ROUNDS].values())
        assert cell.summary(record) == f"{len(cell.rows)} timed, {rounds} rounds"


def test_a_row_that_fails_is_left_out_and_timed_with_all_others_once_it_is_tried_again(monkeypatch, tmp_path):
    its, cells, speed = planned(steps="4")
    bad, real = speed.rows[0], GenerationCell.sample

    def sample(cell, bench, generator, number, limit=None):
        if cell.hash == bad.hash and number == 1:
            raise RuntimeError("broken")
        return real(cell, bench, generator, number, limit)

    bench = bench_of(its, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(GenerationCell, "sample", sample)
        failed = execute(cells, to_do(cells, bench.store, "missing"), bench, Silent())
    assert [cell.hash for cell, _ in failed] == [bad.hash] and "broken" in failed[0][1]
    assert set(bench.store.read(speed.hash)[ROUNDS]) == {row.hash for row in speed.rows[1:]}
    assert to_do(cells, bench.store, "missing") == []
    again = to_do(cells, bench.store, "failed")
    assert [cell.hash for cell in again] == [speed.hash, bad.hash]
    assert execute(cells, again, bench, Silent()) == []
    assert set(bench.store.read(speed.hash)[ROUNDS]) == {row.hash for row in speed.rows}
    assert to_do(cells, bench.store, "failed") == []


def test_a_training_that_failed_takes_no_other_speed_along(tmp_path, monkeypatch):
    its, cells, speed = planned(families="mdlm,oracle", schedules="linear", steps="2")
    bench = bench_of(its, tmp_path)
    for cell in cells:
        if cell.trains:
            bench.store.write_failure(cell.hash, "broken")
    todo: list[Cell] = [speed]
    execute(cells, todo, bench, Silent())
    trained = [row.hash for row in speed.rows if row.model.training is not None]
    assert trained and set(bench.store.read(speed.hash)[ROUNDS]) == {row.hash for row in speed.rows} - set(trained)
    assert speed not in to_do(cells, bench.store, "missing"), "the training is not tried again: nothing new can be timed"
    assert speed in to_do(cells, bench.store, "failed")


def test_a_row_that_fails_in_the_rounds_alone_says_why_and_is_tried_again_on_request(monkeypatch, tmp_path):
    its, cells, speed = planned(steps="4")
    bad, real = speed.rows[0], GenerationCell.sample

    def sample(cell, bench, generator, number, limit=None):
        if cell.hash == bad.hash and not done and limit is not None:
            done.append(cell)
            raise RuntimeError("broken once")
        return real(cell, bench, generator, number, limit)

    bench, done = bench_of(its, tmp_path), []
    with monkeypatch.context() as patched:
        patched.setattr(GenerationCell, "sample", sample)
        assert execute(cells, to_do(cells, bench.store, "missing"), bench, Silent()) == []
    record = bench.store.read(speed.hash)
    assert bad.hash not in record[ROUNDS] and "broken once" in record[LEFT_OUT][bad.hash]
    assert "1 timed, 4 rounds; not timed: " in speed.summary(record) and "broken once" in speed.summary(record)
    assert to_do(cells, bench.store, "missing") == [] and to_do(cells, bench.store, "failed") == [speed]
    assert execute(cells, [speed], bench, Silent()) == []
    record = bench.store.read(speed.hash)
    assert set(record[ROUNDS]) == {row.hash for row in speed.rows} and record[LEFT_OUT] == {}


def test_the_baseline_is_one_family():
    """That of the other tables: the first that generates left to right."""
    _, _, speed = planned(families="autoregressive,oracle", schedules="linear", steps="2")
    causal = [row for row in speed.rows if row.model.family.causal]
    assert speed.facts["baseline"] == [row.hash for row in causal] != []
    other = dataclasses.replace(causal[0], model=dataclasses.replace(causal[0].model, family=Other()))
    both = dataclasses.replace(speed, rows=(*speed.rows, other))
    assert both.facts["baseline"] == speed.facts["baseline"]
    seconds = {name: [1.0, 2.0, 3.0] for name in ("a", "other")} | {"ar": [2.0, 4.0, 6.0]}
    assert speed_columns(seconds, 8, ["ar"])["other"]["speed_ratio_to_ar"] == pytest.approx(2)


def test_columns_are_of_the_rounds():
    rng = np.random.default_rng(0)
    drift = np.array([1.0, 0.5, 0.8, 0.9, 1.1])
    rates = {name: speed * drift * np.exp(0.01 * rng.normal(size=5)) for name, speed in (("a", 100.0), ("b", 50.0), ("ar", 25.0))}
    seconds = {name: (200 / each).tolist() for name, each in rates.items()}
    found = speed_columns(seconds, 200, ["ar"])
    for name, row in found.items():
        assert row["tokens_per_second"] == pytest.approx(np.exp(np.log(rates[name]).mean()))
        assert row["tokens_per_second_iqr"] == pytest.approx(np.subtract(*np.percentile(rates[name], [75, 25])))
        assert row["tokens_per_second_iqr"] > 5 * row["tokens_per_second_se"], "the drift is in the one alone"
        wide = np.exp(quantile(4) * row["tokens_per_second_se"] / row["tokens_per_second"])
        assert row["tokens_per_second_high"] == pytest.approx(row["tokens_per_second"] * wide)
        assert row["tokens_per_second_low"] == pytest.approx(row["tokens_per_second"] / wide)
        assert row["timed_rounds"] == 5 and row["seconds_per_batch"] == pytest.approx(np.exp(np.log(seconds[name]).mean()))
    quotients = np.log(rates["a"] / rates["ar"])
    assert found["a"]["speed_ratio_to_ar"] == pytest.approx(np.exp(quotients.mean()))
    relative = found["a"]["speed_ratio_to_ar_se"] / found["a"]["speed_ratio_to_ar"]
    assert relative == pytest.approx(quotients.std(ddof=1) / np.sqrt(5))
    assert "speed_ratio_to_ar" not in found["ar"] and "speed_ratio_to_ar" not in speed_columns(seconds, 200, [])["a"]
    one = speed_columns({name: each[:1] for name, each in seconds.items()}, 200, ["ar"])["a"]
    assert one["tokens_per_second_se"] is None and one["tokens_per_second_low"] is None and one["speed_ratio_to_ar_se"] is None
    assert speed_columns({}, 200, []) == {}

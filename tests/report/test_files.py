"""The files of a run: the fixed columns, empty cells, bits that come back, an order that does not depend on luck."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness import ROOT
from harness import synthetic_rows as rows
from mist_bench.measure import statistics
from mist_bench.report import columns, files, plots, pooling, tables
from mist_bench.run import provenance
from mist_bench.run.columns import Column

# the names of the design, written out here a second time on purpose
FIXED = {
    "training": "corpus tokenizer family schedule training_seed checkpoint parameters embedding_parameters train_steps "
    "train_tokens train_flops_per_token final_loss tokens_per_second model_flops_utilization compile_seconds wall_seconds peak_memory_bytes "
    "kept_step micro_batch devices",
    "likelihood": "corpus tokenizer family schedule training_seed checkpoint parameters train_tokens kind estimator "
    "evaluation_schedule nats_per_token nats_per_token_se bits_per_byte bits_per_byte_se perplexity perplexity_low "
    "perplexity_high sequences clusters mask_draws",
    "generation": "corpus tokenizer family schedule training_seed checkpoint sampler steps temperature seed batch "
    "samples clusters control nfe nfe_iqr tokens_per_second tokens_per_second_iqr seconds_per_batch compile_seconds "
    "peak_memory_bytes token_entropy token_entropy_se distinct_2 "
    "longest_overlap oracle_valid_rate oracle_valid_rate_se oracle_distinct_ratio oracle_divergence "
    "oracle_divergence_floor oracle_divergence_floor_se law_distance texts_digest prompt tokens_per_second_se "
    "tokens_per_second_low tokens_per_second_high timed_rounds speed_ratio_to_ar speed_ratio_to_ar_se judge "
    "judge_nats_per_token judge_nats_per_token_se",
    "comparisons": "corpus tokenizer kind estimator evaluation_schedule family_a schedule_a family_b schedule_b "
    "training_seed training_seeds sequences clusters difference difference_se difference_low difference_high z p_value "
    "difference_seed_se seed_p_value",
    "curves": "checkpoint corpus family schedule training_seed train_step train_tokens seconds loss "
    "validation_nats_per_token validation_nats_per_token_se validation_sequences validation_clusters",
}


def write(out: Path, **changed):
    given = {**rows.everything(), "run": {"preset": "demo"}, **changed}
    run = given.pop("run")
    origin = run.get("provenance")
    heading = provenance.one_line(origin) if origin else ""
    text = tables.markdown(tables.tables_of_run(given), heading=heading)
    return files.write_run(out, given, run=run, tables=text, plots=plots.draw(given)[0])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write(tmp_path_factory.mktemp("run"))


def test_columns_are_those_of_the_design():
    assert {file: " ".join(columns.header_of(file)) for file in columns.files()} == FIXED


BETTER = {"": "", "lower": "lower", "higher": "higher", "one": "near 1", "data": "near the data's"}


def test_the_page_documents_every_column_in_the_words_of_the_code():
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for file in columns.files():
        section = text.split(f"## `{file}.csv`")[1].split("\n## ")[0]
        documented = [line for line in section.splitlines() if line.startswith("| `")]
        assert documented == [described(column) for column in columns.columns_in(file)], file


def described(column: Column) -> str:
    """The row of a column in docs/results.md."""
    only = "; only if a row has a value" if column.optional else ""
    return f"| `{column.name}` | {column.unit or '-'} | {BETTER[column.better]} | {column.meaning}{only} |"


def test_files_and_their_names(written):
    names = ["run.json", "training.csv", "likelihood.csv", "generation.csv", "curves.csv", "comparisons.csv", "samples.jsonl",
             "tables.md",             "plots/loss-curves.svg", "plots/quality-steps.svg", "plots/quality-throughput.svg"]  # fmt: skip
    assert list(written) == names
    out = written["run.json"].parent
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == set(names)
    assert all(path == out / name for name, path in written.items())
    assert json.loads(written["run.json"].read_text()) == {"preset": "demo"}


def test_fixed_columns_come_first_and_extra_ones_by_name_after_them(written):
    header = written["likelihood.csv"].read_text().splitlines()[0].split(",")
    extra = ["bound_minus_chain_rule", "bound_minus_chain_rule_se", "control", "nats_per_sequence", "nats_per_sequence_se",
             "ratio_to_ar", "ratio_to_ar_se", "ratio_to_truth", "ratio_to_truth_se", "truth_nats_per_sequence"]  # fmt: skip
    assert header == [*columns.header_of("likelihood"), *extra]


def test_same_rows_in_any_order_give_the_same_bytes(written, tmp_path):
    def shuffled(original):
        return random.Random(3).sample(original, len(original))

    again = write(tmp_path, training=shuffled(rows.training()), likelihood=shuffled(rows.likelihood()),
                  generation=shuffled(rows.generation()), curves=shuffled(rows.curves()),
                  comparisons=shuffled(rows.comparisons()))  # fmt: skip
    for name, path in written.items():
        assert again[name].read_bytes() == path.read_bytes(), name


def test_missing_nan_and_infinite_are_empty_and_zero_stays_zero(tmp_path):
    values = [None, math.nan, math.inf, -math.inf, np.float32("nan"), 0.0, 0]
    table = [{"sampler": "random", "seed": i, "oracle_valid_rate": value} for i, value in enumerate(values)]
    text = files.to_csv(table, ("seed", "oracle_valid_rate", "law_distance"))
    assert text.splitlines()[1:] == ["0,,,random", "1,,,random", "2,,,random", "3,,,random", "4,,,random",
                                     "5,0.0,,random", "6,0,,random"]  # fmt: skip


def test_csv_gives_every_bit_back(tmp_path):
    awkward = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, 123456789.123456789, float(np.float32(0.1)), 1e22]
    table = [{"sampler": 'a "quoted", [x=1]\nline', "seed": i, "steps": 5, "control": None, "nfe": value}
             for i, value in enumerate(awkward)]  # fmt: skip
    path = tmp_path / "generation.csv"
    path.write_text(files.to_csv(table, columns.header_of("generation")), encoding="utf-8")
    back = files.read_csv(path)
    assert [repr(row["nfe"]) for row in back] == [repr(value) for value in awkward]
    assert [row["sampler"] for row in back] == [table[0]["sampler"]] * len(table)
    assert {type(row["steps"]) for row in back} == {int} and back[0]["control"] is None
    assert files.to_csv(back, columns.header_of("generation")) == path.read_text()


def test_order_of_rows():
    def row(control=None, family="mdlm", sampler="random", steps=5, seed=0):
        return {"corpus": "c", "control": control, "family": family, "sampler": sampler, "steps": steps, "seed": seed}

    right = [row(steps=5), row(steps=5, seed=1), row(steps=10), row(steps=64), row(steps=None),
             row(sampler="top-k", steps=5), row("data"), row("oracle", "oracle")]  # fmt: skip
    assert files.in_order(reversed(right)) == right


def test_samples_keep_their_order_and_their_text(written):
    lines = written["samples.jsonl"].read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["index"] for line in lines] == [0, 1, 2]
    assert json.loads(lines[1])["text"] == "Once “1” upon\na time." and json.loads(lines[1])["nan"] is None


def test_a_plot_of_an_earlier_run_does_not_stay(tmp_path):
    assert "plots/quality-steps.svg" in write(tmp_path)
    second = write(tmp_path, generation=[])
    assert [name for name in second if name.startswith("plots/")] == ["plots/loss-curves.svg"]
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["loss-curves.svg"]


def test_a_run_without_rows_writes_headers_alone(tmp_path):
    nothing = dict.fromkeys(rows.everything(), [])
    files = write(tmp_path, **nothing)
    assert files["training.csv"].read_text() == ",".join(columns.header_of("training")) + "\n"
    assert files["samples.jsonl"].read_text() == "" and not (tmp_path / "plots").exists()


def test_tables_are_headed_by_their_provenance(tmp_path):
    provenance = {"mist_bench": "9.9", "git": {"commit": "a" * 40, "dirty": True}, "cpu": "Abacus", "cores": 3}
    head = write(tmp_path, run={"provenance": provenance})["tables.md"].read_text().splitlines()[0]
    assert "9.9" in head and "aaaaaaaaaaaa with changes" in head and "Abacus" in head


def test_perplexity_interval():
    columns = statistics.perplexity_columns(2.0, 0.1, 10**6)
    assert columns["perplexity"] == pytest.approx(7.38905609893065)
    assert columns["perplexity_low"] == pytest.approx(6.073918, abs=1e-5)  # e^1.8040035
    assert columns["perplexity_high"] == pytest.approx(8.988950, abs=1e-5)  # e^2.1959965
    few = statistics.perplexity_columns(2.0, 0.1, 5)
    assert few["perplexity_low"] == pytest.approx(math.exp(2 - 0.277645), abs=1e-5), "Student's t of 4"
    assert statistics.perplexity_columns(1000.0, 1.0, 9)["perplexity"] == math.inf


def test_standard_error_is_that_of_numpy():
    values = [0.3, 1.7, 2.2, -1.0]
    assert statistics.standard_error(values) == pytest.approx(np.std(values, ddof=1) / math.sqrt(4))
    assert statistics.standard_error([1.0]) is None and statistics.standard_error([]) is None


def test_over_seeds_shrinks_sampling_errors_and_averages_training_seeds():
    cells = {(0, 0): (1.0, 0.3), (0, 1): (2.0, 0.4), (1, 0): (5.0, 0.6), (1, 1): (6.0, 0.8)}
    table = [{"family": "mdlm", "training_seed": t, "seed": s, "x": x, "x_se": se, "judge": f"ar {t}", "batch": 8}
             for (t, s), (x, se) in cells.items()]  # fmt: skip
    (pooled,) = pooling.over_seeds(table, ("family",), ("x", "y"))
    assert pooled["x"] == pytest.approx(3.5) and pooled["seeds"] == 2 and pooled["batch"] == 8
    # sqrt(.3² + .4²)/2 = .25 and sqrt(.6² + .8²)/2 = .5 are averaged, as the noise of training seeds is shared
    assert pooled["x_se"] == pytest.approx(0.375)
    assert pooled["x_seed_se"] == pytest.approx(2.0)  # means 1.5 and 5.5
    assert pooled["judge"] == "ar 0 / ar 1" and "seed" not in pooled and pooled["y"] is None


def test_over_seeds_keeps_zero_apart_from_missing():
    table = [{"temperature": 0.0, "x": 1.0, "training_seed": 0}, {"temperature": None, "x": 3.0, "training_seed": 0}]
    assert [row["x"] for row in pooling.over_seeds(table, ("temperature",), ("x",))] == [1.0, 3.0]
    half = [{"x": 1.0, "x_se": 0.1, "training_seed": 0}, {"x": 2.0, "x_se": None, "training_seed": 1}]
    assert pooling.over_seeds(half, (), ("x",))[0]["x_se"] is None, "an unknown error is not zero"


def test_importing_loads_neither_pandas_nor_seaborn():
    code = (
        "import sys, mist_bench.report.files, mist_bench.report.tables, mist_bench.report.plots, mist_bench.run.provenance, mist_bench.run.store"
    )
    code += "; print({'pandas', 'seaborn', 'matplotlib', 'rich', 'tinygrad', 'safetensors'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"

"""The two tables: what is labelled how, what is rounded how, and that they can be read at their width."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from harness import synthetic_rows as rows
from mist_bench.cli.show import show_tables
from mist_bench.measure import statistics
from mist_bench.measure.statistics import quantile
from mist_bench.report import fields, layout, tables


def column(table, header):
    index = next(i for i, name in enumerate(table.headers) if name.startswith(header))
    return [row[index] for row in table.rows]


@pytest.fixture(scope="module")
def bounds():
    (table,) = tables.perplexity_tables(rows.training(), rows.likelihood())
    return table


@pytest.fixture(scope="module")
def speeds():
    (table,) = tables.throughput_tables(rows.generation())
    return table


@pytest.mark.parametrize(
    ("value", "se", "shown"),
    [(1.23456, 0.0123, "1.235 ±0.012"), (1.23456, 0.0996, "1.23 ±0.10"), (1234.5, 120, "1230 ±120"),
     (1234.5, 12, "1234 ±12"), (0.000123, 0.0000045, "0.0001230 ±0.0000045"), (0.5, 0, "0.5 ±0"),
     (0.0, 0.01, "0.000 ±0.010"), (2.0, None, "2"), (None, 0.1, ""), (-1.5, 0.25, "-1.50 ±0.25"),
     (1.0, 0.95, "1.00 ±0.95"), (1.0, 0.996, "1.0 ±1.0")],
)  # fmt: skip
def test_value_to_the_decimal_of_two_digits_of_its_error(value, se, shown):
    assert statistics.with_error(value, se) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (7, "7"), (64.0, "64"), (46.9, "46.9"), (999, "999"), (1000, "1.00 k"), (171_208, "171 k"),
     (12_224, "12.2 k"), (999_999, "1.00 M"), (2_457_600, "2.46 M"), (1.5e9, "1.50 G"), (None, ""), (0.25, "0.25")],
)  # fmt: skip
def test_count(value, shown):
    assert fields.count(value) == shown


def test_a_bound_is_marked_and_nothing_else_is(bounds):
    for kind, perplexity in zip(column(bounds, "kind"), column(bounds, "perplexity"), strict=True):
        assert perplexity.startswith("≤") == (kind == "bound") and perplexity[0] in "≤="
    assert set(column(bounds, "kind")) == {"bound", "exact", "chain-rule"}
    assert set(column(bounds, "estimator")) == {"exact-k", "weighted", "chain-rule"}


def test_directions_stand_in_the_headers(bounds, speeds):
    for header in ("nats/token ↓", "bits/byte ↓", "nats/story ↓", "÷truth ↓"):
        assert header in bounds.headers
    assert (
        "tokens/s ↑ (95%CI)" in speeds.headers and "valid % ↑ [95%CI]" in speeds.headers and "law dist. ↓" not in speeds.headers
    )


def test_rows_are_means_over_training_seeds_with_both_errors(bounds):
    index = next(i for i, row in enumerate(bounds.rows) if row[1] == "linear" and "exact-k" in row)
    nats = (13.92 + 14.03) / 2 / 64
    seeds = math.sqrt(2 * 0.055**2 / 1) / math.sqrt(2) / 64
    assert column(bounds, "nats/token")[index] == f"{nats:.4f} ±{0.13 / 64:.4f}"
    assert column(bounds, "±seeds")[index] == f"±{seeds:.5f}"
    assert column(bounds, "nats/story")[index] in ("13.97 ±0.14", "13.98 ±0.14"), "of both errors"
    whole = math.hypot(0.8 * 0.13, 64 * seeds) / 13.21
    assert column(bounds, "÷truth")[index] == f"{13.975 / 13.21:.4f} ±{whole:.4f}"
    sequences, both = 0.13 / 64, math.hypot(0.13 / 64, seeds)
    freedom = both**4 / (sequences**4 / 511 + seeds**4 / 1)  # Welch and Satterthwaite
    assert 40 < freedom < 45 and 2.01 < quantile(freedom) < 2.02
    low, high = math.exp(nats - quantile(freedom) * both), math.exp(nats + quantile(freedom) * both)
    assert column(bounds, "perplexity")[index] == f"≤{math.exp(nats):.3f} [{low:.3f},{high:.3f}]"


def test_masked_models_are_held_against_the_baseline(bounds):
    shown = dict(zip(zip(column(bounds, "family"), column(bounds, "kind"), strict=True), column(bounds, "÷AR"), strict=True))
    assert shown[("autoregressive", "exact")] == shown[("† oracle", "bound")] == ""
    assert shown[("mdlm", "chain-rule")] == f"{(13.92 - 0.2 + 0.055) / 13.31:.4f} ±0.0082"


def test_what_never_changes_is_said_once(bounds, speeds):
    for word in ("param. 171 k", "tokens 2.46 M", "training seeds 2", "truth 13.21", "tokenizer word"):
        assert word in bounds.same
    for word in ("temp. 1", "batch 64", "judge oracle", "floor of div. 0.2871 ±0.0094"):
        assert word in speeds.same
    assert "tokenizer" not in bounds.headers and "temp." not in speeds.headers


@pytest.mark.parametrize(
    ("rate", "samples", "shown"),
    [(0.0, 96, "0 [0,3.8]"), (1.0, 64, "100 [94,100]"), (66 / 96, 96, "69 [59,77]"), (1 / 512, 512, "0.2 [0.0,1.1]"),
     (0.5, 10**6, "50.00 [49.90,50.10]"), (0.5, 2, "50 [9,91]"), (0.5, None, "50"), (None, 96, "")],
)  # fmt: skip
def test_a_valid_rate_stands_with_its_interval(rate, samples, shown):
    assert tables._valid({"oracle_valid_rate": rate, "clusters": samples, "oracle_valid_rate_se": 0.0}) == shown


def test_the_repeater_says_one_thing_and_has_no_interval(speeds):
    said = dict(zip([row[0] for row in speeds.rows], column(speeds, "valid"), strict=True))
    assert said["† repeater"] == "100" and said["† data"] == "100 [99.3,100]" and said["† unigram"] == "0 [0,0.7]"


def test_what_changes_is_a_column():
    other = [{**row, "tokenizer": "byte", "temperature": 0.7} for row in rows.generation()]
    (table,) = tables.throughput_tables([*rows.generation(), *other])
    assert set(column(table, "tokenizer")) == {"byte", "word"} and set(column(table, "temp.")) == {"1", "0.7", ""}


def test_parameters_come_from_training_where_likelihood_lacks_them():
    bare = [{k: v for k, v in row.items() if k not in ("parameters", "train_tokens")} for row in rows.likelihood()]
    (table,) = tables.perplexity_tables(rows.training(), bare)
    assert "param. 171 k" in table.same and "tokens 2.46 M" in table.same


def test_the_work_of_training_stands_beside_equal_parameters():
    def said(training):
        (table,) = tables.perplexity_tables(training, rows.likelihood())
        return [note.partition("a token: ")[2].partition(" (")[0] for note in table.notes if "not equal work" in note]

    assert said(rows.training()) == ["autoregressive 1.22 M, mdlm 1.05 M"]
    assert said([{**row, "train_flops_per_token": None} for row in rows.training()]) == [], "of an older store"
    assert said([row for row in rows.training() if row["family"] == "mdlm"]) == [], "nothing to compare"
    apart = [{**row, "train_flops_per_token": 8e5} if row["schedule"] == "cosine" else row for row in rows.training()]
    assert said(apart) == ["autoregressive 1.22 M, mdlm 800 k to 1.05 M"]


def test_controls_stand_last_and_are_marked(speeds, bounds):
    names = [row[0] for row in speeds.rows]
    assert [n for n in names if n.startswith("†")] == names[speeds.controls :] and len(names) > speeds.controls > 0
    assert {n for n in names if n.startswith("†")} == {"† data", "† oracle", "† repeater", "† unigram"}
    assert [row[0] for row in bounds.rows[bounds.controls :]] == ["† oracle"]


def test_a_column_that_was_never_measured_is_dropped_and_a_zero_is_not():
    plain = [{k: v for k, v in row.items() if not k.startswith("oracle")} for row in rows.generation()]
    (table,) = tables.throughput_tables(plain)
    assert not any(h.startswith(("valid", "div.", "law")) for h in table.headers)
    (table,) = tables.throughput_tables([{**row, "law_distance": 0.0} for row in plain])
    assert set(column(table, "law dist.")) == {"0"}


def test_each_corpus_has_its_own_table():
    austen = [{**row, "corpus": "austen"} for row in rows.likelihood()]
    titles = [table.title for table in tables.perplexity_tables([], [*rows.likelihood(), *austen])]
    assert titles == ["Perplexity bounds: austen", "Perplexity bounds: tales"]


def printed(width, likelihood=None, generation=None):
    console = Console(width=width, force_terminal=False, file=io.StringIO())
    given = {**rows.everything(), "likelihood": likelihood or rows.likelihood()}
    show_tables(tables.tables_of_run({**given, "generation": generation or rows.generation()}), console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_a_terminal_table_keeps_its_width_and_breaks_no_word(width):
    text = printed(width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for word in ("autoregressive", "confidence", "exact-k", "† repeater", "valid"):
        assert word in text, word
    intervals = {cell.split()[-1] for cell in column(tables.perplexity_tables((), rows.likelihood())[0], "perplexity") if "[" in cell}
    assert intervals and all(each in text for each in intervals) is (width > 80)


def test_at_120_columns_a_spare_column_alone_is_left_out_and_throughput_rows_are_one_line():
    text = printed(120)
    assert text.count("too narrow") == 2 and "too narrow here for: speed ÷AR ↑, copied (" in text
    assert "too narrow here for: nats/story ↓ (" in text, "÷truth says as much"
    one_seed = [row for row in rows.generation() if row.get("training_seed") in (0, None)]
    less = printed(128, generation=one_seed)
    assert "too narrow here for: speed ÷AR ↑ (" in less and ", copied" not in less, "without ±seeds there is more room"
    assert sum("±0.0091" in line for line in text.splitlines()) == len(
        tables.throughput_tables(rows.generation())[0].rows
    )
    assert all(line.split()[0] != "±0.0091" for line in text.splitlines() if line.strip())


def test_a_narrow_terminal_says_what_it_leaves_out():
    text = printed(80)
    assert "too narrow here for:" in text and "nats/story ↓" in text.split("too narrow here for:")[1]


def test_long_names_are_folded_where_they_may_be():
    long = "semi-autoregressive[block=16,inner=confidence]"
    generation = [{**row, "sampler": long} if row.get("sampler") == "margin" else row for row in rows.generation()]
    text = printed(120, generation=generation)
    assert max(map(len, text.splitlines())) <= 120
    assert "inner=confidence]" in text


def test_markup_of_rich_is_not_read_from_names():
    text = printed(160, generation=[{**row, "sampler": "x[bold]"} for row in rows.generation()])
    assert "x[bold]" in text


def test_markdown_is_rectangular_and_numbers_are_right():
    text = tables.markdown(tables.tables_of_run(rows.everything()), heading="HEAD")
    assert text.startswith("HEAD\n\n## Perplexity bounds: tales\n") and text.endswith("\n")
    for block in text.split("\n\n"):
        if block.startswith("|"):
            lines = block.splitlines()
            assert len({line.count("|") for line in lines}) == 1
            marks = dict(zip(lines[0].split(" | "), lines[1].split(" | "), strict=True))
            assert marks["schedule" if "schedule" in marks else "kind"] == ":---"
            assert all(m.strip("| ") == "---:" for h, m in marks.items() if "↓" in h or "↑" in h)
    assert "| **controls** |" in text


def test_markdown_escapes_what_would_break_a_row():
    text = tables.markdown(tables.perplexity_tables([], [{**rows.likelihood()[0], "family": "a|b<c"}]))
    assert "a\\|b\\<c" in text


def test_nothing_to_show_is_nothing():
    assert tables.tables_of_run({"likelihood": [], "generation": []}) == [] and tables.markdown([]) == ""


def test_a_spare_column_goes_before_a_number_is_broken():
    rows = (("1.0000 ±0.0001", "7"),)
    table = layout.Table(title="", same="", headers=("a", "b"), numeric=(True,) * 2, ranks=(0, layout.SPARE), rows=rows,
                         controls=1, notes=())  # fmt: skip
    assert layout.fit(table, 16) == ([["a", "b"], list(rows[0])], [0, 1])
    assert layout.fit(table, 15) == ([["a"], ["1.0000 ±0.0001"]], [0])
    kept = layout.Table(**{**vars(table), "ranks": (0, layout.SPARE - 1)})
    assert layout.fit(kept, 15) == ([["a", "b"], ["1.0000\n±0.0001", "7"]], [0, 1])


def test_fit_drops_the_highest_rank_first():
    table = layout.Table(title="", same="", headers=("a", "b", "c"), numeric=(True,) * 3, ranks=(0, 2, 1),
                         rows=(("1" * 10, "2" * 10, "3" * 10),), controls=1, notes=())  # fmt: skip
    assert layout.fit(table, 40)[1] == [0, 1, 2]
    assert layout.fit(table, 25)[1] == [0, 2]
    assert layout.fit(table, 5)[1] == [0]


def test_fewer_sequences_are_said_and_do_not_hide_the_truth_of_the_others(bounds):
    said = dict(zip(column(bounds, "kind"), column(bounds, "seq."), strict=True))
    assert said["chain-rule"] == "48" and said["bound"] == said["exact"] == "512"
    assert "truth 13.21 nats/story" in bounds.same and any(note.startswith("seq.") for note in bounds.notes)
    (table,) = tables.perplexity_tables([], [r for r in rows.likelihood() if r["kind"] != "chain-rule"])
    assert "seq. 512" in table.same and not any(note.startswith("seq.") for note in table.notes)


def test_rows_of_unequal_numbers_of_samples_are_said_not_to_compare(speeds):
    said = "compare them only between rows with the same number"
    assert "samples 512" in speeds.same and not any(said in note for note in speeds.notes)
    small = [{**row, "samples": 300} if row.get("control") == "data" else row for row in rows.generation()]
    (table,) = tables.throughput_tables(small)
    assert set(column(table, "samples")) == {"300", "512"} and any(said in note for note in table.notes)


def test_pairs_are_shown_over_their_seeds_and_called_better_only_where_every_error_allows():
    (table,) = tables.comparison_tables(rows.comparisons())
    assert [row[:2] for row in table.rows] == [("mdlm cosine", "mdlm linear")] * 2
    assert column(table, "a−b") == ["0.00210 ±0.00050"] * 2 and column(table, "95%CI") == ["[0.00112,0.00308]"] * 2
    assert column(table, "p") == ["<0.0001"] * 2 and column(table, "±seeds") == ["±0.00080"] * 2
    said = dict(zip(column(table, "estimator"), column(table, "better"), strict=True))
    assert said == {"exact-k": "undecided", "chain-rule": "b"}
    assert "training seeds 2" in table.same and not any("one training seed" in note for note in table.notes)


def test_a_pair_that_is_equal_on_every_sequence_is_called_the_same():
    none = {"p_value": None, "seed_p_value": None, "difference_low": None, "difference_high": None}
    equal = [{**row, **none, "difference": 0.0, "difference_se": 0.0} for row in rows.comparisons()[:1]]
    for given, said in ((equal, "the same"), ([{**equal[0], "difference_se": None}], "undecided")):
        (table,) = tables.comparison_tables(given)
        assert column(table, "better") == [said]
        assert any(note.startswith("the same:") for note in table.notes) is (said == "the same")


def test_a_row_that_failed_while_it_was_timed_is_said_to_have_no_speed():
    given = [row for row in rows.generation() if row.get("tokens_per_second") or not row.get("sampler")]
    kept = {key: value for key, value in given[0].items() if "tokens_per_second" not in key and "speed_ratio" not in key}
    untimed = {**kept, "steps": 999}
    said = "without tokens/s: failed while it was timed (--rerun failed times all rows again)"
    for some, expected in ((given, False), ([untimed, *given], True), ([untimed], False)):
        (table,) = tables.throughput_tables(some)
        assert (said in table.notes) == expected


def test_rows_of_one_network_with_the_same_texts_are_named():
    """Of all sampling seeds; a row of another network with these texts, and rows of one text, are not."""
    def made(sampler, steps, *digests, **more):
        base = {"corpus": "tales", "family": "mdlm", "schedule": "linear", "checkpoint": "a", "samples": 96, "clusters": 96,
                "temperature": 1.0, "sampler": sampler, "steps": steps, "nfe": steps, "training_seed": 0, **more}  # fmt: skip
        return [{**base, "seed": seed, "texts_digest": digest} for seed, digest in enumerate(digests)]

    def said(*given):
        (table,) = tables.throughput_tables([row for part in given for row in part])
        return [note.partition("no evidence: ")[2] for note in table.notes if "token for token" in note]

    confidence, k = made("confidence", 64, "1", "2"), made("top-k", 64, "1", "2")
    assert said(confidence, k, made("random", 64, "3", "4")) == ["mdlm linear: confidence = top-k, 64 steps"]
    assert said(confidence, made("top-k", 64, "1", "3")) == []
    assert said(confidence, [{**row, "checkpoint": "b", "schedule": "cosine"} for row in k]) == []
    assert said(*([{**row, "clusters": 1} for row in part] for part in (confidence, k))) == []
    assert said(confidence, made("confidence", 16, "1", "2")) == [], "that 16 steps are enough is a result"
    more = [made("confidence", 32, "5", "6"), made("top-k", 32, "5", "6")]
    assert said(confidence, k, *more) == ["mdlm linear: confidence = top-k, 32/64 steps"]
    world = {"family": "oracle", "checkpoint": None, "training_seed": None}
    both = [made("klass", None, "7", schedule=name, **world) for name in ("cosine", "linear")]
    assert said(*both) == ["oracle: klass cosine = klass linear"]


def test_one_seed_compares_two_networks_and_says_so():
    one = [row for row in rows.comparisons() if row["training_seed"] == 0]
    (table,) = tables.comparison_tables(one)
    assert len(table.rows) == 2 and "±seeds" not in table.headers and column(table, "better") == ["undecided"] * 2
    assert any("one training seed" in note for note in table.notes)
    assert tables.comparison_tables([]) == []

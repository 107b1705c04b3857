"""The plots: which are drawn from what, that they are the same bytes each time, and that nothing leaks."""

from __future__ import annotations

import math
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from harness import TESTS
from harness import synthetic_rows as rows
from mist_bench.measure import statistics
from mist_bench.report import plot_differences, plot_entropy, plot_style, plots


def draw(**changed):
    made, failed = plots.draw({**rows.everything(), **changed})
    assert not failed
    return made


@pytest.fixture(scope="module")
def drawn():
    return draw()


def prose(table):
    return [{k: v for k, v in row.items() if not k.startswith("oracle_")} for row in table]


def test_all_three_are_svg_without_a_date(drawn):
    assert list(drawn) == ["loss-curves.svg", "quality-steps.svg", "quality-throughput.svg"]
    for svg in drawn.values():
        assert ElementTree.fromstring(svg).tag.endswith("}svg")
        assert b"<dc:date>" not in svg


def test_the_same_rows_give_the_same_bytes(drawn):
    assert draw() == drawn


def test_another_number_gives_another_plot(drawn):
    changed = [{**row, "oracle_valid_rate": row["oracle_valid_rate"] * 0.9} for row in rows.generation()]
    other = draw(generation=changed)
    assert other["quality-steps.svg"] != drawn["quality-steps.svg"]
    assert other["loss-curves.svg"] == drawn["loss-curves.svg"]


def test_a_plot_without_data_is_not_drawn():
    assert draw(generation=[], curves=[]) == {}
    assert list(draw(generation=[])) == ["loss-curves.svg"]
    untimed = [{**row, "tokens_per_second": None} for row in rows.generation()]
    assert "quality-throughput.svg" not in draw(generation=untimed, curves=[])
    unvalidated = [{**row, "validation_nats_per_token": None} for row in rows.curves()]
    assert draw(generation=[], curves=unvalidated) == {}


def test_quality_is_the_valid_rate_or_else_the_judge():
    points, label = plots._points([{**row, "seeds": 1} for row in rows.generation()[:1]])
    assert points[0].quality == pytest.approx(100 * rows.generation()[0]["oracle_valid_rate"]) and "%" in label
    points, label = plots._points(prose(rows.generation()[:1]))
    assert points[0].quality == rows.generation()[0]["judge_nats_per_token"] and "judge" in label


def test_error_bars_stay_between_0_and_100_per_cent_and_have_a_width_at_both():
    for rate in (0.0, 0.01, 1.0):
        ((point,), _) = plots._points([{**rows.generation()[0], "oracle_valid_rate": rate, "clusters": 64}])
        assert 0 <= point.low < point.high <= 100
        ((below,), (above,)) = plots._bars([point])
        assert below >= 0 and above >= 0 and below + above > 3
    (point,), _ = plots._points(prose(rows.generation()[:1]))
    assert (point.high - point.quality) == pytest.approx(1.9646 * 0.0091, rel=1e-4) == point.quality - point.low


def test_a_sampler_that_ignores_steps_is_placed_by_its_evaluations():
    row = next(row for row in rows.generation() if row.get("sampler") == "first-hitting")
    (point,), _ = plots._points([{**row, "steps": None, "nfe": 37}])
    assert point.steps == 37
    (point,), _ = plots._points([{**row, "steps": 5, "nfe": 37}])
    assert point.steps == 5


def test_baseline_and_data_are_the_lines_for_comparison():
    points, _ = plots._points(rows.generation())

    class Axes:
        lines: list[float] = []

        def axhline(self, y, **_):
            self.lines.append(y)

        def axhspan(self, *_, **__):
            pass

    names = [name for name, _ in plots._reference_lines(Axes(), points)]
    assert names == ["autoregressive (baseline)", "autoregressive (baseline)", "held-out data"]
    assert Axes.lines == pytest.approx([93.0, 94.0, 100.0])


def test_prose_many_worlds_and_one_point_are_drawn():
    austen = [{**row, "corpus": "austen"} for row in prose(rows.generation())]
    assert len(draw(generation=[*rows.generation(), *austen])) == 3
    one = [row for row in rows.generation() if row.get("sampler") == "random"][:1]
    assert len(draw(generation=one, curves=rows.curves()[:1], likelihood=[])) == 3
    hot = [{**row, "temperature": 0.7} for row in one]
    assert list(draw(generation=one + hot, curves=[])) == [
        "quality-steps.svg", "quality-throughput.svg", "quality-entropy.svg"]  # fmt: skip


def test_nothing_is_said_on_a_first_use(tmp_path):
    """A fresh font cache, warnings as errors, no display: the child must be silent."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); from report import test_plots; print(len(test_plots.draw()))"
    home = str(tmp_path)
    environment = {"PATH": "", "HOME": home, "XDG_CACHE_HOME": home, "XDG_CONFIG_HOME": home}
    command = [sys.executable, "-W", "error", "-c", code, str(TESTS)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("3\n", "")


@pytest.fixture
def panel():
    """One panel of a figure that is never saved."""
    from matplotlib.figure import Figure

    return Figure().add_subplot()


def test_ticks_are_the_steps_that_were_asked_for(panel):
    odd = [{**row, "nfe": 30} if row["sampler"] == "first-hitting" else row for row in rows.generation()]
    odd = [{**row, "steps": 32} if row["steps"] == 20 else row for row in odd]
    assert plots._quality_steps(panel, odd)
    assert list(panel.get_xticks()) == [5, 10, 32, 64], "32 is not lost to the 30 evaluations beside it"
    assert "logarithmic" in panel.get_xlabel()


def test_ticks_are_evaluations_where_nobody_was_asked_for_steps(panel):
    assert plots._quality_steps(panel, [row for row in rows.generation() if row["sampler"] == "first-hitting"])
    assert list(panel.get_xticks()) == [64]


def test_what_ignores_steps_and_schedules_is_drawn_once_under_an_oracle():
    oracle = next(row for row in rows.generation() if row.get("control") == "oracle" and row["steps"] == 64)
    twice = [{**oracle, "schedule": s, "sampler": "threshold", "steps": None, "nfe": 18} for s in ("linear", "cosine")]
    points, _ = plots._points(twice)
    assert plots._once(points) == points[:1]
    trained = [{**row, "control": None, "family": "mdlm"} for row in twice]
    assert len(plots._once(plots._points(trained)[0])) == 2, "two networks"
    other = [twice[0], {**twice[1], "oracle_valid_rate": 0.5}]
    assert len(plots._once(plots._points(other)[0])) == 2, "the schedule does something"
    asked = [{**row, "steps": 18} for row in twice]
    assert len(plots._once(plots._points(asked)[0])) == 2


def test_horizontal_bars_are_the_intervals_of_the_speed():
    row = next(row for row in rows.generation() if row.get("sampler") == "random")
    points, _ = plots._points([row, {**row, "tokens_per_second_se": None}, {**row, "tokens_per_second_se": row["tokens_per_second"]}])
    below, above = plots._spreads(points)
    wide = math.exp(statistics.quantile(4) / 60)
    assert (points[0].speed - below[0]) * wide == pytest.approx(points[0].speed) == (points[0].speed + above[0]) / wide
    assert below[1] == above[1] == 0
    assert below[2] < points[2].speed, "the axis is logarithmic"


def test_the_throughput_axis_says_that_it_is_logarithmic_and_every_line_has_its_spread(panel, monkeypatch):
    given = []
    monkeypatch.setattr(panel, "errorbar", lambda x, y, yerr, xerr, **_: given.append((x, xerr)))
    assert plots._quality_throughput(panel, rows.generation())
    assert given and all(len(low) == len(high) == len(x) and min(low) > 0 for x, (low, high) in given)
    assert "logarithmic" in panel.get_xlabel()


def test_the_floor_of_the_curves_is_that_of_their_own_sequences(panel):
    known = [{**row, "validation_truth_nats_per_token": 0.2031} for row in rows.curves()]
    assert plots._loss_curves(panel, known, rows.likelihood())
    assert [line.get_ydata()[0] for line in panel.lines if line.get_linestyle() == "--"] == [0.2031]
    said = [text.get_text() for text in panel.get_legend().get_texts()]
    assert said == ["model", "mdlm · linear (≤ bound)", "mdlm · cosine (≤ bound)", "autoregressive (exact)", "floor",
                    "truth of the last point's sequences"]  # fmt: skip


def test_the_floor_is_that_of_the_point_with_the_most_sequences(panel):
    known = [{**row, "validation_sequences": 256 if row["train_step"] == 600 else 64,
              "validation_truth_nats_per_token": 0.21 if row["train_step"] == 600 else 0.2} for row in rows.curves()]
    assert plots._loss_curves(panel, known, rows.likelihood())
    assert [line.get_ydata()[0] for line in panel.lines if line.get_linestyle() == "--"] == [0.21]


def test_a_point_on_other_sequences_is_not_joined_to_the_curve(panel):
    own = [row for row in rows.curves() if row["schedule"] == "linear"]
    known = [{**row, "validation_sequences": 256 if row["train_step"] == 600 else 64, "validation_nats_per_token_se": 0.01}
             for row in own]  # fmt: skip
    assert plots._loss_curves(panel, known, rows.likelihood())
    (bar,) = panel.containers
    assert [len(line.get_xdata()) for line in panel.lines if line is not bar.lines[0]] == [11]
    assert bar.lines[0].get_xdata().tolist() == [600 * 4096] and len(bar.lines[2]) == 1, "with its interval"


def test_the_band_of_a_curve_is_the_widest_of_the_intervals_of_its_seeds(panel):
    own = [row for row in rows.curves() if row["schedule"] == "linear"]
    known = [{**row, "validation_nats_per_token_se": 0.01 * (1 + row["training_seed"])} for row in own]
    places, mean, low, high = plots._band(known)
    at = [row for row in known if row["train_tokens"] == places[3]]
    ends = [(row["validation_nats_per_token"], 1.96 * row["validation_nats_per_token_se"]) for row in at]
    assert len(at) == 2 and len(places) == 12 and mean[3] == pytest.approx(sum(nats for nats, _ in ends) / 2)
    assert (low[3], high[3]) == (min(nats - wide for nats, wide in ends), max(nats + wide for nats, wide in ends))
    assert plots._loss_curves(panel, known, rows.likelihood())
    assert len(panel.collections) == 1 and plots._band(own)[2][3] == min(row["validation_nats_per_token"] for row in at)


def test_the_truth_of_the_test_split_is_no_floor_of_the_curves(panel):
    assert plots._loss_curves(panel, rows.curves(), rows.likelihood())
    assert "floor" not in [text.get_text() for text in panel.get_legend().get_texts()]


def test_many_samplers_can_be_told_apart():
    looks = plot_style.looks_of([f"sampler {i}" for i in range(16)])
    assert len({look["color"] for look in looks.values()}) == 16
    shapes = {(look["marker"], look["markerfacecolor"] == "white") for look in looks.values()}
    assert len(shapes) == 16, "also without colours"


# ---- the frontier


def at_temperatures(table, temperatures=(0.6, 1.0)):
    """Each sampled row at several temperatures: colder writes less that differs, and pleases the judge."""
    hot = []
    for row in table:
        for heat in temperatures if row.get("temperature") else (None,):
            lower = 1 - (heat or 1)
            hot.append({**row, "temperature": heat, "judge_nats_per_token": row["judge_nats_per_token"] - 0.5 * lower,
                        "token_entropy": row["token_entropy"] - 0.3 * lower})  # fmt: skip
    return hot


def test_the_frontier_is_drawn_for_several_temperatures():
    few = [row for row in rows.generation() if row.get("sampler") in ("random", "autoregressive") or row.get("control")]
    drawn = draw(generation=at_temperatures(few), curves=[])
    assert list(drawn) == ["quality-steps.svg", "quality-throughput.svg", "quality-entropy.svg"]
    assert draw(generation=at_temperatures(few), curves=[]) == drawn
    unjudged = [{**row, "judge_nats_per_token": None} for row in at_temperatures(few)]
    assert "quality-entropy.svg" not in draw(generation=unjudged, curves=[])


def test_the_frontier_has_a_panel_for_each_number_of_steps_and_what_ignores_them_is_in_all():
    pooled = [{**row, "seeds": 1} for row in at_temperatures(rows.generation())]
    placed = plot_entropy.by_steps(pooled)
    assert {row["at"] for row in placed} == {"5 steps", "10 steps", "20 steps", "64 steps"}
    for at in {row["at"] for row in placed}:
        own = [row for row in placed if row["at"] == at]
        assert {"first-hitting", "autoregressive"} <= {row["sampler"] for row in own}
        assert "data" in {row.get("control") for row in own}
        assert {row["steps"] for row in own} - {None} == {int(at.split()[0])}
    assert plot_entropy.by_steps(rows.generation()) == []
    alone = [row for row in pooled if row.get("sampler") == "first-hitting"]
    assert {row["at"] for row in plot_entropy.by_steps(alone)} == {""}


def test_a_line_of_the_frontier_goes_through_its_temperatures_in_order():
    seen = []

    class Axes:
        def __getattr__(self, name):
            return lambda *given, **_: seen.append((name, *given)) or self

    pooled = [row for row in at_temperatures(rows.generation(), (1.0, 0.6, 0.8)) if row.get("sampler") == "margin"]
    (line,) = {(row["steps"], row["schedule"]) for row in pooled if row["steps"] == 5 and row["schedule"] == "linear"}
    own = [row for row in pooled if (row["steps"], row["schedule"], row["training_seed"]) == (*line, 0)]
    plot_entropy._draw(Axes(), sorted(own, key=lambda row: row["temperature"]), color="red", marker="o", linestyle="-")
    (_, entropies, nats, *_), = seen
    assert entropies == sorted(entropies) and nats == sorted(nats) and len(nats) == 3


# ---- paired differences


def differences(pairs):
    rng = np.random.default_rng(0)
    world = {"corpus": "tales", "tokenizer": "word", "kind": "bound"}
    return [{**world, "pair": f"a {i} − b", "difference": value} for i in range(pairs) for value in rng.normal(i, 0.1, 40)]


def test_each_pair_is_a_violin_around_its_mean(panel):
    rows = differences(3)
    assert plot_differences.differences(panel, rows)
    (means,) = [line for line in panel.lines if line.get_marker() == "D"]
    assert means.get_xdata() == pytest.approx([np.mean([r["difference"] for r in rows[i * 40 : i * 40 + 40]]) for i in range(3)])
    assert [text.get_text() for text in panel.get_yticklabels()] == ["a 0 − b", "a 1 − b", "a 2 − b"]
    assert "below 0: the first is better" in panel.get_xlabel()


def test_differences_are_drawn_where_there_are_pairs_and_not_for_too_many():
    assert "differences.svg" in draw(differences=differences(2)) and "differences.svg" not in draw()
    assert not plot_differences.differences(None, [])


def test_many_pairs_are_cut(panel):
    assert plot_differences.differences(panel, differences(plot_differences.MOST_PAIRS + 3))
    assert len(panel.get_yticklabels()) == plot_differences.MOST_PAIRS

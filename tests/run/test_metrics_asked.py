"""Metrics are asked for: cells of their own, which make nothing else again; MAUVE where its extra is installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from mist_bench_plugins import metric_mauve
from mist_bench_plugins.metric_mauve import MauveMetric

from harness.commands import in_process, run_command
from harness.experiments import bench_of, experiment, silent
from harness.tiny_models import folder_like, gpt2
from mist_bench import UserError, cli
from mist_bench.host.registry import Registry
from mist_bench.measure import controls
from mist_bench.report import columns, files, tables
from mist_bench.report.rows import Finished, read_rows
from mist_bench.run.cells import Entry
from mist_bench.run.grid import lay_out
from mist_bench.run.kinds.metric import MetricCell
from mist_bench.testing import Subject, checks_of

PLUGIN = """
from dataclasses import dataclass
from mist_bench import Metric, UserError, hookimpl, parameter

@dataclass(frozen=True, kw_only=True)
class Letters(Metric):
    '''How often a letter occurs in the samples, less in the held-out text.'''
    name = "letters"
    letter: str = parameter("a", "which")

    def measure(self, texts, references):
        ours, theirs = ("".join(side).count(self.letter) for side in (texts, references))
        return {"letters": ours - theirs, "letters_se": 0.5, "letters_here": len(references)}

class Taken(Metric):
    '''Gives a column that there is.'''
    name = "taken"

    def measure(self, texts, references):
        return {"nfe": -1.0}

class Absent(Metric):
    '''Needs what is not there.'''
    name = "absent"

    def identity(self):
        raise UserError("metric 'absent' needs the moon; type: mist-bench moon")

    def measure(self, texts, references):
        raise AssertionError("must not be asked")

@hookimpl
def mist_bench_metrics():
    yield from (Letters, Taken, Absent)
"""


@pytest.fixture
def plugin(tmp_path):
    file = tmp_path / "letters.py"
    file.write_text(PLUGIN)
    return file


def asked(registry, metrics=None):
    return experiment(registry=registry, settings=[] if metrics is None else [f"generation.metrics={metrics}"])


def laid(registry, metrics=None):
    return lay_out(asked(registry, metrics))


def hashes(cells, *, metric):
    return {cell.hash for cell in cells if (cell.kind == "metric") == metric}


# ---- what is asked for


def test_no_metric_is_measured_unless_it_is_named(plugin):
    registry = Registry.discover([plugin])
    assert {"letters", "mauve"} <= set(registry.names("metric"))
    assert not hashes(laid(registry), metric=True) and not hashes(laid(registry, "none"), metric=True)


def test_a_metric_adds_a_cell_for_each_generation_and_changes_none(plugin):
    registry = Registry.discover([plugin])
    before, one, two = (laid(registry, names) for names in ("none", "letters", "letters,letters[letter=b]"))
    assert hashes(before, metric=False) == hashes(one, metric=False) == hashes(two, metric=False)
    generations = {cell.hash for cell in one if cell.file == "generation" and not cell.adds}
    assert {cell.needs for cell in one if cell.kind == "metric"} == {(hash,) for hash in generations}
    assert hashes(one, metric=True) < hashes(two, metric=True)
    assert hashes(laid(registry, "letters[letter=a],letters"), metric=True) == hashes(one, metric=True)
    plugin.write_text(PLUGIN + "# edited\n")
    edited = laid(Registry.discover([plugin]), "letters")
    assert hashes(edited, metric=True).isdisjoint(hashes(one, metric=True))


def test_references_are_held_out_and_not_those_of_the_data_row():
    class Split:
        def __init__(self, first, count):
            self.tokens = np.arange(first, first + count)[:, None].repeat(3, axis=1)

    class Data:
        train, test, validation = Split(0, 50), Split(100, 10), Split(200, 8)

    for count, wanted in ((4, [104, 105, 106, 107]), (7, [107, 108, 109, 200, 201, 202, 203]),
                          (12, [*range(200, 208)]), (9, [109, *range(200, 208)])):  # fmt: skip
        found = controls.references(Data, count)[:, 0]
        assert found.tolist() == wanted
        assert not set(found) & set(controls.sequences("data", Data, None, count)[:, 0])


@pytest.fixture
def measured(plugin, monkeypatch, tmp_path):
    """The control rows of the grid with two metrics and one that names a column that there is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    registry = Registry.discover([plugin])
    bench = bench_of(asked(registry, "letters,letters[letter=b],taken"), tmp_path / "store")
    cells = lay_out(bench.experiment)
    for cell in cells:
        if cell.kind in ("control", "metric") and cell.labels.get("control") and not cell.labels.get("sampler"):
            bench.store.write(cell.hash, cell.make(bench, silent))
    return bench, read_rows(Finished.of([cell.entry for cell in cells], bench.store), 4)["generation"]


def test_metrics_give_columns_and_replace_none(measured):
    bench, rows = measured
    assert {row["control"] for row in rows} == {"data", "unigram", "repeater", "oracle"}
    data = next(row for row in rows if row["control"] == "data")
    ours, theirs = ("".join(bench.dataset.decode(row) for row in bench.dataset.test.tokens[part])
                    for part in (slice(64), slice(64, 128)))  # fmt: skip
    assert ours.count("a") != theirs.count("a")
    assert data["letters"] == ours.count("a") - theirs.count("a") and data["letters_here"] == 64
    assert data["letters[letter=b] letters"] == ours.count("b") - theirs.count("b")
    assert data.get("nfe") is None and data["taken nfe"] == -1
    header = files.to_csv(rows, columns.header_of("generation")).splitlines()[0].split(",")
    assert set(header) >= {"letters", "letters_se", "taken nfe", "metric_columns"}


def test_a_name_belongs_to_one_metric_in_every_row():
    """Also where the metric that has it failed: another's number must not take its column."""

    def entry(metric, about):
        return Entry(hash=metric + about, kind="metric", title="", labels={"metric": metric}, facts={"about": about})

    found = [(entry("x", "one"), {"columns": {"n": 1.0}}), (entry("x[a=2]", "one"), {"columns": {"n": 2.0}}),
             (entry("x[a=2]", "two"), {"columns": {"n": 3.0, "seeds": 4.0, "nfe": 5.0}})]  # fmt: skip
    rows = MetricCell.additions(found, {"nfe"})
    assert rows["one"] == {"n": 1.0, "x[a=2] n": 2.0, "metric_columns": "n; x[a=2] n"}
    names = ["x[a=2] n", "x[a=2] seeds", "x[a=2] nfe"]
    assert rows["two"] == {**dict(zip(names, (3.0, 4.0, 5.0), strict=True)), "metric_columns": "; ".join(names)}


ODD = """
from mist_bench import Metric, hookimpl

class Odd(Metric):
    name = "odd"
    def measure(self, texts, references):
        return {"odd": 1j}

class Words(Metric):
    name = "words"
    def measure(self, texts, references):
        return {"words": "many"}

class Down(Metric):
    name = "down"
    def measure(self, texts, references):
        raise OSError("net down")

class Nothing(Metric):
    name = "nothing"
    def measure(self, texts, references):
        return {"nothing": None}

@hookimpl
def mist_bench_metrics():
    yield from (Odd, Words, Down, Nothing)
"""


def test_an_odd_metric_fails_its_own_cells_and_not_the_run(tmp_path, capsys):
    file, out = tmp_path / "odd.py", tmp_path / "out"
    file.write_text(ODD)
    settings = ["generation.metrics=odd,words,down,nothing", "generation.judge=none"]
    given = ["--family", "oracle", "--schedule", "linear", "--sampler", "random", "--steps", "2", "--plugin", str(file)]
    assert cli.main(run_command(tmp_path / "store", out, *given, settings=settings)) == 1
    said = capsys.readouterr().err
    for message in ("metric 'odd': odd is 1j; give a finite float", "metric 'words': words is 'many'; give a finite float",
                    "metric 'down' raised OSError: net down", "metric 'nothing': nothing is None"):  # fmt: skip
        assert sum(message in line for line in said.splitlines() if line.startswith("failed: ")) == 5
    assert len(files.read_csv(out / "generation.csv")) == 5


def test_the_tables_show_them(measured):
    _, rows = measured
    shown = tables.markdown(tables.throughput_tables(rows))
    assert "| letters | letters[letter=b] letters |" in shown and "±0.50" in shown
    assert "letters_se" not in shown and "letters_here 64" in shown and "taken nfe -1" in shown
    assert "of metrics that were asked for (mist-bench ls metrics -v)" in shown
    plain = [{k: v for k, v in row.items() if k != "metric_columns"} for row in rows]
    assert "letters" not in tables.markdown(tables.throughput_tables(plain))


@pytest.mark.parametrize(
    ("metric", "message"),
    [("mauv", "unknown metric 'mauv'; did you mean 'mauve'?"), ("absent", "metric 'absent' needs the moon"),
     ("mauve[clusters=1]", "clusters is 0 or at least 2"), ("mauve[scale=0]", "scale above 0")],
)  # fmt: skip
def test_wrong_metrics_are_refused_before_anything_is_made(metric, message, plugin, tmp_path, capsys):
    settings = [f"generation.metrics={metric}"]
    assert in_process(*run_command(tmp_path / "s", tmp_path / "o", "--plugin", str(plugin), settings=settings)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and message in err
    assert not (tmp_path / "s").exists() and not (tmp_path / "o").exists()


def test_what_a_metric_lacks_skips_its_checks(plugin):
    registry = Registry.discover([plugin])
    subject = Subject(kind="metric", component=registry.make("metric", "absent"), registry=registry)
    found = [subject.run(check) for check in checks_of("metric")]
    assert {(result.status, result.message) for result in found} == {
        ("skipped", "metric 'absent' needs the moon; type: mist-bench moon")
    }


# ---- MAUVE without its extra


def hide(monkeypatch, *hidden):
    real = importlib.util.find_spec
    there = {"sklearn", "torch", "transformers"}
    monkeypatch.setattr(
        importlib.util, "find_spec",
        lambda name: None if name in hidden else name if name in there else real(name),
    )  # fmt: skip


@pytest.mark.parametrize("hidden", [["sklearn"], ["torch"]])
def test_without_the_extra_mauve_says_what_to_type_and_is_listed_all_the_same(hidden, monkeypatch, tmp_path, capsys):
    hide(monkeypatch, *hidden)
    settings = [f"generation.metrics=mauve[model={folder_like(tmp_path / 'm')}]"]
    assert in_process(*run_command(tmp_path / "s", tmp_path / "o", settings=settings)) == 2
    told = capsys.readouterr().err
    assert f"needs {hidden[0]}, which is not installed; type: pip install 'mist-bench[mauve]'" in told
    assert cli.main(["ls", "metrics"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("mauve[model=gpt2-large") and err == ""


def test_listing_metrics_loads_nothing_of_the_extra():
    program = (
        "import sys; from mist_bench import cli; cli.main(['ls', 'metrics'])\n"
        "print([m for m in ('sklearn', 'torch', 'transformers', 'tinygrad') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]" and done.stderr == ""


def test_the_model_and_the_parameters_are_its_identity(monkeypatch, tmp_path):
    hide(monkeypatch)
    one, other = folder_like(tmp_path / "one"), folder_like(tmp_path / "other", b"other weights")
    found = MauveMetric(model=str(one)).identity()
    assert found.keys() == {"name", "clusters", "scale", "tokens", "sha256"}
    assert MauveMetric(model=str(other)).identity() != found
    assert MauveMetric(model=str(one), clusters=9).identity() != found
    same = folder_like(tmp_path / "same")
    assert MauveMetric(model=str(same)).identity() == found


def enumerated(p, q, scale):
    """The area by definition, over a hundred thousand mixtures: what 25 of them come near."""
    with np.errstate(divide="ignore", invalid="ignore"):
        w = np.linspace(1e-9, 1 - 1e-9, 100_001)[:, None]
        r = w * p + (1 - w) * q
        x = np.exp(-scale * np.nansum(q * np.log(q / r), axis=1))
        y = np.exp(-scale * np.nansum(p * np.log(p / r), axis=1))
    x, y = np.append(x, 0.0)[::-1], np.append(y, 1.0)[::-1]  # whence the curve goes along x = 0
    return float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum())


@pytest.mark.parametrize("scale", [1.0, 5.0])
@pytest.mark.parametrize(
    ("p", "q"),
    [([0.5, 0.5], [0.4, 0.6]), ([0.2, 0.3, 0.5], [0.5, 0.25, 0.25]), ([0.5, 0.5, 0.0], [0.4, 0.4, 0.2]),
     ([0.7, 0.0, 0.3], [0.0, 0.6, 0.4])],
)  # fmt: skip
def test_the_area_is_that_of_the_curve(p, q, scale):
    found = metric_mauve.mauve(np.array(p), np.array(q), scale)
    # 25 trapezoids and the two ends lie above a convex curve or below a concave one, by little
    assert found == pytest.approx(enumerated(np.array(p), np.array(q), scale), abs=0.012)
    assert found == pytest.approx(metric_mauve.mauve(np.array(q), np.array(p), scale))


def test_the_ends_of_the_area():
    same, apart = np.array([0.25, 0.75]), (np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    assert metric_mauve.mauve(same, same, 5.0) == pytest.approx(1)
    assert metric_mauve.mauve(*apart, 5.0) < 0.01
    labels, ours = np.array([[0, 0, 1, 1, 0, 1, 0, 1]]), np.arange(8) < 4
    assert metric_mauve.areas(labels, ours, 5.0) == pytest.approx([1])
    assert metric_mauve.areas(labels[:, [0, 1, 4, 6, 2, 3, 5, 7]], ours, 5.0)[0] < 0.01


# ---- MAUVE with its extra


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    for library in ("torch", "transformers", "sklearn"):
        pytest.importorskip(library)
    return gpt2(tmp_path_factory.mktemp("models") / "tiny")


def test_it_keeps_the_promises_of_a_metric(tiny):
    subject = Subject(kind="metric", component=MauveMetric(model=str(tiny)), registry=Registry.discover())
    found = [subject.run(check) for check in checks_of("metric")]
    assert [(r.status, r.message) for r in found if r.status != "ok"] == []


def texts_of(rng, letters, count):
    return ["".join(rng.choice(list(letters), size=12)) for _ in range(count)]


def test_texts_of_one_law_are_at_the_ceiling_and_others_are_not(tiny):
    rng, metric = np.random.default_rng(0), MauveMetric(model=str(tiny))
    held_out = texts_of(rng, "abcdefgh", 60)
    alike = metric.measure(texts_of(rng, "abcdefgh", 60), held_out)
    other = metric.measure(texts_of(rng, "XYZ", 60), held_out)
    repeated = metric.measure(held_out[:1] * 60, held_out)
    assert list(alike) == ["mauve", "mauve_spread", "mauve_ceiling", "mauve_ceiling_low", "mauve_samples"]
    assert alike["mauve"] > alike["mauve_ceiling_low"]
    assert other["mauve"] < 0.8 * other["mauve_ceiling_low"] and repeated["mauve"] < 0.8 * repeated["mauve_ceiling_low"]
    assert all(0 < found["mauve_ceiling_low"] <= found["mauve_ceiling"] <= 1 for found in (alike, other, repeated))


def test_both_sides_have_as_many_and_say_how_many(tiny):
    rng, metric = np.random.default_rng(0), MauveMetric(model=str(tiny))
    texts, held_out = texts_of(rng, "abcd", 30), texts_of(rng, "abcd", 20)
    assert metric.measure(texts, held_out) == metric.measure(texts[:20], held_out)
    assert metric.measure(texts, held_out)["mauve_samples"] == 20
    assert metric.measure(["same"] * 8, ["same"] * 8)["mauve"] == pytest.approx(1)


def test_features_are_the_last_state_whatever_the_company(tiny):
    import torch
    from transformers import GPT2Model

    from mist_bench.run.experiment import judge_model

    model = judge_model(f"hf:{tiny}").load()
    found = model.features(["tale", "a longer tale of a frog", "", "x" * 99], 20)
    network = GPT2Model.from_pretrained(tiny).eval()
    for row, ids in ((0, model._tokens("tale")), (1, model._tokens("a longer tale of a f")), (2, [256])):
        with torch.no_grad():
            wanted = network(torch.tensor([ids])).last_hidden_state[0, -1].numpy()
        np.testing.assert_allclose(found[row], wanted, rtol=1e-4, atol=1e-4)


def test_the_area_of_a_histogram_is_that_of_mauve_text(tiny):
    reference = pytest.importorskip("mauve", exc_type=ImportError)
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=(200, 8)), rng.normal(size=(200, 8)) + np.eye(8)[0]
    out = reference.compute_mauve(p_features=p, q_features=q, num_buckets=10)
    assert metric_mauve.mauve(out.p_hist, out.q_hist, 5.0) == pytest.approx(out.mauve, abs=1e-9)
    labels = metric_mauve.clusterings(p, q, 10)
    ours = metric_mauve.areas(labels, np.arange(400) < 200, 5.0)
    theirs = [reference.compute_mauve(p_features=p, q_features=q, num_buckets=10, seed=s).mauve for s in range(5)]
    error = np.sqrt((np.var(ours, ddof=1) + np.var(theirs, ddof=1)) / 5)  # two implementations of k-means
    assert abs(ours.mean() - np.mean(theirs)) < 5 * error + 0.01


def test_a_command_without_metrics_is_answered_as_if_there_were_none(tiny, capsys):
    with pytest.raises(UserError, match="no folder"):
        MauveMetric(model="/no/folder").identity()
    assert cli.main(["ls", "metrics"]) == 0 and capsys.readouterr().err == ""

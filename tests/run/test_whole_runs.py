"""Whole runs on the smallest grid: files and rows, resume, kills, third-party plugins, failures."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mist_bench_plugins.corpus_markov import MarkovCorpus
from rich.console import Console

from harness import EXAMPLE, TESTS
from harness.commands import in_process, run_command
from harness.experiments import cells
from mist_bench.cli.show import show_samples
from mist_bench.host.registry import Registry
from mist_bench.measure import speed
from mist_bench.report import columns, files
from mist_bench.report.rows import Finished
from mist_bench.run import provenance
from mist_bench.run.cells import Entry

pytestmark = pytest.mark.slow
TABLES = ("training.csv", "likelihood.csv", "generation.csv", "curves.csv", "comparisons.csv", "samples.jsonl")
MEASURED = (
    "tokens_per_second", "tokens_per_second_iqr", "seconds", "seconds_per_batch", "compile_seconds", "wall_seconds",
    "peak_memory_bytes", "model_flops_utilization", "tokens_per_second_se", "tokens_per_second_low",
    "tokens_per_second_high", "speed_ratio_to_ar", "speed_ratio_to_ar_se",
)  # fmt: skip


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """One undisturbed run: its store and its folder."""
    folder = tmp_path_factory.mktemp("run")
    os.environ["MIST_BENCH_JOBS"] = "1"
    assert in_process(*run_command(folder / "store", folder / "out")) == 0
    return folder / "store", folder / "out"


def stable(out):
    """What a run says, without measured times and memory."""
    tables = {}
    for name in TABLES:
        if name.endswith("csv"):
            rows = files.read_csv(out / name)
            tables[name] = [{k: v for k, v in row.items() if k not in MEASURED} for row in rows]
        else:
            tables[name] = (out / name).read_text()
    return tables


def test_the_files_and_columns(finished):
    _, out = finished
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert names >= {*TABLES, "run.json", "tables.md", *(f"plots/{p}" for p in files.PLOTS if p != "quality-entropy.svg")}
    for name, wanted in (("training", columns.header_of("training")), ("likelihood", columns.header_of("likelihood")),
                          ("generation", columns.header_of("generation"))):  # fmt: skip
        assert (out / f"{name}.csv").read_text().splitlines()[0].split(",")[: len(wanted)] == list(wanted)
    run = json.loads((out / "run.json").read_text())
    assert run["configuration"]["corpus"] == "markov" and run["provenance"]["date"]


def test_the_rows_are_the_grid(finished):
    _, out = finished
    training, likelihood, generation = (
        files.read_csv(out / f"{n}.csv") for n in ("training", "likelihood", "generation")
    )
    assert {(r["family"], r["schedule"], r["training_seed"]) for r in training} == {
        ("autoregressive", None, 0), ("autoregressive", None, 1000), ("mdlm", "cosine", 0), ("mdlm", "linear", 0)
    } and len(training) == 4  # fmt: skip
    work = {r["family"]: r["train_flops_per_token"] for r in training}
    assert work["autoregressive"] > work["mdlm"], "with equal parameters, the baseline computes at every position"
    kinds = {(r["family"], r["kind"], r["estimator"]) for r in likelihood}
    assert kinds == {
        ("mdlm", "bound", "exact-k"), ("mdlm", "bound", "weighted"), ("oracle", "bound", "exact-k"),
        ("mdlm", "chain-rule", "chain-rule"), ("autoregressive", "exact", "chain-rule"), ("unigram", "exact", "chain-rule"),
    }  # fmt: skip
    assert all(r["nats_per_token_se"] > 0 and r["bits_per_byte"] > 0 for r in likelihood)
    masked = [r for r in generation if r["family"] in ("mdlm", "oracle") and r["sampler"]]
    assert len(masked) == 2 * 2 * 2 * 2
    assert {r["control"] for r in generation if not r["sampler"]} == {"data", "unigram", "repeater", "oracle"}
    assert all(r["judge_nats_per_token"] > 0 and r["samples"] == 64 for r in generation)
    assert all((r["law_distance"] is not None) == (r["family"] == "oracle" and bool(r["sampler"])) for r in generation)
    assert all(0 <= r["longest_overlap"] <= 4 for r in generation)
    shared = {r["control"]: r["longest_overlap"] for r in generation if not r["sampler"]}
    assert shared["repeater"] == shared["data"] == 4, "20 000 texts of 4 letters are all there are"
    timed = [r for r in generation if r["sampler"]]
    assert all(r["tokens_per_second_low"] < r["tokens_per_second"] < r["tokens_per_second_high"] for r in timed)
    assert all(r["timed_rounds"] == 2 and (r["speed_ratio_to_ar"] is None) == (r["causal"] == 1) for r in timed)
    assert all(r["tokens_per_second"] is None for r in generation if not r["sampler"])
    baseline = [r for r in generation if r["sampler"] == "autoregressive"]
    assert len(baseline) == 1 and baseline[0]["steps"] is None and baseline[0]["nfe"] == 4


def test_the_oracles_bound_meets_its_truth(finished):
    _, out = finished
    row = next(r for r in files.read_csv(out / "likelihood.csv") if r["family"] == "oracle")
    assert abs(row["nats_per_sequence"] / row["truth_nats_per_sequence"] - 1) < 0.1


def test_the_curves_know_the_truth_of_their_own_sequences(finished):
    _, out = finished
    texts = MarkovCorpus().load(out).validation[:256]
    ids = np.array([["abc".index(letter) for letter in text] for text in texts])
    each = -MarkovCorpus().oracle().log_probability(ids) / 4
    rows = files.read_csv(out / "curves.csv")
    measured = [row for row in rows if row["validation_nats_per_token"] is not None]
    last = {row["checkpoint"]: max(r["train_step"] for r in rows if r["checkpoint"] == row["checkpoint"]) for row in rows}
    for row in measured:
        count = 256 if row["train_step"] == last[row["checkpoint"]] else 64
        assert row["validation_sequences"] == count and row["validation_nats_per_token_se"] > 0
        assert row[columns.VALIDATION_TRUTH] == pytest.approx(each[:count].mean())
    assert measured and all(row[columns.VALIDATION_TRUTH] is None for row in rows if row not in measured)


def test_the_last_point_of_a_curve_agrees_with_the_table(finished):
    """Held-out sequences of two splits, under the truth each: the ratios differ by no more than both errors."""
    _, out = finished
    table = [row for row in files.read_csv(out / "likelihood.csv") if row["estimator"] == "exact-k" or row["kind"] == "exact"]
    curves = files.read_csv(out / "curves.csv")
    compared = 0
    for row in table:
        own = [point for point in curves if point["checkpoint"] == row["checkpoint"]]
        if row["checkpoint"] is None or not own:
            continue
        last, compared = max(own, key=lambda point: point["train_step"]), compared + 1
        truth = row["truth_nats_per_sequence"] / 4
        apart = last["validation_nats_per_token"] / last[columns.VALIDATION_TRUTH] - row["nats_per_token"] / truth
        error = np.hypot(last["validation_nats_per_token_se"], row["nats_per_token_se"]) / truth
        assert abs(apart) < 4 * error
    assert compared


def test_what_the_splits_share_is_in_the_description_of_the_run(finished):
    _, out = finished
    said = json.loads((out / "run.json").read_text())["splits"]
    known = set(MarkovCorpus().load(out).train)
    for name in ("validation", "test"):
        texts = getattr(MarkovCorpus().load(out), name)
        same = sum(text in known for text in texts)
        assert said[name] == {"sequences": len(texts), "left_out": 0.0, "same": same, "shifted": 0}
    assert said["train"] == {"sequences": 20_000, "left_out": 0.0}


def test_networks_are_compared_in_pairs(finished):
    _, out = finished
    found = files.read_csv(out / "comparisons.csv")
    pairs = [(r["kind"], r["schedule_a"], r["schedule_b"], r["sequences"], r["training_seeds"]) for r in found]
    assert pairs == [("bound", "linear", "cosine", 64, 1), ("chain-rule", "linear", "cosine", 32, 1)]
    by = {(r["kind"], r["schedule"]): r for r in files.read_csv(out / "likelihood.csv") if r["family"] == "mdlm"
          and r["estimator"] != "weighted"}  # fmt: skip
    for row in found:
        means = [by[(row["kind"], schedule)]["nats_per_token"] for schedule in ("linear", "cosine")]
        assert row["difference"] == pytest.approx(means[0] - means[1]) and 0 < row["p_value"] <= 1
    chain = by[("chain-rule", "linear")]
    assert chain["sequences"] == 32 and chain["bound_minus_chain_rule_se"] > 0
    assert all(by[key]["ratio_to_ar"] > 0.9 and by[key]["ratio_to_ar_se"] > 0 for key in by)


def test_a_second_run_makes_nothing_and_says_the_same(finished, tmp_path, capsys):
    store, out = finished
    assert in_process(*run_command(store, tmp_path, "--json")) == 0
    captured = capsys.readouterr()
    assert "[1/" not in captured.err
    assert stable(tmp_path) == stable(out)
    summary = json.loads(captured.out.splitlines()[-1])
    assert summary["failed"] == 0 and Path(summary["files"]["tables.md"]).is_file()


def test_speeds_of_another_commit_or_machine_are_named(finished, tmp_path, capsys, monkeypatch):
    """They stay in the store, and the tables that show them say whose they are."""
    store, out = finished
    now = provenance.stamp()
    monkeypatch.setattr(provenance, "stamp", lambda: {**now, "commit": "another", "cores": 64})
    assert in_process(*run_command(store, tmp_path)) == 0
    said = capsys.readouterr().err.replace("\n", " ")
    count = sum(row["tokens_per_second"] is not None for name in ("training.csv", "generation.csv")
                for row in files.read_csv(out / name))  # fmt: skip
    line = f"speeds of an earlier run: {count} by commit {now['commit']}, cores {now['cores']}, of {count}"
    assert line in said and line in (tmp_path / "tables.md").read_text()
    assert "speeds of an earlier run" not in (out / "tables.md").read_text()


def test_one_more_sampler_trains_nothing(finished, tmp_path, capsys):
    store, _ = finished
    assert in_process(*run_command(store, tmp_path, "--sampler", "random,margin", "--steps", "4")) == 0
    said = capsys.readouterr().err
    assert "training" not in said.replace("(training seed", "") and "margin" in said
    samplers = {r["sampler"] for r in files.read_csv(tmp_path / "generation.csv")}
    assert samplers == {None, "random", "margin", "autoregressive"}
    assert "] speed of 9 generations in turn: 9 timed" in said, "old rows and the baseline are timed again beside the new"


def test_a_target_draws_more_masks_and_says_where_they_do_not_help(finished, tmp_path, capsys):
    store, out = finished
    before = {r["schedule"]: r for r in files.read_csv(out / "likelihood.csv") if r["estimator"] == "exact-k"
              and r["family"] == "mdlm"}  # fmt: skip
    assert in_process(*run_command(store, tmp_path, "--target-se", "1e-4", "--sampler", "random", "--steps", "4")) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "target of ±0.0001 nats/token not reached: mdlm linear exact-k" in said
    assert "its 64 sequences alone leave" in said
    for row in files.read_csv(tmp_path / "likelihood.csv"):
        if row["estimator"] == "exact-k" and row["family"] == "mdlm":
            assert row["mask_draws"] in range(8, 65, 4) and row["nats_per_token_se_limit"] > 0
            # what the sequences alone leave stays; an error of 64 sequences is itself known to 1 / sqrt(2 * 63) = 9 %
            assert row["nats_per_token_se"] < 1.27 * before[row["schedule"]]["nats_per_token_se"]
            assert row["nats_per_token"] != before[row["schedule"]]["nats_per_token"], "more masks, another estimate"
        else:
            assert row["nats_per_token_se_limit"] is None


def test_hashes_do_not_depend_on_the_order_of_names():
    def hashes(**given):
        return {cell.hash for cell in cells(**given)}

    assert hashes(samplers="random,confidence", steps="2,4") == hashes(samplers="confidence,random", steps="4,2")
    assert hashes(steps="2,4") != hashes(steps="2,5")


def test_dry_run_writes_nothing(tmp_path, capsys):
    assert in_process(*run_command(tmp_path / "store", tmp_path / "out", "--dry-run")) == 0
    assert "would be made" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_rerun_all_gives_the_same_numbers(finished, tmp_path):
    store, out = finished
    assert in_process(*run_command(tmp_path / "store", tmp_path / "one", "--rerun", "all")) == 0
    assert stable(tmp_path / "one") == stable(out)


def spawn(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "mist_bench", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, **environment}, cwd=TESTS,
    )  # fmt: skip


def wait_for(condition, process):
    for _ in range(3000):
        if condition():
            return
        if process.poll() is not None:
            raise AssertionError(f"the run ended by itself: {process.stdout.read()}")
        time.sleep(0.02)
    raise AssertionError("nothing happened")


KILLED_IN_A_CELL = """
import os, signal
from mist_bench.run.kinds import kind_named
kind, calls = kind_named("{kind}"), []
real = kind.make

def killed(cell, bench, progress):
    record = real(cell, bench, progress)
    calls.append(cell)
    if len(calls) == {number}:
        os.kill(os.getpid(), signal.SIGKILL)
    return record

kind.make = killed
"""

KILLED_WHILE_WRITING = """
import os, signal
real, calls = os.replace, []

def replace(source, target):
    calls.append(target)
    if len(calls) == {number}:
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)

os.replace = replace
"""


def test_a_run_that_is_stopped_again_and_again_ends_as_the_undisturbed_one(finished, tmp_path):
    """One store through every kind of stop: an interrupt and a kill in training, kills in the n-th rename (the file stays
    a temporary one, which nothing reads), and kills in cells of each later kind, some of which are made by then."""
    _, undisturbed = finished
    store, out, killer = tmp_path / "store", tmp_path / "out", tmp_path / "killer.py"

    def saved():
        return {path.name: path.stat().st_mtime_ns for path in store.glob("checkpoints/*-partial.safetensors")}

    def stopped_in_training(stop):
        before = saved()
        process = spawn(*run_command(store, out), MIST_BENCH_JOBS="1")
        wait_for(lambda: saved().items() - before.items(), process)
        process.send_signal(stop)
        said, _ = process.communicate()
        assert not (out / "tables.md").exists()
        return process.returncode, said

    def killed(code):
        killer.write_text(code)
        process = spawn(*run_command(store, out), MIST_BENCH_PLUGINS=str(killer), MIST_BENCH_JOBS="1")
        said, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL, said
        assert not out.exists()

    status, said = stopped_in_training(signal.SIGINT)
    assert status == 130 and "Traceback" not in said and "goes on from there" in said
    assert stopped_in_training(signal.SIGKILL)[0] == -signal.SIGKILL
    for number in (5, 11):
        killed(KILLED_WHILE_WRITING.format(number=number))
    planned = cells()
    for kind, number in (("likelihood", 3), ("generation", 6), ("judgement", 4)):
        killed(KILLED_IN_A_CELL.format(kind=kind, number=number))
        mine = [store / "cells" / f"{cell.hash}.json" for cell in planned if cell.kind == kind]
        assert 0 < sum(path.exists() for path in mine) < len(mine)
    assert in_process(*run_command(store, out)) == 0
    assert stable(out) == stable(undisturbed)
    assert not saved(), "a partial checkpoint is left"


def test_side_by_side_gives_the_same(finished, tmp_path, monkeypatch):
    _, undisturbed = finished
    process = spawn(*run_command(tmp_path / "store", tmp_path / "out"), MIST_BENCH_JOBS="2")
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert stable(tmp_path / "out") == stable(undisturbed)


def test_a_loose_plugin_makes_rows(finished, tmp_path):
    store, _ = finished
    arguments = ["--plugin", str(EXAMPLE / "mist_bench_example.py"), "--sampler", "right-to-left,random", "--steps", "4", "--family", "oracle"]
    assert in_process(*run_command(store, tmp_path, *arguments)) == 0
    rows = files.read_csv(tmp_path / "generation.csv")
    assert {row["sampler"] for row in rows} >= {"right-to-left", "random"}


def test_an_edited_plugin_does_not_reuse_old_results(tmp_path):
    def hashes(text):
        file = tmp_path / "edited.py"
        file.write_text(text)
        found = cells(registry=Registry.discover([file]), samplers="right-to-left", families="oracle")
        return {cell.hash for cell in found if cell.labels.get("sampler") == "right-to-left"}

    text = (EXAMPLE / "mist_bench_example.py").read_text()
    assert hashes(text).isdisjoint(hashes(text + "\n# edited\n"))


BROKEN = """
from mist_bench import Sampler, UserError, hookimpl

class Broken(Sampler):
    '''Fails at its first step.'''
    name = "broken"

    def nfe(self, steps, to_fill):
        return steps

    def step(self, view, state):
        raise RuntimeError("this sampler is broken")

class Mistyped(Broken):
    name = "mistyped"

    def step(self, view, state):
        return view.tokens if veiw.step else view.tokens

class Looked(Broken):
    name = "looked"

    def step(self, view, state):
        return {}["oops"]

class Refused(Broken):
    name = "refused"

    def step(self, view, state):
        raise UserError("give it another text")

@hookimpl
def mist_bench_samplers():
    yield from (Broken, Mistyped, Looked, Refused)
"""


def test_a_cell_that_fails_is_named_and_the_rest_goes_on(finished, tmp_path, capsys):
    store, _ = finished
    file = tmp_path / "broken.py"
    file.write_text(BROKEN)
    samplers = "broken,mistyped,looked,refused,random"
    given = ["--plugin", str(file), "--sampler", samplers, "--family", "oracle", "--schedule", "linear", "--steps", "4"]
    arguments = run_command(store, tmp_path / "out", *given)
    assert in_process(*arguments) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    failed = [line.removeprefix("failed: ") for line in said.splitlines() if line.startswith("failed: ")]
    assert failed[:4] == [
        "generation oracle linear broken at 4 steps: raised RuntimeError at broken.py:12: this sampler is broken",
        "generation oracle linear mistyped at 4 steps: raised NameError at broken.py:18: name 'veiw' is not defined",
        "generation oracle linear looked at 4 steps: raised KeyError at broken.py:24: 'oops'",
        "generation oracle linear refused at 4 steps: give it another text",
    ]
    assert failed[4] == (
        "judgement of oracle linear broken at 4 steps: needs generation oracle linear broken at 4 steps, which failed"
    )
    samplers = {row["sampler"] for row in files.read_csv(tmp_path / "out" / "generation.csv")}
    assert "random" in samplers and "broken" not in samplers


def test_a_training_that_fails_beside_others_says_where(finished, tmp_path):
    """In a process of its own."""
    file = tmp_path / "broken.py"
    file.write_text(
        "from mist_bench import hookimpl\n"
        "from mist_bench_plugins.family_mdlm import MdlmFamily\n"
        "class Broken(MdlmFamily):\n    name = 'broken'\n\n"
        "    def create(self, *arguments, **named):\n        return [][0]\n\n"
        "@hookimpl\ndef mist_bench_families():\n    yield Broken\n"
    )
    given = ["--plugin", str(file), "--family", "broken,autoregressive", "--schedule", "linear"]
    process = spawn(*run_command(tmp_path / "store", tmp_path / "out", *given), MIST_BENCH_JOBS="2")
    said, _ = process.communicate()
    assert process.returncode == 1
    assert "failed: training broken linear (training seed 0): raised IndexError at broken.py:7: list index" in said


def test_tables_of_another_run_are_not_replaced_in_silence(finished, tmp_path, capsys):
    store, _ = finished
    more = ["--family", "oracle", "--sampler", "random"]
    assert in_process(*run_command(store, tmp_path, *more)) == 0
    assert in_process(*run_command(store, tmp_path, *more)) == 0
    assert "another run" not in capsys.readouterr().err
    assert in_process(*run_command(store, tmp_path, *more, "--steps", "4", "--dry-run")) == 0
    assert "another run" not in capsys.readouterr().err
    assert in_process(*run_command(store, tmp_path, *more, "--steps", "4")) == 0
    first, said, *others = capsys.readouterr().err.strip().split("\n")  # in one line, whatever else the run says
    assert first.startswith("device CPU (") and said.endswith("writes them again)") and not any("tables" in line for line in others)
    assert said.startswith(f"the tables in {tmp_path} are of another run and are replaced; a different --out DIR keeps them")
    (tmp_path / "run.json").write_text("[]")
    assert in_process(*run_command(store, tmp_path, *more)) == 0
    assert "another run" not in capsys.readouterr().err


def test_every_line_of_a_sample_is_indented(capsys):
    entry = Entry(hash="a", kind="generation", title="mdlm", labels={"family": "mdlm", "sampler": "random"})
    records = {"a": {"nfe": 4, "texts": ["One day a cat sat.\n\nThe end\x1b[2J."]}}
    show_samples(Finished(entries=(entry,), records=records), Console(width=12))
    assert capsys.readouterr().out == "mdlm:\n  One day a\n  cat sat.\n\n  The\n  end\ufffd[2J.\n\n"


def clocks(monkeypatch, others):
    """Two seconds on two cores for the rounds, half of it ours."""
    now = iter(range(100))
    monkeypatch.setattr(speed, "cores", lambda: {0, 1})
    monkeypatch.setattr(speed, "_clocks", lambda: (2.0 * (i := next(now)), (2 + 4 * others) * i, 2.0 * i))


@pytest.mark.parametrize(("others", "said"), [(0.02, ""), (0.3, "other processes took 30% of its 2 cores")])
def test_times_of_a_busy_machine_are_said_to_be_none(finished, tmp_path, capsys, monkeypatch, others, said):
    store, out = finished
    given = ["--family", "oracle", "--sampler", "margin", "--steps", "3"]
    clocks(monkeypatch, others)
    assert in_process(*run_command(tmp_path / "store", tmp_path / "out", *given)) == 0
    shown = capsys.readouterr().err.strip().splitlines()
    assert (said in shown[-1]) and sum("machine was busy" in line for line in shown) == bool(said)
    assert in_process(*run_command(tmp_path / "store", tmp_path / "out", *given)) == 0, "and now nothing is timed"
    assert "machine was busy" not in capsys.readouterr().err


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux says who used the cores")
def test_what_others_take_is_seen_and_ours_is_not(monkeypatch):
    monkeypatch.setattr(speed, "timings", [])
    with speed.watched():
        [sum(range(1000)) for _ in range(60_000)]
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        with speed.watched():
            time.sleep(1.5)
    finally:
        other.kill()
        other.wait()
    (had, alone), (_, disturbed) = speed.timings
    assert alone < had - 0.3, "what we compute ourselves is not of others"
    assert disturbed > 0.5 and "machine was busy" in speed.busy()

"""Plugins that misbehave: each fails its own cells in one line with its file and line, and the rest of the run is whole."""

import errno
import re

import pytest

from harness.commands import in_process, run_command
from mist_bench.report import files

SAMPLERS = '''
import sys
from dataclasses import dataclass
from tinygrad import Tensor
from mist_bench import ScoreSampler, hookimpl, parameter

class Odd(Exception):
    """An exception of the plugin's own."""

def host(view):
    return float(view.margin.sum().item())

def own(view):
    raise Odd("no luck")

def leaves(view):
    sys.exit(3)

def stops(view):
    next(iter(()))

def full(view):
    raise OSError(5, "a disk error")

@dataclass(frozen=True, kw_only=True)
class Bad(ScoreSampler):
    name = "bad"
    how: str = parameter("", "what is wrong")

    def scores(self, view):
        if self.how == "nan":
            return view.margin * float("nan")
        return globals()[self.how](view)

@dataclass(frozen=True, kw_only=True)
class Shape(ScoreSampler):
    name = "shape"
    how: str = parameter("", "what is wrong")

    def scores(self, view):
        return view.margin

    def step(self, view, state):
        after, state = super().step(view, state)
        if self.how == "row":
            return after[:1], state
        if self.how == "float":
            return after.float(), state
        if self.how == "id":
            return (after * 0 + 99).int(), state
        return {"alone": after, "list": after.shape}[self.how], state if self.how == "list" else state

@hookimpl
def mist_bench_samplers():
    return [Bad, Shape]
'''
SAID = {
    "bad[how=host]": r"raised JitError at bad.py:\d+: .*; a step is captured once: tensor operations only",
    "bad[how=own]": r"raised Odd at bad.py:\d+: no luck",
    "bad[how=leaves]": r"raised SystemExit at bad.py:\d+: 3",
    "bad[how=stops]": r"raised StopIteration at bad.py:\d+",
    "bad[how=full]": r"raised OSError at bad.py:\d+: \[Errno 5\] a disk error",
    "bad[how=nan]": r"sampler 'bad\[how=nan\]' gives -1 as a token; its scores are not numbers",
    "shape[how=row]": r"step gives tokens of dtypes.int \(1, 4\); give int \(\d+, 4\), e.g. reveal.where",
    "shape[how=float]": r"step gives tokens of dtypes.float \(\d+, 4\); give int",
    "shape[how=id]": r"gives 99 as a token; tokens are 0 to 3",
    "shape[how=list]": r"step gives tokens of tuple; give int",
}


@pytest.fixture
def worlds(tmp_path):
    """`run(...)`: status and rows of generation.csv of a run under the oracle alone."""

    def run(*words, settings=()):
        given = ["--family", "oracle", "--schedule", "linear", "--steps", "2", *words]
        quick = ["generation.judge=none", "generation.oracle_samples=32", "likelihood.sequences=16", *settings]
        status = in_process(*run_command(tmp_path / "store", tmp_path / "out", *given, settings=quick))
        out = tmp_path / "out" / "generation.csv"
        return status, [row["sampler"] for row in files.read_csv(out) if row["sampler"]] if out.exists() else []

    return run


def test_whatever_a_sampler_raises_or_gives_costs_its_own_row(worlds, tmp_path, capsys):
    plugin = tmp_path / "bad.py"
    plugin.write_text(SAMPLERS)
    given = "--plugin", str(plugin), "--sampler", ",".join([*SAID, "random"])
    assert worlds(*given) == (1, ["random"])
    said = capsys.readouterr().err
    assert "Traceback" not in said
    lines = {name: [line for line in said.splitlines() if line.startswith(f"failed: generation oracle linear {name} ")]
             for name in SAID}  # fmt: skip
    for name, pattern in SAID.items():
        assert len(lines[name]) == 1 and re.search(pattern, lines[name][0]), (name, lines[name])
    assert worlds(*given) == (1, ["random"])
    assert capsys.readouterr().err.count("in an earlier run; --rerun failed tries again") == len(SAID), "none is tried twice"


SCHEDULES = '''
from dataclasses import dataclass
import numpy as np
from mist_bench import Schedule, hookimpl, parameter

@dataclass(frozen=True, kw_only=True)
class Bad(Schedule):
    name = "wrong"
    how: str = parameter("", "what is wrong")

    def alpha(self, t):
        rising = {"nan": t * np.nan, "constant": t * 0 + 0.5, "rising": t, "wavy": 1 - t + 0.6 * np.sin(12 * t) * t * (1 - t)}
        return rising[self.how]

    def dalpha(self, t):
        return np.full_like(t, -1.0)

@hookimpl
def mist_bench_schedules():
    yield Bad
'''


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("nan", r"alpha\(t\) is not finite inside \(0, 1\)"),
        ("constant", r"alpha\(0\) = 0.5 and alpha\(1\) = 0.5; alpha falls"),
        ("rising", r"alpha\(0\) = 0 and alpha\(1\) = 1; alpha falls"),
        ("wavy", r"alpha does not fall at t = 0\.\d+; a token that is masked stays masked"),
    ],
)
def test_a_schedule_that_cannot_be_trains_nothing_and_samples_nothing(worlds, tmp_path, capsys, how, said):
    plugin = tmp_path / "wrong.py"
    plugin.write_text(SCHEDULES)
    words = "--plugin", str(plugin), "--schedule", f"wrong[how={how}],linear", "--sampler", "random"
    status, rows = worlds(*words, "--family", "mdlm,oracle", "--launcher", "local[processes=1]",
                          settings=["training.train_steps=2", "training.validate_every=2"])  # fmt: skip
    found = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed: ")]
    assert status == 1 and len(rows) == 2, "linear has its rows"
    assert re.search(rf"^failed: training mdlm wrong\[how={how}\] .*: schedule 'wrong\[how={how}\]': {said}", "\n".join(found), re.M)
    assert sum("needs training" in line or re.search(said, line) is not None for line in found) == len(found)


def test_a_full_disk_keeps_what_is_there_and_is_tried_again(worlds, tmp_path, capsys, monkeypatch):
    from mist_bench.run.store import Store

    real = Store.write

    def write(self, hash, record):
        if "nfe" in record:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, hash, record)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", write)
        assert worlds("--sampler", "random") == (1, [])
    said = capsys.readouterr()
    assert "a disk is full; free some space, where the store is or the temporary files are, and run it again" in said.err
    assert "perplexity" in said.out, "the rest is shown"
    assert worlds("--sampler", "random") == (0, ["random"])


def test_no_room_for_the_files_still_shows_the_tables(worlds, tmp_path, capsys, monkeypatch):
    assert worlds("--sampler", "random") == (0, ["random"])
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    capsys.readouterr()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("mist_bench.report.files.write_together", full)
        assert worlds("--sampler", "random,confidence")[0] == 1
    said = capsys.readouterr()
    assert "confidence" in said.out and "cannot be written to" in said.err and "which is as it was" in said.err
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}


def test_a_plugin_that_leaves_while_it_is_asked_is_named(tmp_path, capsys):
    plugin = tmp_path / "leaves.py"
    plugin.write_text("import sys\nfrom mist_bench import Metric, hookimpl\n\nclass Leaves(Metric):\n    name = 'leaves'\n"
                      "    def identity(self):\n        sys.exit(3)\n    def measure(self, texts, references): ...\n\n"
                      "@hookimpl\ndef mist_bench_metrics():\n    yield Leaves\n")  # fmt: skip
    words = run_command(tmp_path / "store", tmp_path / "out", "--plugin", str(plugin), settings=["generation.metrics=leaves"])
    assert in_process(*words) == 1
    assert re.search("^mist-bench: error: SystemExit at leaves.py:7: 3", capsys.readouterr().err, re.M)

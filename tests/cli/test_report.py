"""`mist-bench report`: a finished run again, from its run.json and the store alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from harness import GRID
from mist_bench import cli
from mist_bench.run.store import Store


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    given = ["--family", "oracle", "--schedule", "linear", "--sampler", "random,margin", "--steps", "2"]
    given += ["--set", "generation.judge=none"]
    command = ["run", "--preset", GRID, "--store", str(folder / "store"), "--out", str(folder / "out"), *given]
    assert cli.main(command) == 0
    return folder, command


def test_it_shows_what_the_run_showed(finished, capsys):
    folder, command = finished
    assert cli.main(command) == 0
    shown = capsys.readouterr().out.partition("files in ")[0]
    assert cli.main(["report", str(folder / "out")]) == 0
    assert capsys.readouterr().out == shown and "Perplexity bounds: markov" in shown


def test_it_needs_no_corpus_no_device_and_no_plugin(finished):
    folder, _ = finished
    program = (
        "import sys; from mist_bench import cli\n"
        f"assert cli.main(['report', {str(folder / 'out')!r}]) == 0\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "print([name for name in ('tinygrad', 'datasets', 'pandas', 'matplotlib', 'mist_bench_plugins') if name in loaded])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


def test_the_store_is_found_beside_the_folder_or_named(finished, tmp_path, capsys, monkeypatch):
    folder, _ = finished
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "run.json").write_bytes((folder / "out" / "run.json").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", str(moved)]) == 2
    said = capsys.readouterr().err
    assert "lacks" in said and "--store DIR" in said and said.count("\n") == 1
    assert cli.main(["report", str(moved), "--store", str(folder / "store")]) == 0
    monkeypatch.setenv("MIST_BENCH_STORE", str(folder / "store"))
    assert cli.main(["report", str(moved)]) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "no run in"), ("[]", "damaged or of another version"), ("{", "damaged or of another version"),
     ('{"cells": [{"hash": "a"}]}', "damaged or of another version"),
     ('{"cells": [{"hash": "../cells/0123456789abcdef", "kind": "training", "title": "", "labels": {}}], "length": 4, '
      '"failed": [], "earlier_speeds": []}', "damaged or of another version"),
     ('{"cells": [], "length": null, "failed": null, "earlier_speeds": []}', "damaged or of another version")],
)  # fmt: skip
def test_a_folder_without_a_whole_run_is_one_line(text, message, tmp_path, capsys):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    assert cli.main(["report", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and message in err


def test_failures_are_shown_again(finished, tmp_path, capsys):
    folder, _ = finished
    info = json.loads((folder / "out" / "run.json").read_text())
    info["failed"] = ["generation oracle linear broken at 2 steps: no"]
    (tmp_path / "run.json").write_text(json.dumps(info))
    assert cli.main(["report", str(tmp_path), "--store", str(folder / "store")]) == 1
    assert "failed: generation oracle linear broken at 2 steps: no" in capsys.readouterr().err


def test_cells_that_were_left_out_after_a_failure_are_not_missed(finished, tmp_path, capsys, monkeypatch):
    folder, _ = finished
    info = json.loads((folder / "out" / "run.json").read_text())
    failed, left_out = (dict(info["cells"][0]) for _ in range(2))
    failed |= {"hash": "0" * 16, "kind": "training"}
    left_out |= {"hash": "1" * 16, "kind": "likelihood", "needs": ["0" * 16]}
    store = tmp_path / "store"
    shutil.copytree(folder / "store", store)
    Store(store).write_failure("0" * 16, "it broke")
    out = tmp_path / "out"
    out.mkdir()
    changed = {**info, "cells": [*info["cells"], failed, left_out], "failed": ["training: it broke"]}
    (out / "run.json").write_text(json.dumps(changed))
    monkeypatch.chdir(out)
    assert cli.main(["report", "."]) == 1, "and the store is found from within the folder"
    assert "failed: training: it broke" in capsys.readouterr().err

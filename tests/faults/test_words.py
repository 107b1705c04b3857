"""Words that cannot be meant, said before the work; and outputs that cannot hold every letter."""

import errno
import json
import os
import subprocess
import sys

import pytest

from harness import GRID
from harness.commands import run_command
from mist_bench.cli import main
from mist_bench.engine.machine import way_out
from mist_bench.host.registry import Registry

HERE = "it is empty, as of a variable that is not set; name a folder"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--out", ""], f"Invalid value for '--out': {HERE}"),
        (["run", "--store", " "], f"Invalid value for '--store': {HERE}"),
        (["report", ""], HERE),
        (["sample", "--store", ""], f"Invalid value for '--store': {HERE}"),
        (["bench", "--out", ""], f"Invalid value for '--out': {HERE}"),
        (["run", "--out", "--dry-run"], "'--dry-run' is an option; name a folder before it (or write ./--dry-run)"),
        (["run", "--out", "~nobody-of-this-name/x"], "there is no such user; name a folder"),
        (["run", "--out", "x" * 300], "no file system takes this name; name a shorter folder"),
        (["run", "--store", "y/" * 3000], "no file system takes this name; name a shorter folder"),
        (["run", "--target-se", "1e-300"], "Invalid value for '--target-se': '1e-300'; give a number of at least 1e-06"),
        (["run", "--set", "likelihood.target_se=1e-9"], "target_se must be 0 or at least 1e-06, given 1e-09"),
        (["run", "--steps", "1" + "0" * 30], "steps must be at most 1e+06"),
        (["run", "--temperature", "1e308"], "temperatures must be at most 1000, given 1e+308"),
        (["run", "--seed", "1" + "0" * 30], "seeds must be at most 9.22337e+18"),
        (["run", "--set", "generation.samples=" + "9" * 20], "samples must be at most 1e+09"),
        (["sample", "--count", "1" + "0" * 30], "give a whole number of at most 1e+09"),
        (["sample", "--temperature", "1e308"], "give a number of at most 1000"),
        (["sample", "--steps", "9" * 9], "give a whole number of at most 1e+06"),
    ],
    ids=lambda x: " ".join(x)[:40] if isinstance(x, list) else "",
)
def test_what_cannot_be_meant_is_one_line(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    given = [*words, "--preset", GRID] if words[0] in ("run", "sample") else words
    assert main(given) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and said in line
    assert not list(tmp_path.iterdir()), "nothing is made"


def test_the_home_folder_is_expanded(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    assert main(["report", "~/none"]) == 2
    assert f"no run in '{tmp_path / 'home' / 'none'}'" in capsys.readouterr().err


def test_the_benchmarks_look_at_their_files_before_the_hour(tmp_path, capsys):
    file = tmp_path / "baseline.json"
    for text in ("[]", '{"a machine": []}', '{"a machine": {"rows": 1}}', "[" * 100_000, "\xff"):
        file.write_text(text, encoding="latin-1")
        assert main(["bench", "--baseline", str(file)]) == 2
        assert main(["bench", "--baseline", str(file), "--save-baseline"]) == 2
        said = capsys.readouterr().err
        assert said.count("is not a baseline") == 2 and "Traceback" not in said
    assert main(["bench", "--out", str(file)]) == 2
    assert "is a file; name another: --out DIR" in capsys.readouterr().err


def test_names_with_odd_letters_make_the_corpus_again():
    registry = Registry.discover()
    for path in ("a, b.txt", "a]=[b.txt", "x$^$.txt", "a[b].txt", "–“.txt"):
        corpus = registry.make("corpus", f"file:{path}")
        assert registry.make("corpus", corpus.spec).path == path


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "utf-8"])
def test_an_output_that_cannot_hold_a_letter_gets_another(tmp_path, encoding):
    given = ["--family", "oracle", "--schedule", "linear", "--sampler", "random", "--steps", "2"]
    words = run_command(tmp_path / "store", tmp_path / "out", *given,
                        settings=["generation.judge=none", "generation.oracle_samples=32"])  # fmt: skip
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-m", "mist_bench", *words], env=environment, capture_output=True)
    said = done.stdout.decode(encoding)
    assert done.returncode == 0, done.stderr
    assert "files in" in said and ("≤" in said) == (encoding == "utf-8")
    assert json.loads((tmp_path / "out" / "run.json").read_text("utf-8"))["failed"] == []


def test_colour_that_is_forced_is_not_in_the_text(tmp_path, monkeypatch, capsys):
    from rich.console import Console

    from mist_bench.sample.command import _print

    monkeypatch.setenv("FORCE_COLOR", "1")
    assert Console().is_terminal
    _print(Console(), "a text", 0, 2)
    assert capsys.readouterr().out == "[1/2]\na text\n"


def test_what_to_do_about_a_folder_depends_on_what_is_wrong_with_it():
    found = {number: way_out(OSError(number, "no")) for number in (errno.ENOSPC, errno.EACCES, errno.EISDIR)}
    assert list(found.values()) == ["free some space", "make it writable", "remove what is there"]

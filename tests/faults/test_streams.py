"""Outputs that break, plugins that leave the folder, exceptions without a message: the work is done, and it is said."""

import os
import signal
import subprocess
import sys

import pytest

from harness import GRID
from mist_bench import UserError
from mist_bench.cli import main
from mist_bench.cli.interrupts import Terminated, never_lost
from mist_bench.cli.streams import Unfailing
from mist_bench.host.discovery import error_text
from mist_bench.host.values import from_text
from mist_bench.run.store import Store

LS = [sys.executable, "-m", "mist_bench", "ls", "samplers"]
RUN = ["run", "--preset", GRID, "--family", "oracle", "--schedule", "linear", "--sampler", "random", "--steps", "2",
       "--set", "generation.judge=none", "--set", "generation.oracle_samples=32", "--set", "likelihood.sequences=16",
       "--set", "likelihood.sampler_sequences=0"]  # fmt: skip


def shell(words):
    return subprocess.run(["bash", "-c", words], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("how", "status", "said"),
    [
        ("| head -1; exit ${PIPESTATUS[0]}", (0, 1), ""),  # where all was written before `head` left, all is well
        (">&-", (1,), "mist-bench: error: standard output cannot be written: it is closed\n"),
        (">/dev/full", (1,), "mist-bench: error: standard output cannot be written: No space left on device\n"),
        ("2>&-", (0,), ""),
        ("2>/dev/full", (0,), ""),
    ],
    ids=["a closed pipe", "closed", "full", "no errors", "full errors"],
)
def test_an_output_that_breaks(how, status, said):
    done = shell(f"{' '.join(LS)} {how}")
    assert done.returncode in status and done.stderr == said


def test_a_line_that_cannot_be_written_does_not_end_a_run(tmp_path, monkeypatch, capsys):
    class Full:
        encoding = "utf-8"

        def write(self, text):
            raise OSError(28, "No space left on device")

        flush = isatty = lambda self: False

    monkeypatch.setattr("sys.stderr", Full())
    assert main([*RUN, "--store", str(tmp_path / "store"), "--out", str(tmp_path / "out")]) == 0
    assert "Perplexity bounds" in capsys.readouterr().out and (tmp_path / "out" / "generation.csv").exists()
    monkeypatch.setattr("sys.stdout", Full())
    assert main([*RUN, "--store", str(tmp_path / "store"), "--out", str(tmp_path / "again")]) == 1
    assert (tmp_path / "again" / "generation.csv").exists()


def test_what_follows_a_failing_write_is_dropped():
    written = []

    class Once:
        def write(self, text):
            if written:
                raise BrokenPipeError
            written.append(text)

        def flush(self):
            raise AssertionError

        def fileno(self):
            raise OSError

    stream = Unfailing(Once())
    assert [stream.write(text) for text in ("a", "bc", "d")] == [1, 2, 1]
    stream.flush()
    assert written == ["a"] and isinstance(stream.problem, BrokenPipeError) and not stream.isatty()


ODD = """
import os
from mist_bench import Metric, ScoreSampler, hookimpl
os.chdir("/")
class Mute(Exception):
    def __str__(self):
        return None
class Odd(ScoreSampler):
    name = "odd"
    def scores(self, view):
        raise Mute
class Leaves(Metric):
    name = "leaves"
    def measure(self, texts, references):
        os.chdir("/")
        return {"leaves": 1.0}
@hookimpl
def mist_bench_samplers():
    yield Odd
@hookimpl
def mist_bench_metrics():
    yield Leaves
"""


def test_a_mute_exception_and_a_plugin_that_leaves_the_folder_cost_nothing_else(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.py").write_text(ODD)
    status = main([*RUN, "--store", "store", "--out", "out", "--plugin", "odd.py", "--sampler", "random,odd",
                   "--set", "generation.metrics=leaves"])  # fmt: skip
    said = capsys.readouterr()
    assert status == 1 and "raised Mute at odd.py:" in said.err and "(its message cannot be shown)" in said.err
    assert "random" in said.out and "leaves" in said.out
    assert (tmp_path / "out" / "generation.csv").exists() and os.getcwd() == str(tmp_path)


def test_what_a_terminal_would_obey_is_not_in_a_message():
    assert error_text(ValueError("\x1b[31mred\x07\nnext\t\u202eback")) == "[31mred next back"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there are no such signals here")
def test_a_terminal_that_is_gone_ends_a_command_as_sigterm_does():
    program = (
        "import os, signal, sys\nfrom mist_bench.cli import main, plugin_commands\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "from mist_bench.host.registry import Registry\n"
        "Registry.discover = lambda *a, **k: os.kill(os.getpid(), signal.SIGHUP)\nsys.exit(main(['ls']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (129, "mist-bench: told to end\n")


@pytest.mark.parametrize("columns", ["0", "1", "20"])
def test_no_terminal_is_too_narrow(columns):
    from mist_bench.cli.show import console

    os.environ["COLUMNS"], before = columns, os.environ.get("COLUMNS")
    try:
        assert console().width == 40
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)


@pytest.mark.parametrize("text", ["1_0", "\u0663", "1e1_0"])
def test_numbers_are_written_as_numbers_are(text):
    for kind in (int, float):
        with pytest.raises(ValueError):
            from_text(text, kind)


def test_a_store_that_can_only_be_read_is_enough_for_what_is_in_it(tmp_path, monkeypatch, capsys):
    words = [*RUN, "--store", str(tmp_path / "store"), "--out", str(tmp_path / "out")]
    assert main(words) == 0

    def refused(self):
        raise UserError("cannot write the store")

    monkeypatch.setattr(Store, "ensure_writable", refused)
    assert main(words) == 0
    assert main([*words, "--steps", "3"]) == 2


def test_a_cell_that_may_not_be_read_is_said_in_one_line(tmp_path, monkeypatch):
    def refused(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refused)
    with pytest.raises(UserError, match="cannot read .*: Permission denied; make it readable, or name another store"):
        Store(tmp_path).read("0" * 16)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_other_code_turns_into_an_error_is_still_one(number):
    """As the compilation of a file does, which was interrupted while it imported a table of letters."""
    with pytest.raises(KeyboardInterrupt) as caught, never_lost():
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise SyntaxError("can't load a module") from None
    assert isinstance(caught.value, Terminated) == (number == signal.SIGTERM)

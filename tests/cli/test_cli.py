"""The commands: what they pass on, what they print, and with which status they end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.plugins import PARTS, Plugins
from mist_bench import UserError, __version__, cli
from mist_bench.host import discovery, registry
from mist_bench.host.config import RunConfig
from mist_bench.run.experiment import Experiment
from mist_bench.sample.options import SampleOptions


class Asked:
    """Stands for the runner and the sampler: remembers what it was asked for, and does what the test wants."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.answer: int | BaseException = 0

    def __call__(self, *arguments: Any, **named: Any) -> int:
        self.calls.append((arguments, named))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, plugins: Plugins) -> Asked:
    """Commands that see the plugins of `PARTS` and no others, and a fake runner in an empty folder."""
    asked = Asked()

    def run(config: RunConfig, found: registry.Registry, **named: Any) -> int:
        """As the runner does before anything else: every name is looked up."""
        Experiment.of(config, found, "CPU", "float32", written_for=named["written_for"])
        return asked(config, found, **named)

    monkeypatch.setattr("mist_bench.cli.run.run", run)
    monkeypatch.setattr("mist_bench.sample.command.sample", asked)
    monkeypatch.setattr(discovery.metadata, "distributions", lambda: [])
    monkeypatch.setenv("MIST_BENCH_PLUGINS", str(plugins.file(PARTS, "parts.py")))
    monkeypatch.chdir(plugins.folder)
    return asked


BASE = ["--preset", "smoke", "--family", "mdlm", "--sampler", "confidence", "--set", "generation.judge=none"]
RUN = ["run", *BASE, "--set", "likelihood.evaluation_schedules=linear", "--set", "schedules=linear"]


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said on standard error: one line, no traceback, nothing on standard output."""
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("mist-bench: ")
    return said.err


def test_run_passes_on_the_grid(asked: Asked):
    more = "--steps 5,10 --temperature 0.5,1 --training-seed 1,2 --seed 3 --sampler confidence[score_by=max],confidence"
    flags = "--launcher local --out here --store there --rerun failed --dry-run --json --debug"
    assert cli.main([*RUN, *more.split(), *flags.split(), "--set", "training.train_steps=3"]) == 0
    [((config, found), named)] = asked.calls
    assert isinstance(found, registry.Registry)
    assert (config.preset, config.steps, config.temperatures) == ("smoke", (5, 10), (0.5, 1.0))
    assert (config.training_seeds, config.seeds, config.training.train_steps) == ((1, 2), (3,), 3)
    assert config.samplers == ("confidence[score_by=max]", "confidence")
    assert named == {
        "out": Path("here"),
        "store": Path("there"),
        "rerun": "failed",
        "dry_run": True,
        "json_output": True,
        "debug": True,
        "launcher": "local",
        "written_for": "tales",
        "length_asked": False,
        "families_asked": True,
    }


def test_where_a_run_leaves_its_files_by_default(asked: Asked, monkeypatch: pytest.MonkeyPatch):
    assert cli.main(RUN) == 0
    monkeypatch.setenv("MIST_BENCH_STORE", "shared")
    assert cli.main(RUN) == 0
    assert cli.main([*RUN, "--store", "mine"]) == 0
    named = [call[1] for call in asked.calls]
    assert [n["out"] for n in named] == [Path("results/smoke")] * 3
    assert [n["store"] for n in named] == [Path("results/store"), Path("shared"), Path("mine")]
    assert named[0]["rerun"] == "missing"
    assert (named[0]["dry_run"], named[0]["json_output"], named[0]["debug"]) == (False, False, False)


@pytest.mark.parametrize(("device", "preset"), [("CPU", "quick"), ("CUDA", "austen")])
def test_the_device_chooses_the_preset(asked: Asked, monkeypatch: pytest.MonkeyPatch, device: str, preset: str):
    monkeypatch.setattr("mist_bench.engine.device.name", lambda: device)
    parts = [
        "--corpus",
        "tales",
        "--tokenizer",
        "word",
        "--family",
        "mdlm",
        "--schedule",
        "linear",
        "--sampler",
        "confidence",
    ]
    settings = ["--set", "likelihood.evaluation_schedules=linear", "--set", "generation.judge=none"]
    assert cli.main(["run", *parts, *settings]) == 0
    assert asked.calls[0][0][0].preset == preset


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--sampler", "confidance"],
            "unknown sampler 'confidance'; did you mean 'confidence'? (mist-bench ls samplers)",
        ),
        (["--sampler", "confidence[x=1]"], "no parameter 'x'"),
        (["--schedule", "lin"], "unknown schedule 'lin'"),
        (["--corpus", "tails"], "unknown corpus 'tails'; did you mean 'tales'? (mist-bench ls corpora)"),
        (["--tokenizer", "word,char"], "cannot read 'word,char' as one name"),
        (["--family", "gpt"], "unknown family 'gpt'"),
        (["--steps", "0"], "steps must be at least 1"),
        (["--steps", "five"], "--steps takes whole numbers, separated by commas; given 'five'"),
        (["--preset", "smok"], "unknown preset 'smok'; did you mean 'smoke'?"),
        (["--plugin", "gone.py"], "no plugin file"),
        (["--sampelr", "x"], "No such option: --sampelr"),
        (["--rerun", "never"], "'never' is not one of"),
        (["extra"], "extra"),
        (["--out"], "requires an argument"),
    ],
)
def test_wrong_calls_end_with_2_and_one_line_before_anything_is_written(
    asked: Asked, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
):
    before = sorted(Path().iterdir())
    assert cli.main([*RUN, *arguments]) == 2
    line = one_line(capsys)
    assert line.startswith("mist-bench: error: ")
    assert message in line
    assert asked.calls == []
    assert sorted(Path().iterdir()) == before


def test_failures_end_with_1_and_say_how_to_see_more(asked: Asked, capsys: pytest.CaptureFixture[str]):
    asked.answer = RuntimeError("the device\nis gone")
    assert cli.main(RUN) == 1
    line = one_line(capsys)
    assert re.fullmatch(
        r"mist-bench: error: RuntimeError at test_cli\.py:\d+: the device is gone \(--debug shows the traceback\)\n", line
    )
    assert cli.main([*RUN, "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err
    asked.answer = UserError("no such thing")
    assert cli.main(RUN) == 2
    assert one_line(capsys) == "mist-bench: error: no such thing\n"
    asked.answer = 1
    assert cli.main(RUN) == 1


def test_an_interrupted_run_says_how_to_go_on(asked: Asked, capsys: pytest.CaptureFixture[str]):
    asked.answer = KeyboardInterrupt()
    assert cli.main(RUN) == 130
    assert "finished cells are kept, and the same command goes on" in one_line(capsys)


def test_broken_plugins_are_one_warning_each(asked: Asked, plugins: Plugins, capsys: pytest.CaptureFixture[str]):
    odd = plugins.file("def mist_bench_sampler(): ...\ndef mist_bench_schedule(): ...\n", "odd.py")
    assert cli.main([*RUN, "--plugin", str(odd)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"mist-bench: warning: plugin {odd}: unknown hook") for line in lines)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\n", "it has no hooks; end it with a function such as mist_bench_samplers, marked @hookimpl"),
        ("from mist_bench import hookimpl\n@hookimpl\ndef mist_bench_samplers():\n    return []\n",
         "its hooks yield no class; yield the class in the hook"),
    ],
)  # fmt: skip
def test_a_file_that_brings_nothing_is_a_warning(
    asked: Asked, plugins: Plugins, capsys: pytest.CaptureFixture[str], source: str, message: str
):
    file = plugins.file(source, "nothing.py")
    assert cli.main([*RUN, "--plugin", str(file)]) == 0
    assert one_line(capsys).startswith(f"mist-bench: warning: plugin {file}: {message}")


def test_sample_passes_on_what_is_asked(asked: Asked):
    words = "--steps 8 --sampler confidence --temperature 0.7 --nucleus 0.9 --count 3 --length 32 --seed 5 --watch"
    more = "--checkpoint abc --schedule linear --training-seed 4 --store there"
    base = "--preset smoke --family mdlm --set likelihood.evaluation_schedules=linear --set schedules=linear --set samplers=confidence"
    given = ["sample", "--prompt", "Once ___", "--suffix", "end.", *base.split(), *words.split(), *more.split()]
    assert cli.main(given) == 0
    [((found, options), named)] = asked.calls
    assert isinstance(found, registry.Registry)
    assert named == {}
    assert options == SampleOptions(
        config=options.config, prompt="Once ___", suffix="end.", steps=8, sampler="confidence", temperature=0.7,
        nucleus=0.9, count=3, length=32, seed=5, watch=True, checkpoint="abc", store=Path("there"),
        written_for="tales", training_command=(
            "mist-bench run --preset smoke --family mdlm --schedule linear --training-seed 4 --store there "
            "--set likelihood.evaluation_schedules=linear --set schedules=linear --set samplers=confidence"
        ),
    )  # fmt: skip
    assert (options.config.schedules, options.config.training_seeds) == (("linear",), (4,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "Invalid value for '--steps': '0'; give a whole number of at least 1"),
        (["--sampler", "confidance"], "did you mean 'confidence'?"),
        (["--nucleus", "2"], "nucleus must be above 0 and at most 1, given 2.0"),
        (["--count", "x"], "--count"),
    ],
)
def test_wrong_samples(asked: Asked, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str):
    base = "sample --preset smoke --family mdlm --set likelihood.evaluation_schedules=linear --set schedules=linear --set samplers=confidence"
    assert cli.main([*base.split(), *arguments]) == 2
    assert message in one_line(capsys)
    assert asked.calls == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run --beam 99", "Invalid value for '--beam': '99'; give a whole number from 0 to 16"),
        ("run --beam few", "Invalid value for '--beam': 'few'; give a whole number from 0 to 16"),
        ("run --devices 0", "Invalid value for '--devices': '0'; give a whole number of at least 1"),
        ("run --target-se nan", "Invalid value for '--target-se': 'nan'; give a number of at least 0"),
        ("sample --temperature nan", "Invalid value for '--temperature': 'nan'; give a number of at least 0"),
        ("sample --length 1.5", "Invalid value for '--length': '1.5'; give a whole number of at least 2"),
        ("bench --budget -1", "Invalid value for '--budget': '-1'; give a number of at least 0"),
        ("bench --rounds 2", "Invalid value for '--rounds': '2'; give a whole number of at least 3"),
        ("bench --factor nan", "Invalid value for '--factor': 'nan'; give a number of at least 1"),
        ("bench --only training,,likelihood", "--only: an empty item in 'training,,likelihood'"),
        ("bench --size quick,", "--size: an empty item in 'quick,'"),
    ],
)
def test_wrong_numbers_name_the_option_and_its_bounds(
    asked: Asked, capsys: pytest.CaptureFixture[str], arguments: str, message: str
):
    assert cli.main(arguments.split()) == 2
    assert one_line(capsys).startswith(f"mist-bench: error: {message}")
    assert asked.calls == []


def test_ls_shows_parameters_and_where_they_are_from(asked: Asked, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["ls", "samplers"]) == 0
    assert capsys.readouterr().out.startswith("confidence[score_by=proposal]")
    assert cli.main(["ls", "samplers", "-v"]) == 0
    assert "score_by: str, default proposal. a text" in capsys.readouterr().out
    assert cli.main(["ls", "samplers", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    parameter = {"name": "score_by", "type": "str", "default": "proposal", "required": False, "doc": "a text"}
    assert (row["name"], row["parameters"], row["summary"]) == ("confidence", [parameter], "")
    assert row["plugin"].endswith("parts.py")


@pytest.mark.parametrize(
    ("written", "summary"),
    [
        ("One line.", "One line."),
        ("No stop", "No stop"),
        ("A line. Another.\n\n    More.", "A line. Another."),
        ("A sentence that goes on, e.g. here,\n    and there. Another one.\n\n    More.",
         "A sentence that goes on, e.g. here, and there."),
        ("A title\n\n    Text below.", "A title"),
    ],
)  # fmt: skip
def test_a_summary_is_not_cut_within_a_sentence(
    asked: Asked, plugins: Plugins, capsys: pytest.CaptureFixture[str], written: str, summary: str
):
    file = plugins.file(
        "from mist_bench import Launcher, hookimpl\n"
        f'class Mine(Launcher):\n    """{written}\n    """\n    name = "mine"\n    def launch(self, commands): ...\n'
        "@hookimpl\ndef mist_bench_launchers():\n    yield Mine\n"
    )
    assert cli.main(["ls", "launchers", "--plugin", str(file)]) == 0
    assert capsys.readouterr().out == f"mine  {summary}\n"


def test_a_kind_that_nothing_is_of_is_said(asked: Asked, capsys: pytest.CaptureFixture[str]):
    for more in ([], ["-v"]):
        assert cli.main(["ls", "launchers", *more]) == 0
        assert capsys.readouterr().out == "none\n"
    assert cli.main(["ls", "launchers", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_ls_presets_and_unknown_kinds(asked: Asked, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["ls", "presets", "-v"]) == 0
    shown = capsys.readouterr().out
    assert "[training]" in shown
    assert "train_steps = 20  (Optimiser steps.)" in shown
    assert cli.main(["ls", "presets", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)][:2] == ["austen", "quick"]
    assert cli.main(["ls", "sampler"]) == 2
    assert "did you mean 'samplers'?" in one_line(capsys)
    assert cli.main(["ls"]) == 2
    assert "no kind given" in one_line(capsys)


def test_plugins_shows_hooks_and_problems(asked: Asked, plugins: Plugins, capsys: pytest.CaptureFixture[str]):
    odd = plugins.file("def mist_bench_sampler(): ...\n", "odd.py")
    assert cli.main(["plugins", "--plugin", str(odd)]) == 0
    shown = capsys.readouterr().out
    assert "corpora, families, samplers, schedules, tokenizers" in shown
    assert "problem: unknown hook 'mist_bench_sampler'" in shown
    assert cli.main(["plugins", "--plugin", str(odd), "--json"]) == 0
    rows = {Path(row["file"]).name: row for row in json.loads(capsys.readouterr().out)}
    assert rows["parts.py"]["failures"] == []
    assert len(rows["odd.py"]["failures"]) == 1


def test_version_and_help(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"mist-bench {__version__}\n"
    for arguments in ([], ["--help"]):
        assert cli.main(arguments) == 0
        shown = capsys.readouterr().out
        assert all(word in shown for word in ("run", "sample", "ls", "plugins", "check", "new"))
        assert "..." not in shown.partition("Commands:")[2], "a sentence was cut"
    assert cli.main(["frobnicate"]) == 2
    assert "No such command 'frobnicate'" in one_line(capsys)


def test_the_options_of_run_are_the_fixed_ones(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["run", "--help"]) == 0
    shown = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  --")}
    fixed = (
        "preset corpus tokenizer family schedule sampler steps temperature training-seed seed out store plugin rerun"
    )
    assert shown == {f"--{name}" for name in [*fixed.split(), "target-se", "devices", "launcher", "beam", "dry-run", "json", "debug", "set"]}


def test_help_imports_neither_tinygrad_nor_rich():
    program = "import sys; from mist_bench.cli import main; main(['--help']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = done.stdout.splitlines()[-1]
    for heavy in ("tinygrad", "pandas", "rich", "tiktoken", "datasets", "mist_bench.host.registry"):
        assert f"'{heavy}'" not in modules


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m mist_bench ls schedules -v | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1

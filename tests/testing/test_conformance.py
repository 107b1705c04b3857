"""The conformance kit: built-in plugins pass, a small bad plugin fails each check, and the workflow of an author."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from harness import (
    EXAMPLE,
    ROOT,
    bad_corpora,
    bad_families,
    bad_launchers,
    bad_metrics,
    bad_samplers,
    bad_schedules,
    bad_tokenizers,
)
from harness.installed import made, setuptools_builds_wheels
from mist_bench import UserError, cli
from mist_bench.api import hooks
from mist_bench.host.registry import BASES, Registry
from mist_bench.testing import Subject, checks_of, find
from mist_bench.testing.worlds import chi_square_z

pytestmark = pytest.mark.slow
REGISTRY = Registry.discover()
MORE = {  # what the defaults do not reach
    "sampler": ["confidence[score=max,noise=2.0]"],
    "schedule": ["polynomial[power=0.5]", "geometric[sigma_min=1e-9]"],
    "corpus": ["markov[symbols=9,length=40]", "file[path=README.md,document_bytes=0]"],
}
BY_KIND = {
    "sampler": bad_samplers, "schedule": bad_schedules, "tokenizer": bad_tokenizers, "corpus": bad_corpora,
    "family": bad_families, "metric": bad_metrics, "launcher": bad_launchers,
}  # fmt: skip


def of_kind(kind, *row):
    """A case that runs in the process of its kind."""
    return pytest.param(kind, *row, marks=pytest.mark.xdist_group(f"conformance of a {kind}"))


BAD = [of_kind(kind, *row) for kind, module in BY_KIND.items() for row in module.BAD]
FINE = [of_kind(kind, *row) for kind, module in BY_KIND.items() for row in module.FINE]


def built_in():
    for kind in BASES:
        for name in REGISTRY.names(kind):
            if REGISTRY.origin(kind, name).distribution == "mist-bench":
                yield of_kind(kind, name)
        yield from (of_kind(kind, spec) for spec in MORE.get(kind, ()))


def results(kind, component):
    subject = Subject(kind=kind, component=component, registry=REGISTRY)
    return [subject.run(one) for one in checks_of(kind)]


@pytest.mark.parametrize(("kind", "spec"), list(built_in()))
def test_built_in_plugins_pass(kind, spec):
    if kind == "corpus":
        if hasattr(sys.modules[REGISTRY.get(kind, spec.partition("[")[0]).__module__], "download"):
            pytest.skip("it comes from the network")
        if spec == "file":
            pytest.skip("it needs a path: checked with one")
    downloads = kind == "tokenizer" and "tiktoken" in REGISTRY.get(kind, spec).__module__
    if downloads and not os.environ.get("TIKTOKEN_CACHE_DIR"):
        pytest.skip("it comes from the network; TIKTOKEN_CACHE_DIR may name a folder that has it")
    found = results(kind, REGISTRY.make(kind, spec))
    assert [f"{r.check}: {r.message}" for r in found if r.status == "failed"] == []
    if found and {r.status for r in found} == {"skipped"}:
        pytest.skip(found[0].message)


def case(value):
    return getattr(value, "__name__", None) or (value if isinstance(value, str) and len(value) < 24 else "")


def outcome(kind, plugin, name):
    [one] = [c for c in checks_of(kind) if c.name == name]
    result = Subject(kind=kind, component=plugin(), registry=REGISTRY).run(one)
    assert "\n" not in result.message
    return result


@pytest.mark.parametrize(("kind", "plugin", "check", "message"), BAD, ids=case)
def test_each_bad_plugin_is_told_what_to_change(kind, plugin, check, message):
    result = outcome(kind, plugin, check)
    assert result.status == "failed"
    assert re.search(message, result.message), result.message


@pytest.mark.parametrize(("kind", "plugin", "check", "status", "message"), FINE, ids=case)
def test_what_is_right_passes_and_what_cannot_be_checked_is_skipped(kind, plugin, check, status, message):
    result = outcome(kind, plugin, check)
    assert (result.status, bool(re.search(message, result.message))) == (status, True), result.message


def test_an_untrained_family_that_is_no_oracle_passes(plugins):
    doc = inspect.getdoc(hooks.mist_bench_families)
    [subject] = find([plugins.file(doc.partition("Example::")[2])]).subjects
    found = {one.name: subject.run(one).status for one in checks_of("family")}
    assert subject.title == "family uniform" and set(found.values()) == {"ok", "skipped"}
    assert [name for name, status in found.items() if status == "ok"] == [
        "facts", "creates", "same-seed-same-model", "normalised", "carries-over",
    ]  # fmt: skip


def test_every_check_has_a_bad_plugin():
    tested = {(kind, check) for kind, _, check, _ in (row.values for row in BAD)}
    assert tested == {(k, c.name) for k in BASES for c in checks_of(k)}


def test_what_failed_once_is_not_tried_again():
    found = results("tokenizer", bad_tokenizers.RefusesEverything())
    assert [r.status for r in found] == ["failed"] + ["skipped"] * (len(found) - 1)
    assert {r.message for r in found[1:]} == {"needs what failed above"}


def test_the_statistic_of_a_true_law_is_normal():
    rng, law = np.random.default_rng(0), np.append(np.full(40, 0.0249), [0.002, 0.002, 0.0])
    law /= law.sum()
    z = np.array([chi_square_z(rng.multinomial(3000, law), law) for _ in range(2000)])
    # 2000 values: mean and spread of a normal within five standard errors
    assert abs(z.mean()) < 5 / np.sqrt(2000) + 0.02
    assert abs(z.std() - 1) < 5 / np.sqrt(4000) + 0.02
    other = np.roll(law, 1)
    assert chi_square_z(rng.multinomial(3000, other), law) > 5


# ---- what is checked


def test_a_file_is_checked_with_all_that_it_yields(plugins):
    found = find([EXAMPLE / "mist_bench_example.py"])
    assert [s.title for s in found.subjects] == ["schedule quadratic", "sampler right-to-left"]
    assert found.problems == []


def test_a_name_of_several_kinds(plugins):
    found = find(["autoregressive"])
    assert [s.title for s in found.subjects] == ["sampler autoregressive", "family autoregressive"]
    assert found.notes == ["'autoregressive' is a sampler and a family; --kind sampler checks one of them"]
    assert [s.kind for s in find(["autoregressive"], kind="family").subjects] == ["family"]


@pytest.mark.parametrize(
    ("source", "status", "message"),
    [
        ("x = 1", "failed", "it has no hooks; end it with a function such as mist_bench_samplers, marked @hookimpl"),
        ("def mist_bench_sampler(): ...", "failed", "unknown hook 'mist_bench_sampler'; did you mean"),
        ("def mist_bench_samplers(): ...", "failed", "mist_bench_samplers is not marked with @mist_bench.hookimpl"),
        (
            "import mist_bench\n@mist_bench.hookimpl\ndef mist_bench_samplers(): return []",
            "failed", "its hooks yield no class; yield the class in the hook",
        ),
        (
            "import mist_bench\nfrom mist_bench_plugins.sampler_random import RandomSampler\n@mist_bench.hookimpl\n"
            "def mist_bench_samplers(): yield RandomSampler",
            "failed", "sampler 'random' is provided by mist-bench:sampler-random and by",
        ),
        (
            "import mist_bench, dataclasses\nfrom mist_bench_plugins.schedule_linear import LinearSchedule\n"
            "@dataclasses.dataclass(frozen=True, kw_only=True)\nclass Own(LinearSchedule):\n    name = 'own'\n"
            "    power: float = mist_bench.parameter(dataclasses.MISSING, 'p')\n"
            "@mist_bench.hookimpl\ndef mist_bench_schedules(): yield Own",
            "skipped", "needs 'power' .*give it by name: mist-bench check 'own[…]' --plugin loose.py".replace("[…]", ".…."),
        ),
    ],
)  # fmt: skip
def test_files_that_cannot_be_checked(plugins, source, status, message):
    found = find([plugins.file(source)])
    assert found.subjects == []
    [problem] = found.problems
    assert (problem.status, problem.check) == (status, "loads")
    assert re.search(message, problem.message), problem.message


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["confidance"], r"unknown component 'confidance'; did you mean 'confidence'\? \(mist-bench ls KIND\)"),
        (["zzz"], "unknown component 'zzz'; name a plugin file"),
        (["gone.py"], "no plugin file"),
        (["confidence[x=1]"], "no parameter 'x'"),
        (["linear", "--kind", "sampler"], "unknown sampler 'linear'"),
        (["linear", "--kind", "schedul"], "unknown kind 'schedul'; did you mean 'schedule'"),
        ([], "Missing argument"),
    ],
)
def test_wrong_calls(targets, message, capsys):
    assert cli.main(["check", *targets]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert re.search(message, said.err)


def test_check_prints_a_line_each_and_fails_with_1(plugins, capsys):
    good, bad = (
        plugins.file(
            "import mist_bench\nfrom mist_bench_plugins.schedule_linear import LinearSchedule\n"
            f"class Own(LinearSchedule):\n    name = '{name}'\n    def dalpha(self, t):\n        return {slope}\n"
            "@mist_bench.hookimpl\ndef mist_bench_schedules(): yield Own",
            f"{name}.py",
        )
        for name, slope in (("good", "0 * t - 1"), ("bad", "t.missing"))
    )
    assert cli.main(["check", str(good)]) == 0
    checks = len(checks_of("schedule"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "schedule good" and lines[-1] == f"{checks} ok, 0 failed"
    assert len(lines) == checks + 2 and all(line.startswith("  ok      ") for line in lines[1:-1])
    assert cli.main(["check", str(good), str(bad)]) == 1
    said = capsys.readouterr()
    assert re.search(r"^  failed  derivative +Dalpha is the derivative of alpha: raised AttributeError at bad.py:6: ", said.out, re.M)
    assert "Traceback" not in said.out + said.err
    assert cli.main(["check", str(bad), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().out


# ---- new


@pytest.mark.parametrize("kind", ["schedule", "tokenizer"])
def test_what_new_writes_passes(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", kind, "my-idea"]) == 0
    assert f"my_idea.py is a {kind} that already runs" in capsys.readouterr().out
    assert cli.main(["check", "my_idea.py"]) == 0
    assert "0 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["samplr", "x"], "no template for 'samplr'; did you mean 'sampler'?"),
        (["sampler", "Edges"], "cannot call a sampler 'Edges'; a name is lower-case letters"),
        (["sampler", "random"], "sampler 'random' exists already, from mist-bench:sampler-random; choose another"),
        (["schedule", "json"], "json.py would hide Python's own module 'json'"),
        (["sampler", "there"], "there.py exists already; choose another name, or remove it first"),
        (["sampler"], "Missing argument"),
    ],
)
def test_new_refuses(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("there.py").write_text("mine")
    assert cli.main(["new", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert [p.read_text() for p in tmp_path.iterdir()] == ["mine"]


PYPROJECT = (EXAMPLE / "pyproject.toml").read_text()


@pytest.mark.skipif(not setuptools_builds_wheels(), reason="setuptools 70.1 or later is not installed")
def test_an_authors_whole_way(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", "sampler", "my-idea"]) == 0
    told = capsys.readouterr().out
    assert "mist-bench check my_idea.py" in told and "mist-bench run --plugin my_idea.py" in told
    assert cli.main(["check", "my_idea.py"]) == 0
    assert f"{len(checks_of('sampler'))} ok, 0 failed" in capsys.readouterr().out
    grid = ["--plugin", "my_idea.py", "--sampler", "my-idea", "--schedule", "linear", "--steps", "4"]
    rows = made(*grid, path=tmp_path, out=tmp_path)
    [row] = [r for r in rows if r["sampler"]]
    assert row["sampler"] == "my-idea" and row["law_distance"] < 1e-5
    package = tmp_path / "package"
    package.mkdir()
    shutil.copy("my_idea.py", package)
    (package / "pyproject.toml").write_text(
        PYPROJECT.replace("mist-bench-example", "mist-bench-my-idea").replace("mist_bench_example", "my_idea")
    )
    assert tomllib.loads((package / "pyproject.toml").read_text())["tool"]["setuptools"]["py-modules"] == ["my_idea"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    target = tmp_path / "target"
    subprocess.run([*pip, "--no-build-isolation", "--target", target, package], check=True, capture_output=True)
    program = "import sys; from mist_bench.testing import find; [s] = find(['my-idea']).subjects; print(s.title, s.study.component)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=target.parent / "package",
        env={**os.environ, "PYTHONPATH": str(target)},
    )  # fmt: skip
    assert done.stdout == "sampler my-idea MyIdeaSampler()\n"


# ---- an author's own tests

TWO_LINES = 'from mist_bench.testing import conformance\ntest_conformance = conformance("own.py")\n'


def test_two_lines_of_an_author_are_a_test_for_each_check(plugins, tmp_path):
    source = "import mist_bench\nfrom mist_bench_plugins.schedule_linear import LinearSchedule\n"
    source += "class Own(LinearSchedule):\n    name = 'own'\n    def dalpha(self, t):\n        return -2 + 0 * t\n"
    source += "@mist_bench.hookimpl\ndef mist_bench_schedules(): yield Own\n"
    (tmp_path / "own.py").write_text(source)
    (tmp_path / "test_own.py").write_text(TWO_LINES)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "-W", "error", "test_own.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    checks = len(checks_of("schedule"))
    assert f"2 failed, {checks - 2} passed" in done.stdout  # the weight is of another slope too
    assert "Dalpha is the derivative of alpha: dalpha(" in done.stdout
    assert "PASSED test_own.py::test_conformance[schedule own: inverse]" in done.stdout


def test_the_kit_and_the_templates_are_installed():
    root = ROOT
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {".".join(path.parent.relative_to(root).parts) for path in root.glob("mist_bench/**/__init__.py")}
    assert packages == set(settings["packages"]) - {"mist_bench_plugins"}
    assert all(list((root / "mist_bench").glob(pattern)) for pattern in settings["package-data"]["mist_bench"])


def test_importing_the_kit_loads_nothing_heavy():
    program = "import sys, mist_bench.testing; print([m for m in ('tinygrad', 'rich', 'pytest') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


def test_an_unknown_name_is_an_error_of_the_authors_test():
    from mist_bench.testing import conformance

    with pytest.raises(UserError, match="unknown component 'confidance'"):
        conformance("confidance")

"""The installed package, and a third party's distribution."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from harness import EXAMPLE, ROOT
from harness.installed import made, setuptools_builds_wheels


def test_the_entry_points_are_the_plugin_files():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["mist_bench"]
    files = {path.stem for path in (ROOT / "plugins").glob("*.py")}
    assert table == {stem.replace("_", "-"): f"mist_bench_plugins.{stem}" for stem in files}


def test_the_installed_entry_points_are_those_of_the_file():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["mist_bench"]
    installed = {e.name: e.value for e in metadata.distribution("mist-bench").entry_points.select(group="mist_bench")}
    assert installed == table, "run: pip install -e ."


def test_files_are_as_long_as_contributing_says():
    page = " ".join((ROOT / "CONTRIBUTING.md").read_text("utf-8").split())
    low, high, most = map(int, re.search(r"most have (\d+) to (\d+) lines, none over (\d+)", page).groups())
    module = int(re.search(r"a module has one subject, usually 80 to 200 lines, (\d+) at most", page)[1])
    plugins = [len(path.read_text("utf-8").splitlines()) for path in (ROOT / "plugins").glob("*.py")]
    assert max(plugins) <= most and sum(low <= lines <= high for lines in plugins) > len(plugins) / 2
    modules = {path: len(path.read_text("utf-8").splitlines()) for path in (ROOT / "mist_bench").rglob("*.py")}
    assert {path.name: lines for path, lines in modules.items() if lines > module} == {}


def test_the_folder_of_plugins_is_no_package_of_its_own(tmp_path: Path):
    assert not (ROOT / "plugins" / "__init__.py").exists()
    program = """
import sys
from mist_bench.host.registry import Registry
Registry.discover()
print([name for name in sys.modules if name == "plugins" or name.startswith("plugins.")])
try:
    import plugins
    print(plugins)
except ImportError:
    print("none")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "none"]


def listed(kind: str, *more: str, path: Path | None = None) -> list[dict[str, object]]:
    environment = {**os.environ, "PYTHONPATH": str(path)} if path else dict(os.environ)
    command = [sys.executable, "-m", "mist_bench", *kind.split(), "--json", *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=path)
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(not setuptools_builds_wheels(), reason="setuptools 70.1 or later is not installed")
def test_a_third_partys_distribution(tmp_path: Path):
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    offline = ["--no-deps", "--no-build-isolation", "--target", str(target), str(source)]
    subprocess.run([*pip, *offline], check=True, capture_output=True)
    [example] = [p for p in listed("plugins", path=target) if p["distribution"] == "mist-bench-example"]
    assert (example["name"], example["version"]) == ("mist-bench-example:example", "1.2.3")
    assert example["hooks"] == ["mist_bench_samplers", "mist_bench_schedules"]
    assert example["failures"] == []
    [row] = [r for r in listed("ls samplers", path=target) if r["name"] == "right-to-left"]
    assert row["plugin"] == "mist-bench-example:example"
    assert "quadratic" in [r["name"] for r in listed("ls schedules", path=target)]
    rows = made("--sampler", "right-to-left", "--schedule", "quadratic,linear", path=target, out=tmp_path)
    assert {(r["sampler"], r["schedule"]) for r in rows if r["sampler"]} == {
        ("right-to-left", "quadratic"), ("right-to-left", "linear"),
    }  # fmt: skip
    assert all(r["tokens_per_second"] > 0 for r in rows if r["sampler"])


def test_the_same_file_works_loose():
    file = EXAMPLE / "mist_bench_example.py"
    [row] = [r for r in listed("ls schedules", "--plugin", str(file)) if r["name"] == "quadratic"]
    assert (row["summary"], row["plugin"]) == (
        'alpha(t) = (1 - t)^p: masks much from the start; p = 2 is "quadratic".',
        str(file),
    )
    assert "right-to-left" in [r["name"] for r in listed("ls samplers", "--plugin", str(file))]


def test_the_distribution_names_its_module():
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())
    [module] = project["project"]["entry-points"]["mist_bench"].values()
    assert project["tool"]["setuptools"]["py-modules"] == [module]
    assert [path.name for path in EXAMPLE.glob("*.py")] == [f"{module}.py"]

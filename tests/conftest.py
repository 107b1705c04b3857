"""What several test files need: an environment without the user's settings, and plugins made for one test."""

from __future__ import annotations

import os

os.environ.setdefault("DEV", "CPU")  # before anything imports tinygrad

import sys
import textwrap
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from mist_bench.engine import compiler
from mist_bench.host.registry import Registry

compiler.prepare()  # where there is no clang: tests call tinygrad without the runner, which would have done this


@pytest.fixture(autouse=True)
def no_user_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MIST_BENCH_PLUGINS", "MIST_BENCH_STRICT", "MIST_BENCH_STORE"):
        monkeypatch.delenv(name, raising=False)


class Plugins:
    """Makes plugins in a folder of one test: loose files, and installed distributions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, source: str, name: str = "loose.py") -> Path:
        path = self.folder / name
        path.write_text(textwrap.dedent(source))
        return path

    def install(self, distribution: str, sources: dict[str, str], version: str = "1.0") -> None:
        """A distribution with one module for each entry point: what pip leaves behind, written by hand."""
        lines = ["[mist_bench]"]
        for entry_point, source in sources.items():
            module = f"{distribution}_{entry_point}".replace("-", "_")
            self.file(source, f"{module}.py")
            lines.append(f"{entry_point} = {module}")
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")

    def discover(self, *files: Path) -> Registry:
        """A registry of these plugins alone: neither the built-in ones nor what else is installed."""
        return Registry.discover(files, distributions=metadata.distributions(path=[str(self.folder)]))


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugins]:
    folder = tmp_path / "plugins"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield Plugins(folder)
    for name in set(sys.modules) - before:  # so that the next test may use the same names
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]

"""Plugins made for one test: loose files, and installed distributions."""

from __future__ import annotations

import textwrap
from importlib import metadata
from pathlib import Path

from mist_bench.host.registry import Registry


class Plugins:
    """Makes plugins in a folder of one test: loose files, and installed distributions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, source: str, name: str = "loose.py") -> Path:
        path = self.folder / name
        path.write_text(textwrap.dedent(source))
        return path

    def install(self, distribution: str, sources: dict[str, str], version: str = "1.0") -> None:
        """Install a distribution with one module for each entry point, as pip would leave it on disk."""
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
        """A registry of these plugins alone, without the built-in and the installed ones."""
        return Registry.discover(files, distributions=metadata.distributions(path=[str(self.folder)]))


PARTS = """
    from dataclasses import dataclass
    from mist_bench import Corpus, Family, Schedule, ScoreSampler, Tokenizer, hookimpl, parameter

    class C(Corpus):
        name = "tales"
        def load(self, cache): ...

    class T(Tokenizer):
        name = "word"
        def fit(self, texts, vocabulary): ...

    class F(Family):
        name = "mdlm"
        likelihood_kind = "bound"
        def create(self, size, vocab_size, length, seed, oracle): ...

    class L(Schedule):
        name = "linear"
        def alpha(self, t): ...
        def dalpha(self, t): ...

    @dataclass(frozen=True, kw_only=True)
    class S(ScoreSampler):
        name = "confidence"
        score_by: str = parameter("proposal", "a text")
        def scores(self, view): ...

    @hookimpl
    def mist_bench_corpora(): return [C]
    @hookimpl
    def mist_bench_tokenizers(): return [T]
    @hookimpl
    def mist_bench_families(): return [F]
    @hookimpl
    def mist_bench_schedules(): return [L]
    @hookimpl
    def mist_bench_samplers(): return [S]
"""

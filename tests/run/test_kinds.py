"""A kind of cell from outside: one class and one line, and it is planned, made, stored, written and shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TypedDict

import pytest

from harness import GRID
from mist_bench import cli
from mist_bench.report import columns, files
from mist_bench.run import kinds
from mist_bench.run.cells import Cell, Progress
from mist_bench.run.columns import Column
from mist_bench.run.experiment import Experiment
from mist_bench.run.workbench import Workbench


class VowelColumns(TypedDict, total=False):
    vowels: Annotated[float, Column("share of the letters that are vowels", "1", "data", header="vowels")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class VowelCell(Cell):
    """A column that is added to each row of generation.csv."""

    kind = "vowels"
    prefix = "vowels of"
    file = "generation"
    adds = True
    columns = VowelColumns
    generation: Cell

    @classmethod
    def plan(cls, experiment: Experiment, planned: Sequence[Cell]) -> Iterator[Cell]:
        yield from (cls(experiment=experiment, generation=cell) for cell in planned
                    if cell.file == "generation" and not cell.adds)  # fmt: skip

    @property
    def content(self) -> dict[str, Any]:
        return {"generation": self.generation.hash}

    @property
    def labels(self) -> dict[str, Any]:
        return self.generation.labels

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.generation.hash,)

    @property
    def facts(self) -> dict[str, Any]:
        return {"about": self.generation.hash}

    def make(self, bench: Workbench, progress: Progress) -> dict[str, Any]:
        texts = [bench.dataset.decode(row) for row in bench.generated(self.generation.hash)]
        return {"vowels": sum(text.count("a") for text in texts) / sum(map(len, texts))}


class LetterRow(TypedDict, total=False):
    corpus: Annotated[str, Column("the corpus, with its parameters")]
    letter: Annotated[str, Column("a letter", header="letter")]
    share: Annotated[float, Column("how often it occurs in the test split", "1", header="share")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LetterCell(Cell):
    """Rows of a file of their own."""

    kind = "letters"
    prefix = "letters"
    file = "letters"
    columns = LetterRow
    letter: str

    @classmethod
    def plan(cls, experiment: Experiment, planned: Sequence[Cell]) -> Iterator[Cell]:
        yield from (cls(experiment=experiment, letter=letter) for letter in "ab")

    @property
    def content(self) -> dict[str, Any]:
        return {**self.experiment.text, "letter": self.letter}

    @property
    def labels(self) -> dict[str, Any]:
        return {**self.experiment.names, "letter": self.letter}

    def make(self, bench: Workbench, progress: Progress) -> dict[str, Any]:
        text = "".join(bench.dataset.decode(row) for row in bench.dataset.test.tokens)
        return {"share": text.count(self.letter) / len(text)}


@pytest.fixture
def more_kinds(monkeypatch):
    monkeypatch.setattr(kinds, "KINDS", kinds.KINDS)
    for kind in (VowelCell, LetterCell):
        kinds.KINDS.append(kind)  # the one line
    columns.columns_in.cache_clear()
    yield
    del kinds.KINDS[-2:]
    columns.columns_in.cache_clear()


def test_a_kind_from_outside_is_in_the_files_and_the_tables(more_kinds, tmp_path, capsys):
    out = tmp_path / "out"
    given = ["run", "--preset", GRID, "--store", str(tmp_path / "store"), "--out", str(out), "--family", "oracle",
             "--schedule", "linear", "--sampler", "random", "--steps", "2", "--set", "generation.judge=none"]  # fmt: skip
    assert cli.main(given) == 0
    shown = capsys.readouterr().out
    rows = files.read_csv(out / "generation.csv")
    assert rows and all(0 < row["vowels"] < 1 for row in rows)
    letters = files.read_csv(out / "letters.csv")
    assert [row["letter"] for row in letters] == ["a", "b"] and all(0 < row["share"] < 1 for row in letters)
    markdown = (out / "tables.md").read_text()
    assert "| vowels |" in markdown and "## Letters: markov" in markdown
    assert "Letters: markov" in shown and "files in" in shown and "letters.csv" in shown
    assert cli.main(["report", str(out)]) == 0
    again = capsys.readouterr().out
    assert shown.startswith(again) and "Letters: markov" in again
    assert cli.main(given) == 0
    assert "vowels of" not in capsys.readouterr().err, "nothing is made twice"

"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from .beam import MOST


class Rerun(StrEnum):
    """Which cells of the grid are computed."""

    missing = "missing"
    failed = "failed"
    all = "all"


def option(*flags: str, help: str, metavar: str | None = None) -> Any:  # noqa: A002
    """One whose default is not shown: None stands for the preset's."""
    return typer.Option(*flags, help=help, metavar=metavar, show_default=False)


Preset = Annotated[str | None, option("--preset", help="Preset or TOML file; quick on a CPU, austen on a GPU.")]
CorpusName = Annotated[str | None, option("--corpus", help="Corpus: mist-bench ls corpora.", metavar="SPEC")]
TokenizerName = Annotated[
    str | None, option("--tokenizer", help="Tokenizer: mist-bench ls tokenizers.", metavar="SPEC")
]
Files = Annotated[list[Path] | None, option("--plugin", help="Plugin file; may be repeated.", metavar="FILE")]
Settings = Annotated[
    list[str] | None, option("--set", help="Any key of the preset; may be repeated.", metavar="SECTION.KEY=VALUE")
]
Store = Annotated[
    Path | None, option("--store", help="Finished cells; results/store or MIST_BENCH_STORE.", metavar="DIR")
]
Beam = Annotated[
    int | None,
    typer.Option("--beam", min=0, max=MOST, metavar="N", show_default=False,
                 help="Search for faster kernels, once, the N best at a time: minutes to hours, kept. 0: none."),
]  # fmt: skip
Debug = Annotated[bool, option("--debug", help="Show tracebacks, and what is compiled.")]
AsJson = Annotated[bool, option("--json", help="JSON on standard output.")]

"""Options of the command line: their types, bounds and help texts."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..engine.beam import MOST
from ..host.bounds import HOTTEST, LARGEST, LARGEST_SEED, LEAST_TARGET, MOST_STEPS

LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Bytes that Linux, macOS and Windows allow to a name and to a path, with room for the names of our own files."""


class Rerun(StrEnum):
    """Values of `--rerun`: which cells of the grid are computed."""

    missing = "missing"
    failed = "failed"
    all = "all"


def option(*flags: str, help: str, metavar: str | None = None, parser: Callable[[Any], Any] | None = None) -> Any:  # noqa: A002
    """An option without a default in the help text: None stands for the preset's value."""
    return typer.Option(*flags, help=help, metavar=metavar, show_default=False, parser=parser)


def number(kind: type, low: float = -math.inf, high: float = math.inf) -> Callable[[Any], Any]:
    """A parser of numbers within bounds. It is used in place of typer's `min` and `max`, which do not reject inf, and
    whose errors do not show the value that was given."""

    def parse(given: Any) -> Any:
        from ..host.values import from_text, wanted

        try:
            value = from_text(str(given), kind)
        except ValueError:
            value = math.nan
        if low <= value <= high:
            return value
        least = f" of at least {low:g}" if low > -math.inf else ""
        bounds = f" from {low:g} to {high:g}" if high < HOTTEST else f" of at most {high:g}" if value > high else least
        raise typer.BadParameter(f"{str(given)!r}; give {wanted(kind)}{bounds}")

    return parse


def target(given: Any) -> float:
    """A parser of standard errors: 0 is none wanted."""
    value: float = number(float, 0, LARGEST)(given)
    return value if value == 0 else number(float, LEAST_TARGET, LARGEST)(given)


def folder(given: Any) -> Path:
    """A parser of folders. `~` is the home folder; an empty text, as of a variable that is not set, is refused, and so
    is a name that no file system takes."""
    text = str(given)
    if not text.strip():
        raise typer.BadParameter("it is empty, as of a variable that is not set; name a folder")
    if text.startswith("--"):
        raise typer.BadParameter(f"{text!r} is an option; name a folder before it (or write ./{text})")
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise typer.BadParameter(f"{text!r}: there is no such user; name a folder") from None
    long = len(os.fsencode(path)) > LONGEST_PATH or any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts)
    if long or "\0" in text:
        raise typer.BadParameter(f"{text[:40]!r}…: no file system takes this name; name a shorter folder")
    return path


def names(flag: str, text: str | None) -> tuple[str, ...]:
    """The names in a comma-separated list; none if the option is not given."""
    from ..api.component import UserError
    from ..host.values import split_list

    try:
        return () if text is None else split_list(text)
    except UserError as error:
        raise UserError(f"{flag}: {error}") from None


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
    Path | None, option("--store", help="Folder of finished cells; MIST_BENCH_STORE or results/store.", metavar="DIR",
                        parser=folder)
]
Out = Annotated[
    Path | None, option("--out", help="Tables and report; results/PRESET.", metavar="DIR", parser=folder)
]
BenchOut = Annotated[
    Path | None, option("--out", help="Tables; results/bench-DEVICE.", metavar="DIR", parser=folder)
]
ReportStore = Annotated[
    Path | None,
    option("--store", help="Finished cells; the store beside DIR, or that of run.", metavar="DIR", parser=folder),
]
Beam = Annotated[
    int | None,
    option("--beam", metavar="N", parser=number(int, 0, MOST),
           help=f"Search for faster kernels, keeping the N best (0 to {MOST}; 0: no search). "
                "Takes minutes to hours once, then the kernels are stored."),
]  # fmt: skip
Rounds = Annotated[int, typer.Option(help="Timed rounds.", metavar="N", parser=number(int, 3, LARGEST))]
Budget = Annotated[
    float,
    typer.Option(help="Seconds for the rounds of one contestant, at least three rounds.", metavar="X",
                 parser=number(float, 0, LARGEST)),
]  # fmt: skip
Factor = Annotated[
    float,
    typer.Option(help="Fail if this many times as slow as the baseline.", metavar="X",
                 parser=number(float, 1, LARGEST)),
]  # fmt: skip
TargetError = Annotated[
    float | None,
    option("--target-se", help="Draw masks until the bound has this standard error, nats/token.", metavar="X",
           parser=target),
]  # fmt: skip
Devices = Annotated[
    int | None,
    option("--devices", help="Devices that share each training step.", metavar="N", parser=number(int, 1, LARGEST)),
]
Steps = Annotated[
    int | None, option("--steps", help="Denoising steps.", metavar="N", parser=number(int, 1, MOST_STEPS))
]
Temperature = Annotated[
    float,
    typer.Option(help="Temperature; 1 is the model's own law, 0 takes the most likely token.", metavar="X",
                 parser=number(float, 0, HOTTEST)),
]  # fmt: skip
Nucleus = Annotated[
    float,
    typer.Option(help="Draw from the most likely tokens with this total probability.", metavar="X",
                 parser=number(float)),
]  # fmt: skip
Count = Annotated[int, typer.Option(help="Number of samples.", metavar="N", parser=number(int, 1, LARGEST))]
Length = Annotated[
    int | None, option("--length", help="Tokens in a sample.", metavar="N", parser=number(int, 2, LARGEST))
]
Seed = Annotated[
    int, typer.Option(help="Seed of the noise.", metavar="N", parser=number(int, 0, LARGEST_SEED))
]
Debug = Annotated[bool, option("--debug", help="Show tracebacks and compilations.")]
AsJson = Annotated[bool, option("--json", help="Print JSON.")]

"""Options of the command line: their types, bounds and help texts."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..engine.beam import MOST


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
        bounds = f" from {low:g} to {high:g}" if high < math.inf else least
        raise typer.BadParameter(f"{str(given)!r}; give {wanted(kind)}{bounds}")

    return parse


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
    Path | None, option("--store", help="Folder of finished cells; MIST_BENCH_STORE or results/store.", metavar="DIR")
]
Beam = Annotated[
    int | None,
    option("--beam", metavar="N", parser=number(int, 0, MOST),
           help=f"Search for faster kernels, keeping the N best (0 to {MOST}; 0: no search). "
                "Takes minutes to hours once, then the kernels are stored."),
]  # fmt: skip
Rounds = Annotated[int, typer.Option(help="Timed rounds.", metavar="N", parser=number(int, 3))]
Budget = Annotated[
    float,
    typer.Option(help="Seconds for the rounds of one contestant, at least three rounds.", metavar="X",
                 parser=number(float, 0)),
]  # fmt: skip
Factor = Annotated[
    float,
    typer.Option(help="Fail if this many times as slow as the baseline.", metavar="X", parser=number(float, 1)),
]
TargetError = Annotated[
    float | None,
    option("--target-se", help="Draw masks until the bound has this standard error, nats/token.", metavar="X",
           parser=number(float, 0)),
]  # fmt: skip
Devices = Annotated[
    int | None,
    option("--devices", help="Devices that share each training step.", metavar="N", parser=number(int, 1)),
]
Steps = Annotated[int | None, option("--steps", help="Denoising steps.", metavar="N", parser=number(int, 1))]
Temperature = Annotated[
    float,
    typer.Option(help="Temperature; 1 is the model's own law, 0 takes the most likely token.", metavar="X",
                 parser=number(float, 0)),
]  # fmt: skip
Nucleus = Annotated[
    float,
    typer.Option(help="Draw from the most likely tokens with this total probability.", metavar="X",
                 parser=number(float)),
]  # fmt: skip
Count = Annotated[int, typer.Option(help="Number of samples.", metavar="N", parser=number(int, 1))]
Length = Annotated[
    int | None, option("--length", help="Tokens in a sample.", metavar="N", parser=number(int, 2))
]
Seed = Annotated[int, typer.Option(help="Seed of the noise.", metavar="N", parser=number(int, 0))]
Debug = Annotated[bool, option("--debug", help="Show tracebacks and compilations.")]
AsJson = Annotated[bool, option("--json", help="Print JSON.")]

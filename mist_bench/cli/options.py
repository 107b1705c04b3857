"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..engine.beam import MOST


class Rerun(StrEnum):
    """Which cells of the grid are computed."""

    missing = "missing"
    failed = "failed"
    all = "all"


def option(*flags: str, help: str, metavar: str | None = None, parser: Callable[[Any], Any] | None = None) -> Any:  # noqa: A002
    """One whose default is not shown: None stands for the preset's."""
    return typer.Option(*flags, help=help, metavar=metavar, show_default=False, parser=parser)


def number(flag: str, kind: type, low: float = -math.inf, high: float = math.inf) -> Callable[[Any], Any]:
    """What reads the number of an option; where it is none, or out of bounds, the error names the option and both."""

    def read(given: Any) -> Any:
        from ..api.component import UserError
        from ..host.values import from_text, wanted

        try:
            value = from_text(str(given), kind)
        except ValueError:
            value = math.nan
        if low <= value <= high:
            return value
        least, most = (f" of at least {low:g}" if low > -math.inf else ""), f" from {low:g} to {high:g}"
        raise UserError(f"{flag} takes {wanted(kind)}{most if high < math.inf else least}; given {str(given)!r}")

    return read


def names(flag: str, text: str | None) -> tuple[str, ...]:
    """The names of a list, none if it is not given."""
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
    Path | None, option("--store", help="Finished cells; results/store or MIST_BENCH_STORE.", metavar="DIR")
]
Beam = Annotated[
    int | None,
    option("--beam", metavar="N", parser=number("--beam", int, 0, MOST),
           help="Search for faster kernels, once, the N best at a time: minutes to hours, kept. "
                f"0: none; at most {MOST}."),
]  # fmt: skip
Rounds = Annotated[int, typer.Option(help="Timed rounds.", metavar="N", parser=number("--rounds", int, 3))]
Budget = Annotated[
    float,
    typer.Option(help="Seconds for the rounds of one contestant; three rounds are made.", metavar="X",
                 parser=number("--budget", float, 0)),
]  # fmt: skip
Factor = Annotated[
    float,
    typer.Option(help="How many times as slow is a failure.", metavar="X", parser=number("--factor", float, 1)),
]
TargetError = Annotated[
    float | None,
    option("--target-se", help="Draw masks until the bound has this error, nats/token.", metavar="X",
           parser=number("--target-se", float, 0)),
]  # fmt: skip
Devices = Annotated[
    int | None,
    option("--devices", help="Devices that share each training step.", metavar="N", parser=number("--devices", int, 1)),
]
Steps = Annotated[int | None, option("--steps", help="Denoising steps.", metavar="N", parser=number("--steps", int, 1))]
Temperature = Annotated[
    float,
    typer.Option(help="1 is the model's own law, 0 the most likely.", metavar="X",
                 parser=number("--temperature", float, 0)),
]  # fmt: skip
Nucleus = Annotated[
    float, typer.Option(help="Keep this much probability.", metavar="X", parser=number("--nucleus", float))
]
Count = Annotated[int, typer.Option(help="How many samples.", metavar="N", parser=number("--count", int, 1))]
Length = Annotated[
    int | None, option("--length", help="Tokens of a sample.", metavar="N", parser=number("--length", int, 2))
]
Seed = Annotated[int, typer.Option(help="Seed.", metavar="N", parser=number("--seed", int, 0))]
Debug = Annotated[bool, option("--debug", help="Show tracebacks, and what is compiled.")]
AsJson = Annotated[bool, option("--json", help="JSON on standard output.")]

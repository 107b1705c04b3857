"""The application of typer, and what its commands share.

Each command gives back the work to do, which `main` does outside of typer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import option

if TYPE_CHECKING:
    from ..host.registry import Registry

Work = Callable[[], int]

app = typer.Typer(
    name="mist-bench",
    help="Compare schedules, samplers and tokenizers of discrete diffusion language models on equal terms.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def command(function: Callable[..., Work]) -> Callable[..., Work]:
    """A command named by its function; the list shows its whole docstring, which typer would cut."""
    return app.command(function.__name__.removesuffix("_command"), short_help=function.__doc__)(function)


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context, version: Annotated[bool, option("--version", help="Show the version.")] = False
) -> Work | None:
    if version:
        from .. import __version__

        typer.echo(f"mist-bench {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
    return None


def search(width: int | None) -> None:
    from ..engine.beam import use

    use(width)


def discover(files: list[Path] | None) -> Registry:
    """All plugins; one line on standard error for each that failed."""
    from ..host.registry import Registry

    registry = Registry.discover(files or ())
    for name, message in registry.failures:
        print(f"mist-bench: warning: plugin {name}: {message}", file=sys.stderr)
    return registry

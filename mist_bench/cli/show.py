"""What a run shows on the screen, whether it has just been made or is read back: tables, samples, messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from ..report.layout import Table, print_table, printable
from ..report.rows import Finished

STORIES = 4
NARROWEST = 40
"""Characters of a line, where a terminal says that it has fewer, or none."""


def console(*, stderr: bool = False) -> Console:
    """Standard output or error."""
    made = Console(stderr=stderr)
    made.width = max(made.width, NARROWEST)
    return made


def show_tables(tables: Sequence[Table], console: Console) -> None:
    """Print the tables, folded to the console's width."""
    for table in tables:
        print_table(console, table)


def show_samples(finished: Finished, console: Console) -> None:
    """Print a few texts: for each family and sampler the one with the most network evaluations."""
    best: dict[tuple[Any, ...], tuple[float, str, str]] = {}
    for entry in finished.in_file("generation"):
        record = finished.records[entry.hash]
        if not entry.labels.get("control"):
            one = (record["nfe"], entry.title, record["texts"][0])
            place = (entry.labels["family"], entry.labels["sampler"])
            best[place] = max(best.get(place, one), one, key=lambda each: each[0])
    for _, title, text in list(best.values())[:STORIES]:
        say(console, f"{title}:", style="bold")
        for line in Text(printable(text)).wrap(console, max(1, console.width - 2)):
            say(console, f"  {line.plain}".rstrip())
        console.print()


def say(console: Console, line: str, *, style: str = "") -> None:
    """A line as it is: no markup, no colours of rich's own, no folding."""
    console.print(line, markup=False, highlight=False, soft_wrap=True, style=style or None)

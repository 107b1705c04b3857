"""The layout of a table of strings: folded to the width of a terminal, or as Markdown. `tables.py` has the contents."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

Cells = list[list[str]]
SPARE = 6
# top, head, below the head, body, between sections, above the foot, foot, bottom: no lines but two
_BOX = "    \n    \n ── \n    \n ── \n ── \n    \n    \n"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table as strings. Rows from number `controls` on are control rows, below a rule.

    `numeric` columns are aligned to the right. `ranks`: columns of rank 0 stay at any width; where a terminal is too
    narrow, those of the highest rank are left out first, and those from `SPARE` on before a number is broken in two
    lines. An uncertainty in a cell begins with a space and one of `±`, `[`, `(`.
    """

    title: str
    same: str
    headers: tuple[str, ...]
    numeric: tuple[bool, ...]
    ranks: tuple[int, ...]
    rows: tuple[tuple[str, ...], ...]
    controls: int
    notes: tuple[str, ...]

    def has_rule(self) -> bool:
        return 0 < self.controls < len(self.rows)


def markdown_table(table: Table) -> str:
    """The table as Markdown: title, values that all rows share, the grid, notes."""
    lines = [table.headers, tuple("---:" if right else ":---" for right in table.numeric), *table.rows]
    if table.has_rule():
        lines.insert(2 + table.controls, ("**controls**", *[""] * (len(table.headers) - 1)))
    grid = "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines)
    notes = "\n".join(f"- {note}" for note in table.notes)
    return "\n\n".join(part for part in (f"## {table.title}", table.same, grid, notes) if part)


def _escaped(cell: str) -> str:
    return re.sub(r"([|<])", r"\\\1", cell)


def print_table(console: Console, table: Table) -> None:
    """Print a table. If it is too wide, uncertainties move below their values, then long names are folded, then columns
    of high rank are left out, with a note that names them."""
    from rich.box import Box
    from rich.table import Table as RichTable
    from rich.text import Text

    cells, kept = fit(table, console.width)
    roomy = sum(_width(column) + 2 for column in zip(*cells, strict=True)) - 2 <= console.width
    grid = RichTable(box=Box(_BOX), padding=(0, 1 if roomy else 0, 0, 0), pad_edge=False, show_edge=False)
    for header, index in zip(cells[0], kept, strict=True):
        grid.add_column(Text(header), justify="right" if table.numeric[index] else "left", overflow="fold")
    for number, row in enumerate(cells[1:]):
        style = "dim" if number >= table.controls else ""
        grid.add_row(*map(Text, row), style=style, end_section=table.has_rule() and number == table.controls - 1)
    left_out = [header for index, header in enumerate(table.headers) if index not in kept]
    console.print(Text(table.title, style="bold"), *[Text(table.same)] if table.same else [], sep="\n")
    console.print()
    console.print(grid)
    console.print()
    for note in table.notes:
        console.print(Text(note, style="dim"))
    if left_out:
        console.print(Text(f"too narrow here for: {', '.join(left_out)} (tables.md has them)", style="dim"))
    console.print()


def fit(table: Table, width: int) -> tuple[Cells, list[int]]:
    """The cells with line breaks, headers first, and the indices of the columns that fit into `width`."""
    kept = list(range(len(table.headers)))
    while True:
        rows = [[row[index] for index in kept] for row in (table.headers, *table.rows)]
        room = width - (len(kept) - 1)
        cells = _folded(rows, [table.numeric[index] for index in kept], room)
        least = max(kept, key=lambda index: (table.ranks[index], index))
        numbers = [place for place, index in enumerate(kept) if table.numeric[index]]
        broken = any("\n" in row[place] for row in cells[1:] for place in numbers)
        fits = sum(_width(column) for column in zip(*cells, strict=True)) <= room
        if (fits and not (broken and table.ranks[least] >= SPARE)) or table.ranks[least] == 0:
            return cells, kept
        kept.remove(least)


def _folded(rows: Sequence[Sequence[str]], numeric: Sequence[bool], room: int) -> Cells:
    columns = [list(column) for column in zip(*rows, strict=True)]

    def fold_headers(pattern: str) -> None:  # a header should not be what makes its column wide
        for column in columns:
            if len(rows) > 1 and _width(column[:1]) > _width(column[1:]):
                column[0] = re.sub(pattern, "\n", column[0])

    def fold(which: bool, how: Callable[[str], str]) -> None:
        chosen = [index for index, right in enumerate(numeric) if right == which]
        for index in sorted(chosen, key=lambda i: -_width(columns[i])):
            if sum(map(_width, columns)) > room:
                columns[index] = [how(cell) for cell in columns[index]]

    fold_headers(r" (?![↓↑])")
    fold(False, lambda cell: _at_hyphens(cell, 24))
    if sum(map(_width, columns)) > room:
        fold_headers(r" ")
    fold(False, lambda cell: _at_hyphens(cell, 14))
    fold(True, lambda cell: re.sub(r" (?=[±\[(])", "\n", cell))
    fold_headers(r" (?![↓↑])|(?<=/)(?=\w\w)")
    fold(False, lambda cell: _at_hyphens(cell, 9))
    return [list(row) for row in zip(*columns, strict=True)]


def _at_hyphens(cell: str, width: int) -> str:
    """The text in lines of at most `width`, broken only before `[` and after `-`, `,` or a space."""
    lines = [""]
    for piece in re.findall(r"\[?[^\[,\s-]*(?:,|-|\s)?", cell):
        if lines[-1].strip() and len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def _width(cells: Sequence[str]) -> int:
    return max(len(line) for cell in cells for line in cell.split("\n"))


def printable(text: str) -> str:
    """The text with control characters replaced, since an untrained network may write any byte."""
    safe = (c if c in "\n\t" or unicodedata.category(c) != "Cc" else "\ufffd" for c in text)
    return "".join(safe)

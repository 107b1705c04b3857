"""The columns of the tables: what each shows of a pooled row, and a table of strings made from rows and columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from ..measure.statistics import with_error
from ..run.columns import Column, Row
from .columns import columns_in
from .layout import Table
from .pooling import whole_error

SEEDS = (
    "±seeds: standard error over training seeds; 1 network: trained again it would differ, and one does not show by "
    "how much (--training-seed 0,1,2)"
)
"""What the column means; a note below each table that has it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """A column of a table, and how a pooled row is shown in it.

    `hoist`: show the value once above the table if all rows have the same. `rank`: see `Table`.
    """

    header: str
    show: Callable[[Row], str]
    numeric: bool = True
    hoist: bool = False
    rank: int = 0


def count(value: float | None) -> str:
    """A number with three significant digits and a unit, `171 k`, `2.10 M`; whole numbers below 1000 unchanged."""
    if value is None:
        return ""
    scale = max(0, min(4, (len(f"{value:.0f}") - 1) // 3))
    if float(f"{value / 1000**scale:.3g}") >= 1000 and scale < 4:
        scale += 1
    scaled = value / 1000**scale
    whole = scale == 0 and value == int(value)
    text = f"{scaled:.0f}" if whole or scaled >= 99.95 else f"{scaled:.{1 if scaled >= 9.995 else 2}f}"
    return f"{text} {['', 'k', 'M', 'G', 'T'][scale]}".rstrip()


def table_of(title: str, corpus: str, rows: list[Row], fields: Sequence[Field], notes: Sequence[str]) -> Table:
    """A table of these rows: columns that are empty everywhere are left out, and shared values stand above it."""
    rows = sorted(rows, key=lambda row: bool(control(row)))
    cells = [[field.show(row) for row in rows] for field in fields]
    same, kept = [], []
    for index, (field, column) in enumerate(zip(fields, cells, strict=True)):
        values = {text for text, row in zip(column, rows, strict=True) if text}
        if field.hoist and len(values) == 1 and len(rows) > 1:
            same.append(f"{field.header} {values.pop()}")
        elif values:
            kept.append(index)
    whole = [row for row in rows if row.get("kind") != "chain-rule"]  # a chain rule has fewer sequences
    truths = {with_error(row.get("truth_nats_per_sequence"), None) for row in whole} - {""}
    same += [f"truth {truth} nats/story" for truth in sorted(truths)] if len(truths) == 1 else []
    models = sum(not control(row) for row in rows)
    marks = ["† control: not a model to compare"] if models < len(rows) else []
    shown_seeds = [SEEDS] if any(fields[i].header == "±seeds" for i in kept) else []
    return Table(
        title=f"{title}: {corpus}" if corpus else title,
        same=" · ".join(same),
        headers=tuple(fields[i].header for i in kept),
        numeric=tuple(fields[i].numeric for i in kept),
        ranks=tuple(fields[i].rank for i in kept),
        rows=tuple(tuple(cells[i][j] for i in kept) for j in range(len(rows))),
        controls=models,
        notes=(*notes, *shown_seeds, *marks),
    )


def control(row: Row) -> str:
    """Name of the control row, empty for models."""
    return str(row.get("control") or "")


def by_corpus(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """The rows of each corpus, in the order in which the corpora first occur."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str(row.get("corpus") or ""), []).append(row)
    return list(groups.items())


def model_fields() -> list[Field]:
    """The columns that name a model: family or control, schedule, tokenizer."""
    def name(row: Row) -> str:
        return f"† {control(row)}" if control(row) else str(row.get("family") or "")

    return [
        Field(header="family", show=name, numeric=False),
        Field(header="schedule", show=text("schedule"), numeric=False),
        Field(header="tokenizer", show=text("tokenizer"), numeric=False, hoist=True),
    ]


def seed_fields(name: str, scale: float = 1, alone: str = "") -> list[Field]:
    """The standard error of a column over training seeds, or `alone` for a single network; and how many there are."""
    def error(row: Row) -> str:
        se = row.get(f"{name}_seed_se")
        if se is not None:
            return with_error(0.0, se * scale).split()[1]
        return alone if row.get("training_seed") is not None and row["seeds"] == 1 else ""

    def number(row: Row) -> str:
        return str(row["seeds"]) if row["seeds"] > 1 else ""

    return [
        Field(header="±seeds", show=error, rank=0 if alone else 4),
        Field(header="training seeds", show=number, hoist=True, rank=6),
    ]


def declared(file: str) -> dict[str, Column]:
    """The columns of a file that are shown only because they declare a header."""
    return {column.name: column for column in columns_in(file) if column.header}


def declared_fields(file: str) -> list[Field]:
    """The fields of these columns: numbers with their standard errors, texts as they are."""
    return [Field(header=column.header, show=text(name) if column.type == "text" else error(name),
                  numeric=column.type != "text") for name, column in declared(file).items()]  # fmt: skip


def text(name: str) -> Callable[[Row], str]:
    """Shows a text as it is."""
    return lambda row: str(row.get(name) or "")


def number(name: str, style: str = ".4g") -> Callable[[Row], str]:
    """Shows a number without an error."""
    return lambda row: "" if row.get(name) is None else format(row[name], style)


def error(name: str) -> Callable[[Row], str]:
    """Shows a number with its standard error, rounded to two digits of it."""
    return lambda row: with_error(row.get(name), row.get(f"{name}_se"))


def both_errors(name: str) -> Callable[[Row], str]:
    """Shows a number with its standard error over sequences and, where there are several, over training seeds."""
    return lambda row: with_error(row.get(name), whole_error(row, name)[0])


def probability(name: str) -> Callable[[Row], str]:
    """Shows a p-value."""
    def show(row: Row) -> str:
        p = row.get(name)
        return "" if p is None else "<0.0001" if p < 1e-4 else f"{p:.2g}"

    return show

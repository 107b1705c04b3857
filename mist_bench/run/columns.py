"""Columns of the files of a run: a TypedDict for each kind of row, whose annotations say unit, direction and meaning.

    class Row(TypedDict, total=False):
        nfe: Annotated[float, Column("network evaluations of a sequence, median", unit="numbers", better="lower")]

An empty cell of a file means *not measured* or *does not apply*; it is never 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, TypedDict, get_args, get_type_hints

Better = Literal["", "lower", "higher", "one", "data"]
_TYPES = {str: "text", int: "int", float: "float"}


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a file. `better`: "one" is best at 1, "data" is best at the value of the held-out data.

    `header`: the column's name in the printed tables, for a column that no table of `report/` shows by itself.
    """

    meaning: str
    unit: str = ""
    better: Better = ""
    header: str = ""
    optional: bool = False
    """Whether the file has the column only if a row has a value in it."""
    name: str = ""
    type: str = ""


@cache
def columns_of(row: type) -> tuple[Column, ...]:
    """The columns that a TypedDict declares, in its order, with their names and types filled in."""
    found = []
    for name, hint in get_type_hints(row, include_extras=True).items():
        kind, column = get_args(hint)[:2]
        found.append(dataclasses.replace(column, name=name, type=_TYPES[kind]))
    return tuple(found)


def names_of(row: type) -> tuple[str, ...]:
    """The names of the columns that a TypedDict declares, in its order."""
    return tuple(column.name for column in columns_of(row))


class ModelColumns(TypedDict, total=False):
    """The columns that say which network a row belongs to."""

    corpus: Annotated[str, Column("the corpus, with its parameters")]
    tokenizer: Annotated[str, Column("the tokenizer, with its parameters")]
    family: Annotated[str, Column("the model family, with its parameters")]
    schedule: Annotated[str, Column("the schedule of its training; empty for families without one")]
    training_seed: Annotated[int, Column("seed of the initial weights and of the order of the data")]
    checkpoint: Annotated[str, Column("hash of the training cell")]


Row = Mapping[str, Any]
"""A row of any file: values by column name."""

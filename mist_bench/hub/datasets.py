"""Data sets of the Hugging Face Hub: downloaded once, kept on disk, read from there a block of rows at a time."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload
from urllib.parse import urlsplit

from ..api.component import UserError

BLOCK = 1000  # rows read at once


class Column(Sequence[str]):
    """Some rows of one text column of a data set on disk. A slice is another column; nothing is held in memory."""

    def __init__(self, table: Any, name: str, rows: range | None = None) -> None:
        """`table`: a `datasets.Dataset`; `rows`: which of its rows, in order; all by default."""
        self._table, self._name = table, name
        self._rows = range(len(table)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Column: ...
    def __getitem__(self, index: int | slice) -> str | Column:
        if isinstance(index, slice):
            return Column(self._table, self._name, self._rows[index])
        return self._text(self._table[self._rows[index]][self._name], self._rows[index])

    def __iter__(self) -> Iterator[str]:
        # row by row would be a hundred times slower
        for start in range(0, len(self._rows), BLOCK):
            block = self._rows[start : start + BLOCK]
            for row, value in zip(block, self._table[block][self._name], strict=True):
                yield self._text(value, row)

    def _text(self, value: Any, row: int) -> str:
        if not isinstance(value, str):
            raise UserError(f"row {row} of column {self._name!r} holds no text but {type(value).__name__}")
        return value


def download(
    dataset: str, cache: Path, *, subset: str = "", column: str = "text", revision: str = ""
) -> dict[str, Column]:
    """The splits of a data set of the Hub: name -> the texts of a column.

    The first call downloads into `cache` (into the Hub's own cache if `HF_HOME` or `HF_DATASETS_CACHE` is set); later
    calls read from there. Raises `UserError` when offline, and for an unknown data set, subset or column.
    """
    import datasets  # type: ignore[import-untyped]

    own_cache = "HF_HOME" in os.environ or "HF_DATASETS_CACHE" in os.environ
    folder = None if own_cache else str(cache / "hub")
    go_offline_where_there_is_no_network()
    try:
        found = datasets.load_dataset(dataset, subset or None, revision=revision or None, cache_dir=folder)
    except datasets.exceptions.DatasetNotFoundError:
        raise UserError(
            f"unknown data set {dataset!r} on the Hugging Face Hub; give OWNER/NAME as its page does"
        ) from None
    except ConnectionError:
        raise UserError(
            f"cannot download {dataset!r}: no network; run once with a network, or set HF_HOME to a folder that has "
            "it, or use --corpus file:PATH"
        ) from None
    except Exception as error:  # what goes wrong inside `datasets` has many types; its first line names the reason
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"cannot load {dataset!r} from the Hugging Face Hub: {reason}") from error
    for name, table in found.items():
        if column not in table.column_names:
            known = ", ".join(table.column_names)
            raise UserError(f"split {name!r} of {dataset!r} has no column {column!r}; known: {known}")
    return {str(name): Column(table, column) for name, table in found.items()}


def go_offline_where_there_is_no_network() -> None:
    """Without a name service the Hub's client would try for half a minute, with a line for each try."""
    import datasets
    from huggingface_hub import constants

    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, None)
    except OSError:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True


def hold_out(rows: Column, most: int = 10_000) -> tuple[Column, Column]:
    """What to train on, and the last rows held out of it: a twentieth, at least one, at most `most`."""
    count = min(most, max(1, len(rows) // 20))
    if len(rows) <= count:
        raise UserError(f"a split with {len(rows)} rows has none to hold out; use a larger data set")
    return rows[:-count], rows[-count:]

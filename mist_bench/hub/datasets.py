"""Data sets of the Hugging Face Hub, downloaded once and then read from disk in blocks of rows."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, overload
from urllib.parse import urlsplit

from ..api.component import UserError

BLOCK = 1000  # rows per read
LONGEST = 600  # characters of a library's error: a list of configurations fits


class TextColumn(Sequence[str]):
    """The texts of a column of a data set on disk, read on demand. A slice is another `TextColumn`."""

    def __init__(self, table: Any, name: str, rows: range | None = None) -> None:
        """`table`: a `datasets.Dataset`; `rows`: the rows to read, all by default."""
        self._table, self._name = table, name
        self._rows = range(len(table)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> TextColumn: ...
    def __getitem__(self, index: int | slice) -> str | TextColumn:
        if isinstance(index, slice):
            return TextColumn(self._table, self._name, self._rows[index])
        return self._text(self._table[self._rows[index]][self._name], self._rows[index])

    def __iter__(self) -> Iterator[str]:
        # reading row by row is a hundred times slower
        for start in range(0, len(self._rows), BLOCK):
            block = self._rows[start : start + BLOCK]
            for row, value in zip(block, self._table[block][self._name], strict=True):
                yield self._text(value, row)

    def _text(self, value: Any, row: int) -> str:
        if not isinstance(value, str):
            raise UserError(f"row {row} of column {self._name!r} is {type(value).__name__}, not text")
        return value


def download(
    dataset: str, cache: Path, *, subset: str = "", column: str = "text", revision: str = "",
    splits: Collection[str] = (),
) -> dict[str, TextColumn]:  # fmt: skip
    """The texts of a column of a data set of the Hub, by split.

    The first call downloads into `cache` (or into the Hub's own cache if `HF_HOME` or `HF_DATASETS_CACHE` is set);
    later calls read from there. Raises `UserError` when offline, for an unknown data set or subset, and for a column
    that one of `splits` (by default, any) lacks; other splits without the column are left out.
    """
    import datasets  # type: ignore[import-untyped]

    tables = _loaded(datasets.load_dataset, dataset, cache, subset, revision)
    lacking = {str(name): table for name, table in tables.items() if column not in table.column_names}
    for name, table in lacking.items():
        if name in splits or not splits:
            known = ", ".join(table.column_names)
            raise UserError(f"split {name!r} of {dataset!r} has no column {column!r}; known: {known}")
    return {str(name): TextColumn(table, column) for name, table in tables.items() if str(name) not in lacking}


def fingerprint(dataset: str, cache: Path, *, subset: str = "", revision: str = "") -> str:
    """What changes with the content of a data set: the hash that `datasets` gives to its revision on the Hub, or to the
    files of a local folder. Raises `UserError` as `download` does."""
    import datasets

    builder = _loaded(datasets.load_dataset_builder, dataset, cache, subset, revision)
    return str(builder.hash or builder.config.create_config_id({}))


def _loaded(load: Callable[..., Any], dataset: str, cache: Path, subset: str, revision: str) -> Any:
    """What a function of `datasets` gives for a data set, with its errors in one line."""
    import datasets

    own_cache = "HF_HOME" in os.environ or "HF_DATASETS_CACHE" in os.environ
    folder = None if own_cache else str(cache / "hub")
    go_offline_without_network()
    try:
        return load(dataset, subset or None, revision=revision or None, cache_dir=folder)
    except datasets.exceptions.DatasetNotFoundError:
        raise UserError(
            f"unknown data set {dataset!r} on the Hugging Face Hub; give OWNER/NAME as its page does"
        ) from None
    except ConnectionError:
        raise UserError(
            f"cannot download {dataset!r}: no network; run once with a network, or set HF_HOME to a folder that has "
            "it, or use --corpus file:PATH"
        ) from None
    except Exception as error:  # `datasets` raises many types, and may name what there is to choose from further below
        said = f"{error}\n{error.__cause__ or ''}"
        lines = [line.strip() for line in said.splitlines() if line.strip()] or [type(error).__name__]
        raise UserError(f"cannot load {dataset!r} from the Hugging Face Hub: {' '.join(lines)[:LONGEST]}") from error


def go_offline_without_network() -> None:
    """Switch the Hub's client to offline mode if its host has no address: it would retry for half a minute, with a line
    of output each time."""
    import datasets
    from huggingface_hub import constants

    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, None)
    except OSError:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True


def hold_out(rows: TextColumn, most: int = 10_000) -> tuple[TextColumn, TextColumn]:
    """Training rows and held-out rows: the last twentieth is held out, at least one row and at most `most`."""
    count = min(most, max(1, len(rows) // 20))
    if len(rows) <= count:
        raise UserError(f"a split with {len(rows)} rows has none to hold out; use a larger data set")
    return rows[:-count], rows[-count:]

"""Text files as people have them: plain text, JSON, JSON lines and tables, also compressed.

A file gives pieces: the paragraphs of a text, or the texts of its records, each with what is between it and the next.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import lzma
import re
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..api.component import UserError

PACKED = {".gz": "gzip", ".xz": "lzma", ".bz2": "bz2", ".zst": "zstd"}
LINES, TABLES = (".jsonl", ".ndjson"), {".csv": ",", ".tsv": "\t"}
OTHERS = (
    ".pdf", ".doc", ".docx", ".odt", ".rtf", ".epub", ".html", ".htm", ".xml", ".zip", ".tar", ".tgz", ".7z", ".rar",
    ".xlsx", ".xls", ".ods", ".arrow", ".feather", ".npy", ".npz", ".pkl", ".pt", ".bin", ".safetensors", ".db",
    ".sqlite", ".png", ".jpg", ".mp3", ".mp4",
)  # fmt: skip
"""Files that hold no plain text; prose made of their marks would be taken for language."""
KNOWN = "plain text, .jsonl, .ndjson, .json, .csv, .tsv or .parquet, each also as .gz, .xz, .bz2 or .zst"
LINE_ENDS = re.compile(r"\r\n|\r(?!\n)|(?<!\r)\n")
BLANK_LINES = re.compile(rf"(?:{LINE_ENDS.pattern})(?:[ \t]*(?:{LINE_ENDS.pattern}))+")
PIECE_CHARACTERS = 1000
"""Of a text in one line, which is cut into pieces at spaces."""
UNPACKING = (EOFError, lzma.LZMAError, zlib.error)
"""What the libraries raise for a damaged packed file, besides OSError."""
FEWEST = 3
"""Pieces, one for each split."""
SHORTEST = 600
"""Characters of a text that is worth cutting."""

Piece = tuple[str, str]
"""A paragraph or record, and the text between it and the next."""


@dataclasses.dataclass(frozen=True)
class TextFile:
    """A file with text in it."""

    path: str
    """As the user wrote it."""
    field: str = "text"
    """The field of a JSON record, or column of a table, that holds the text."""

    @property
    def kind(self) -> str:
        """The suffix that says how it is read, without that of a compression; empty for plain text. Raises `UserError`
        for a kind that holds no plain text."""
        suffixes = [suffix.lower() for suffix in Path(self.path).suffixes]
        last = suffixes[-2:-1] if suffixes and suffixes[-1] in PACKED else suffixes[-1:]
        kind = last[0] if last else ""
        if kind in OTHERS:
            raise UserError(f"{self.path} is a {kind} file, which is not read; give {KNOWN}")
        return kind if kind in (*LINES, *TABLES, ".json", ".parquet") else ""

    def digest(self) -> str:
        """The sha256 of the file. Raises `UserError` if it cannot be read or is empty."""
        place = self._place()
        found = place.stat()
        return _digest(place, found.st_mtime_ns, found.st_size)

    def pieces(self) -> tuple[list[Piece], str]:
        """The pieces, and how a text without paragraphs was cut. Raises `UserError`, which names the line."""
        if not self.kind:
            return _paragraphs(self._text())
        return [(text, "\n\n") for text in self._records()], ""

    def _place(self) -> Path:
        path = Path(self.path).expanduser()
        if path.is_dir():
            raise UserError(f"{self.path} is a folder; give a file, file:PATH")
        try:
            empty = path.stat().st_size == 0
            with path.open("rb"):
                pass
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"cannot read {self.path}: {reason}; give a file, file:PATH") from None
        if empty:
            raise UserError(f"{self.path} is empty; give a file with text in it, file:PATH")
        return path

    def _open(self) -> BinaryIO:
        """The file's bytes without its compression."""
        place, packed = self._place(), PACKED.get(Path(self.path).suffix.lower())
        if packed is None:
            return place.open("rb")
        if packed == "zstd":
            import pyarrow  # type: ignore[import-untyped]

            return cast(BinaryIO, pyarrow.CompressedInputStream(str(place), "zstd"))
        return cast(BinaryIO, importlib.import_module(packed).open(place, "rb"))

    def _bytes(self) -> bytes:
        try:
            with self._open() as file:
                found: bytes = file.read()
        except (OSError, ValueError, *UNPACKING) as error:
            raise UserError(f"{self.path} cannot be unpacked: {error}; download it again") from None
        if not found.strip():
            raise UserError(f"{self.path} is empty; give a file with text in it, file:PATH")
        return found

    def _text(self) -> str:
        found = self._bytes()
        try:
            text = found.decode()
        except UnicodeDecodeError as error:
            line = found[: error.start].count(b"\n") + 1
            raise UserError(
                f"{self.path} is not UTF-8 (line {line}, byte {error.start}); convert it, e.g. with iconv"
            ) from None
        if "\0" in text:
            raise UserError(f"{self.path} holds zero bytes and is no text; give {KNOWN}")
        return text.removeprefix("\ufeff")

    def _records(self) -> Iterator[str]:
        kind = self.kind
        found = self._column(kind) if kind in TABLES or kind == ".parquet" else self._objects(kind)
        for where, text in found:
            if not isinstance(text, str):
                raise UserError(f"{self.path}, {where} holds no text; write file[path={self.path},field=NAME]")
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise UserError(
                    f"{self.path}, {where} holds {text[error.start]!r}, half of a letter, which no text has; mend or "
                    "drop that record"
                ) from None
            yield text

    def _objects(self, kind: str) -> Iterator[tuple[str, Any]]:
        """The text of each JSON record, and where it stands."""
        text = self._text()
        if kind == ".json":
            try:
                records = json.loads(text)
            except (json.JSONDecodeError, RecursionError) as error:
                raise UserError(f"{self.path} is not JSON: {error}; write a list of objects, or .jsonl") from None
            if not isinstance(records, list):
                raise UserError(f"{self.path} holds one {type(records).__name__}; write a list of objects, or .jsonl")
            yield from ((f"record {i}", self._of(record, f"record {i}")) for i, record in enumerate(records, 1))
            return
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                where = f"line {number}"
                try:
                    record = json.loads(line)
                except (json.JSONDecodeError, RecursionError) as error:
                    raise UserError(f"{self.path}, {where} is not JSON: {error}; write one object a line") from None
                yield where, self._of(record, where)

    def _of(self, record: Any, where: str) -> str:
        """The text of a JSON record: its field, or the record itself where it is a text."""
        text = record.get(self.field) if isinstance(record, dict) else record
        if not isinstance(text, str):
            known = ", ".join(record) if isinstance(record, dict) else "no fields"
            raise UserError(
                f"{self.path}, {where} has no text in field {self.field!r} (it has {known}); "
                f"write file[path={self.path},field=NAME]"
            )
        return text

    def _column(self, kind: str) -> Iterator[tuple[str, Any]]:
        """The texts of a column of a table, and where each stands."""
        import pandas

        try:
            with self._open() as file:
                if kind == ".parquet":
                    table = pandas.read_parquet(file)
                else:
                    table = pandas.read_csv(file, sep=TABLES[kind], dtype=str, keep_default_na=False,
                                            encoding="utf-8-sig")  # fmt: skip
        except (OSError, ValueError, *UNPACKING) as error:  # pandas' own errors, and those of UTF-8, are among them
            name = "Parquet" if kind == ".parquet" else kind.removeprefix(".").upper()
            reason = (str(error).splitlines() or [""])[0]
            raise UserError(f"{self.path} cannot be read as {name}: {reason}") from error
        if self.field not in table.columns:
            known = ", ".join(map(str, table.columns))
            raise UserError(f"{self.path} has no column {self.field!r}; known: {known}; write "
                            f"file[path={self.path},field=NAME]")  # fmt: skip
        yield from ((f"row {row} of column {self.field!r}", text) for row, text in enumerate(table[self.field]))


@lru_cache
def _digest(place: Path, changed: int, size: int) -> str:
    """The sha256 of a file, read once for each state of it."""
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _paragraphs(text: str) -> tuple[list[Piece], str]:
    """The pieces of a text: at blank lines, or else lines, or else at spaces; and what was done."""
    pieces = _cut(text, BLANK_LINES)
    if _enough(pieces) or len(text) < SHORTEST:
        return pieces, ""
    if _enough(lines := _cut(text, LINE_ENDS)):
        return lines, "it has no blank lines between paragraphs, so each line counts as one"
    size = min(PIECE_CHARACTERS, len(text) // 60)
    return _cut_every(text, size), f"it has no lines, so it is cut at spaces into pieces of some {size} characters"


def _enough(pieces: list[Piece]) -> bool:
    """Whether there is one for each split."""
    return sum(bool(piece.strip()) for piece, _ in pieces) >= FEWEST


def _cut(text: str, between: re.Pattern[str]) -> list[Piece]:
    pieces, start = list[Piece](), 0
    for found in between.finditer(text):
        pieces.append((text[start : found.start()], found.group()))
        start = found.end()
    return [*pieces, (text[start:], "")]


def _cut_every(text: str, size: int) -> list[Piece]:
    """Pieces of `size` characters or a word more, cut at a space, or at that place if there is none near."""
    pieces, start = list[Piece](), 0
    while start < len(text):
        end = min(start + size, len(text))
        space = text.find(" ", end, end + size)
        stop = len(text) if end == len(text) else end if space < 0 else space
        rest = stop + (space >= 0 and stop == space)
        pieces.append((text[start:stop], text[stop:rest]))
        start = rest
    return pieces

"""Text files as people have them: plain text, JSON, JSON lines and tables, also compressed.

A file gives pieces: the paragraphs of a text, or the texts of its records, each with what is between it and the next.
It is read in blocks, so that it may be larger than the memory.
"""

from __future__ import annotations

import codecs
import csv
import dataclasses
import hashlib
import importlib
import io
import json
import lzma
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain, count
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..api.component import UserError
from .cutting import BLANK_LINES, LINE_ENDS, NEWLINES, Piece, cut, cut_every, elements, has_pieces

PACKED = {".gz": "gzip", ".xz": "lzma", ".bz2": "bz2", ".zst": "zstd"}
LINES, TABLES = (".jsonl", ".ndjson"), {".csv": ",", ".tsv": "\t"}
OTHERS = (
    ".pdf", ".doc", ".docx", ".odt", ".rtf", ".epub", ".html", ".htm", ".xml", ".zip", ".tar", ".tgz", ".7z", ".rar",
    ".xlsx", ".xls", ".ods", ".arrow", ".feather", ".npy", ".npz", ".pkl", ".pt", ".bin", ".safetensors", ".db",
    ".sqlite", ".png", ".jpg", ".mp3", ".mp4",
)  # fmt: skip
"""Files that hold no plain text; prose made of their marks would be taken for language."""
KNOWN = "plain text, .jsonl, .ndjson, .json, .csv, .tsv or .parquet, each also as .gz, .xz, .bz2 or .zst"
PIECE_CHARACTERS = 1000
"""Of a text in one line, which is cut into pieces at spaces."""
UNPACKING = (EOFError, lzma.LZMAError, zlib.error)
"""What the libraries raise for a damaged packed file, besides OSError."""
FEWEST = 3
"""Pieces, one for each split."""
LONGEST_NAMES = 200
"""Characters of names in a message."""
SHORTEST = 600
"""Characters of a text that is worth cutting."""
BLOCK, ROWS = 2**20, 10_000
"""Bytes of a text, and rows of a table, that are read at once."""


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

    @property
    def packed(self) -> bool:
        """Whether it is compressed."""
        return Path(self.path).suffix.lower() in PACKED

    def digest(self) -> str:
        """The sha256 of the file. Raises `UserError` if it cannot be read or is empty."""
        place = self._place()
        found = place.stat()
        return _digest(place, found.st_mtime_ns, found.st_size)

    def pieces(self, *, finer: bool = False) -> tuple[Iterator[Piece], str]:
        """The pieces, read as they are asked for, and how a text without paragraphs was cut; `finer`: one with few of
        them, too. Both raise `UserError`, which names the line."""
        if self.kind:
            return ((text, "\n\n") for text in self._records()), ""
        if not finer and has_pieces(self._blocks(), BLANK_LINES, FEWEST):
            return cut(self._blocks(), BLANK_LINES), ""
        length = sum(map(len, self._blocks()))
        if length < SHORTEST:
            return cut(self._blocks(), BLANK_LINES), ""
        if has_pieces(self._blocks(), LINE_ENDS, FEWEST):
            few = "hardly any" if finer else "no"
            said = f"it has {few} blank lines between paragraphs, so each line counts as one"
            return cut(self._blocks(), LINE_ENDS), said
        size = min(PIECE_CHARACTERS, length // 60)
        said = f"it has no lines to cut at, so it is cut into pieces of some {size} characters, at spaces if it has any"
        return cut_every(self._blocks(), size), said

    def _place(self) -> Path:
        path = Path(self.path).expanduser()
        if path.is_dir():
            raise UserError(f"{self.path} is a folder; give a file, file:PATH")
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):  # a pipe can be read only once
                raise UserError(f"{self.path} is a pipe or a device; write its text to a file, and give file:PATH")
            empty = found.st_size == 0
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

    def _bytes(self) -> Iterator[bytes]:
        """The file's bytes without its compression, a block at a time."""
        some = False
        try:
            with self._open() as file:
                while block := file.read(BLOCK):
                    some = some or bool(block.strip())
                    yield block
        except (OSError, ValueError, *UNPACKING) as error:
            raise UserError(f"{self.path} cannot be unpacked: {error}; download it again") from None
        if not some:
            raise UserError(f"{self.path} is empty; give a file with text in it, file:PATH")

    def _blocks(self) -> Iterator[str]:
        """The text of the file, a block at a time."""
        decoder, before, lines, begun = codecs.getincrementaldecoder("utf-8")(), 0, 1, False
        for block in chain(self._bytes(), [b""]):
            waiting = decoder.getstate()[0]  # the first bytes of a letter that the last block cut
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                line = lines + (waiting + block)[: error.start].count(b"\n")
                raise UserError(
                    f"{self.path} is not UTF-8 (line {line}, byte {before - len(waiting) + error.start}); convert it, "
                    "e.g. with iconv"
                ) from None
            if "\0" in text:
                raise UserError(f"{self.path} holds zero bytes and is no text; give {KNOWN}")
            yield text if begun else text.removeprefix("\ufeff")
            before, lines, begun = before + len(block), lines + block.count(b"\n"), begun or bool(text)

    def _records(self) -> Iterator[str]:
        kind = self.kind
        found = self._rows(kind) if kind in TABLES else self._columns() if kind == ".parquet" else self._objects(kind)
        for where, text in found:
            if text is None:
                raise UserError(f"{self.path}, {where} is null; drop such records")
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
        if kind == ".json":
            found = elements(self._blocks())
            for number in count(1):
                try:
                    record = next(found)
                except StopIteration:
                    return
                except (ValueError, RecursionError) as error:
                    raise UserError(
                        f"{self.path} is not JSON, record {number}: {error}; write a list of objects, or .jsonl"
                    ) from None
                yield f"record {number}", self._of(record, f"record {number}")
        for number, (line, _) in enumerate(cut(self._blocks(), NEWLINES), 1):
            if line.strip():
                where = f"line {number}"
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError) as error:  # a number of too many digits is a ValueError
                    reason = str(error).split(";")[0]
                    raise UserError(f"{self.path}, {where} is not JSON: {reason}; write one object a line") from None
                yield where, self._of(record, where)

    def _of(self, record: Any, where: str) -> str | None:
        """The text of a JSON record: its field, or the record itself where it is a text."""
        text = record.get(self.field) if isinstance(record, dict) else record
        if isinstance(text, str) or (isinstance(record, dict) and self.field in record and text is None):
            return text
        known = _shown(record) if isinstance(record, dict) else "no fields"
        raise UserError(
            f"{self.path}, {where} has no text in field {self.field!r} (it has {known}); "
            f"write file[path={self.path},field=NAME]"
        )

    def _no_column(self, known: Iterable[str]) -> UserError:
        return UserError(
            f"{self.path} has no column {self.field!r}; known: {_shown(known)}; write "
            f"file[path={self.path},field=NAME]"
        )

    def _rows(self, kind: str) -> Iterator[tuple[str, Any]]:
        """The text of each row of a table, and where it ends."""
        quoting = csv.QUOTE_MINIMAL
        if kind == ".tsv" and not self._is_quoted(kind):
            quoting = csv.QUOTE_NONE
        rows = self._lines_of(kind, quoting)
        _, header = next(rows, ("", []))
        if self.field not in header:
            raise self._no_column(header)
        place = header.index(self.field)
        for where, row in rows:
            if len(row) <= place or any(row[len(header) :]):
                raise UserError(
                    f"{self.path}, {where} has {len(row)} fields and the header {len(header)}; write a text that holds "
                    f"{TABLES[kind]!r} between double quotes"
                )
            yield where, row[place]

    def _is_quoted(self, kind: str) -> bool:
        """Whether double quotes mean what they do in CSV; in many tables with tabs they are letters like any other."""
        try:
            for _ in self._lines_of(kind, csv.QUOTE_MINIMAL):
                pass
        except UserError:
            return False
        return True

    def _lines_of(self, kind: str, quoting: Any) -> Iterator[tuple[str, list[str]]]:
        """The fields of each row that is not empty, and where it ends."""
        csv.field_size_limit(2**31 - 1)
        lines = (line + end for line, end in cut(self._blocks(), LINE_ENDS))
        rows = csv.reader(lines, delimiter=TABLES[kind], quoting=quoting, strict=True)
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                name, reason = kind.removeprefix(".").upper(), f"{error}, line {rows.line_num}"
                said = f"{self.path} cannot be read as {name}: {reason}; double a quote within quotes"
                raise UserError(said) from None
            if row:
                yield f"line {rows.line_num}", row

    def _columns(self) -> Iterator[tuple[str, Any]]:
        """The text of each row of a Parquet file, and its number."""
        from pyarrow import parquet

        number = count(1)
        try:
            with self._open() as file, tempfile.TemporaryFile() as unpacked:
                packed = not isinstance(file, io.BufferedReader)
                if packed:  # it can be read only from its beginning, and Parquet is read from its end
                    shutil.copyfileobj(file, unpacked, BLOCK)
                table = parquet.ParquetFile(unpacked if packed else file)
                if self.field not in table.schema_arrow.names:
                    raise self._no_column(table.schema_arrow.names)
                for rows in table.iter_batches(ROWS, columns=[self.field]):
                    for text in rows.column(0).to_pylist():
                        yield f"row {next(number)} of column {self.field!r}", text
        except (OSError, ValueError, *UNPACKING) as error:  # pyarrow's own errors are among them
            reason = (str(error).splitlines() or [""])[0]
            raise UserError(f"{self.path} cannot be read as Parquet: {reason}") from error


def _shown(names: Iterable[Any]) -> str:
    """Names in a message, which may be many and long."""
    text = ", ".join(str(name) for name in names)
    return text if len(text) <= LONGEST_NAMES else f"{text[:LONGEST_NAMES]}…"


@lru_cache
def _digest(place: Path, changed: int, size: int) -> str:
    """The sha256 of a file, read once for each state of it."""
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

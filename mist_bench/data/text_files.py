"""Text files as people have them: plain text, JSON, JSON lines and tables, also compressed.

A file gives pieces: the paragraphs of a text, or the texts of its records, each with what is between it and the next.
It is read in blocks, so that it may be larger than the memory.
"""

from __future__ import annotations

import codecs
import dataclasses
import hashlib
import importlib
import io
import json
import lzma
import shutil
import tempfile
import zlib
from collections.abc import Iterator
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

    def digest(self) -> str:
        """The sha256 of the file. Raises `UserError` if it cannot be read or is empty."""
        place = self._place()
        found = place.stat()
        return _digest(place, found.st_mtime_ns, found.st_size)

    def pieces(self) -> tuple[Iterator[Piece], str]:
        """The pieces, read as they are asked for, and how a text without paragraphs was cut. Both raise `UserError`,
        which names the line."""
        if self.kind:
            return ((text, "\n\n") for text in self._records()), ""
        if has_pieces(self._blocks(), BLANK_LINES, FEWEST):
            return cut(self._blocks(), BLANK_LINES), ""
        length = sum(map(len, self._blocks()))
        if length < SHORTEST:
            return cut(self._blocks(), BLANK_LINES), ""
        if has_pieces(self._blocks(), LINE_ENDS, FEWEST):
            said = "it has no blank lines between paragraphs, so each line counts as one"
            return cut(self._blocks(), LINE_ENDS), said
        size = min(PIECE_CHARACTERS, length // 60)
        said = f"it has no lines, so it is cut at spaces into pieces of some {size} characters"
        return cut_every(self._blocks(), size), said

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
        if kind == ".json":
            found = elements(self._blocks())
            for number in count(1):
                try:
                    record = next(found)
                except StopIteration:
                    return
                except (ValueError, RecursionError) as error:
                    raise UserError(f"{self.path} is not JSON: {error}; write a list of objects, or .jsonl") from None
                yield f"record {number}", self._of(record, f"record {number}")
        for number, (line, _) in enumerate(cut(self._blocks(), NEWLINES), 1):
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
        row = 0
        try:
            with self._open() as file:
                rows = _of_parquet(file, self.field) if kind == ".parquet" else _of_csv(file, kind, self.field)
                for names, texts in rows:
                    if self.field not in names:
                        known = ", ".join(names)
                        raise UserError(f"{self.path} has no column {self.field!r}; known: {known}; write "
                                        f"file[path={self.path},field=NAME]")  # fmt: skip
                    yield from ((f"row {row + i} of column {self.field!r}", text) for i, text in enumerate(texts))
                    row += len(texts)
        except UserError:
            raise
        except (OSError, ValueError, *UNPACKING) as error:  # pandas' own errors, and those of UTF-8, are among them
            name = "Parquet" if kind == ".parquet" else kind.removeprefix(".").upper()
            reason = (str(error).splitlines() or [""])[0]
            raise UserError(f"{self.path} cannot be read as {name}: {reason}") from error


@lru_cache
def _digest(place: Path, changed: int, size: int) -> str:
    """The sha256 of a file, read once for each state of it."""
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_csv(file: BinaryIO, kind: str, field: str) -> Iterator[tuple[list[str], list[Any]]]:
    """The names of the columns, and the texts of one of them, some rows at a time."""
    import pandas

    how: dict[str, Any] = {"sep": TABLES[kind], "dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
    with pandas.read_csv(file, chunksize=ROWS, **how) as tables:
        for table in tables:
            yield [str(name) for name in table.columns], list(table.get(field, ()))


def _of_parquet(file: BinaryIO, field: str) -> Iterator[tuple[list[str], list[Any]]]:
    """The names of the columns, and the texts of one of them, some rows at a time."""
    from pyarrow import parquet

    with tempfile.TemporaryFile() as unpacked:
        packed = not isinstance(file, io.BufferedReader)
        if packed:  # it can be read only from its beginning, and Parquet is read from its end
            shutil.copyfileobj(file, unpacked, BLOCK)
        table = parquet.ParquetFile(unpacked if packed else file)
        names = list(table.schema_arrow.names)
        if field not in names:
            yield names, []
            return
        for rows in table.iter_batches(ROWS, columns=[field]):
            yield names, rows.column(0).to_pylist()

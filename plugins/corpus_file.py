"""`file:PATH`: your own text, JSON lines or Parquet."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mist_bench import Corpus, Texts, UserError, hookimpl, parameter

BYTES_OF_A_TOKEN = 32  # of a document for each token of a sequence: some ten sequences, half of one lost at the end
DOCUMENTS = 80  # that this must leave, so that each held-out split has several
TRAIN_BYTES = 2**20  # of train text that are cut into sequences at once: no error is taken over its documents
BLANK_LINES = re.compile(r"\r?\n(?:[ \t]*\r?\n)+")

Piece = tuple[str, str]
"""A paragraph, record or document, and the text between it and the next."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileCorpus(Corpus):
    """A file, cut into documents: the first 90 % train, then 5 % validation and 5 % test, each at least one.

    Consecutive paragraphs (of a text, at blank lines) or records (of .jsonl and .parquet, one text each, joined by a
    blank line) form a document of about `document_bytes`, so that there are enough documents for error bars; a longer
    one is a document of its own. For long sequences documents are longer, as far as the file allows, and those of the
    train split are joined, so that less text is left out at their ends. Write `file:PATH`, or
    `file[path=PATH,document_bytes=0]`.
    """

    name = "file"
    source = "your own"
    layout = "windows"
    path: str = parameter(dataclasses.MISSING, "a UTF-8 text, .jsonl or .parquet file")
    field: str = parameter("text", "the field of .jsonl or column of .parquet that holds the text")
    document_bytes: int = parameter(
        4096, "least bytes of a document, more for long sequences; 0: each paragraph or record is one"
    )

    def __post_init__(self) -> None:
        if not self.path.strip():
            raise UserError("the path is empty; write file:PATH")

    def load(self, cache: Path) -> Texts:
        """Raises `UserError` if the file is not UTF-8, lacks the field, or has too few documents."""
        return _texts(*self._split(self._pieces(), self.document_bytes))

    def load_for(self, cache: Path, length: int) -> Texts:
        if not self.document_bytes:  # each paragraph or record was asked for by itself
            return self.load(cache)
        pieces = list(self._pieces())
        size = sum(len(piece.encode(errors="surrogatepass")) for piece, _ in pieces)
        least = max(self.document_bytes, min(BYTES_OF_A_TOKEN * length, size // DOCUMENTS))
        train, validation, test = self._split(pieces, least)
        return _texts(list(_joined(train, TRAIN_BYTES)), validation, test)

    def _split(self, pieces: Iterable[Piece], least: int) -> tuple[list[Piece], list[Piece], list[Piece]]:
        """Train, validation and test documents of at least so many bytes, each with what is between it and the next."""
        documents = list(_joined(pieces, least))
        held_out = max(1, len(documents) // 20)
        train = len(documents) - 2 * held_out
        if train < 1:
            raise UserError(
                f"{self.path} has {len(documents)} document(s) of at least {least} bytes, and three are "
                f"needed; give a longer file, or file[path={self.path},document_bytes=0]"
            )
        return documents[:train], documents[train : train + held_out], documents[train + held_out :]

    def identity(self) -> dict[str, Any]:
        """The file's hash in place of its path: a file that moves stays the same corpus."""
        content = {key: value for key, value in self.content().items() if key != "path"}
        kind = Path(self.path).suffix.lower()
        return {**content, "kind": kind, "sha256": hashlib.sha256(self._bytes()).hexdigest()}

    def _bytes(self) -> bytes:
        path = Path(self.path).expanduser()
        if path.is_dir():
            raise UserError(f"{self.path} is a folder; give a file, file:PATH")
        try:
            found = path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror}; give a file, file:PATH") from None
        if not found.strip():
            raise UserError(f"{self.path} is empty; give a file with text in it, file:PATH")
        return found

    def _pieces(self) -> Iterable[Piece]:
        """Each paragraph or record, and the text between it and the next."""
        kind = Path(self.path).suffix.lower()
        if kind == ".parquet":
            return ((text, "\n\n") for text in self._column())
        try:
            text = self._bytes().decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{self.path} is not UTF-8 (byte {error.start}); convert it, e.g. with iconv") from None
        if kind == ".jsonl":
            return ((record, "\n\n") for record in self._records(text))
        return _paragraphs(text.removeprefix("\ufeff"))

    def _records(self, lines: str) -> Iterator[str]:
        for number, line in enumerate(lines.split("\n"), 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{self.path}, line {number} is not JSON: {error}; write one object a line") from None
            if not isinstance(record, dict) or not isinstance(record.get(self.field), str):
                known = ", ".join(record) if isinstance(record, dict) else "no fields"
                raise UserError(
                    f"{self.path}, line {number} has no text in field {self.field!r} (it has {known}); "
                    f"write file[path={self.path},field=NAME]"
                )
            yield record[self.field]

    def _column(self) -> Iterator[str]:
        import pandas

        self._bytes()  # the same messages for a file that is missing or empty
        try:
            table = pandas.read_parquet(Path(self.path).expanduser())
        except (OSError, ValueError) as error:
            reason = (str(error).splitlines() or [""])[0]
            raise UserError(f"{self.path} cannot be read as Parquet: {reason}") from error
        if self.field not in table.columns:
            known = ", ".join(map(str, table.columns))
            raise UserError(f"{self.path} has no column {self.field!r}; known: {known}; write field=NAME")
        for row, text in enumerate(table[self.field]):
            if not isinstance(text, str):
                raise UserError(f"{self.path}, row {row} of column {self.field!r} holds no text; write field=NAME")
            yield text


def _texts(train: list[Piece], validation: list[Piece], test: list[Piece]) -> Texts:
    """The documents without what is between them."""
    alone = ([document for document, _ in split] for split in (train, validation, test))
    return Texts(**dict(zip(("train", "validation", "test"), alone, strict=True)))


def _paragraphs(text: str) -> Iterator[Piece]:
    start = 0
    for blank in BLANK_LINES.finditer(text):
        yield text[start : blank.start()], blank.group()
        start = blank.end()
    yield text[start:], ""


def _joined(pieces: Iterable[Piece], least: int) -> Iterator[Piece]:
    """Documents of at least `least` bytes, except the last, each with the space between it and the next."""
    parts: list[str] = []
    size = 0
    for piece, between in pieces:
        if not parts and not piece.strip():
            continue
        parts += (piece, between)
        size += len(piece.encode(errors="surrogatepass"))
        if size >= least:
            yield "".join(parts[:-1]), between
            parts, size = [], 0
    if parts:
        yield "".join(parts[:-1]), parts[-1]


@hookimpl
def mist_bench_corpora() -> Iterator[type[Corpus]]:
    yield FileCorpus

"""`file:PATH`: your own text, JSON, JSON lines or table, also compressed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mist_bench import Corpus, Piece, TextFile, Texts, TextsOnDisk, UserError, hookimpl, parameter

BYTES_OF_A_TOKEN = 32  # of a document for each token of a sequence: some ten sequences, half of one lost at the end
DOCUMENTS = 80  # that this must leave, so that each held-out split has several
SHORTEST = 16  # characters of a paragraph that may be a document
TRAIN_BYTES = 2**20  # of train text that are cut into sequences at once: no error is taken over its documents


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileCorpus(Corpus):
    """A file, cut into documents: the first 90 % train, then 5 % validation and 5 % test, each at least one.

    Consecutive paragraphs (of a text, at blank lines; else its lines, else pieces of it) or records (of JSON, CSV and
    Parquet, one text each, joined by a blank line) form a document of about `document_bytes`, so that there are enough
    documents for error bars; a longer one is a document of its own. For long sequences documents are longer, as far as
    the file allows, and those of the train split are joined, so that less text is left out at their ends. Write
    `file:PATH`, or `file[path=PATH,document_bytes=0]`.
    """

    name = "file"
    source = "your own"
    layout = "windows"
    path: str = parameter(
        dataclasses.MISSING, "UTF-8 text, .jsonl, .json, .csv, .tsv or .parquet, also as .gz, .xz, .bz2 or .zst"
    )
    field: str = parameter("text", "the field or column that holds the text")
    document_bytes: int = parameter(
        4096, "least bytes of a document, more for long sequences; 0: each paragraph or record is one"
    )

    def __post_init__(self) -> None:
        if not self.path.strip():
            raise UserError("the path is empty; write file:PATH")

    @property
    def file(self) -> TextFile:
        """The file itself."""
        return TextFile(self.path, self.field)

    def load(self, cache: Path) -> Texts:
        """Raises `UserError` if the file is not UTF-8, lacks the field, or has too few documents."""
        return self._texts(cache, self.document_bytes)

    def load_for(self, cache: Path, length: int) -> Texts:
        if not self.document_bytes:  # each paragraph or record was asked for by itself
            return self.load(cache)
        size = sum(len(piece.encode()) for piece, _ in self.file.pieces()[0])
        least = max(self.document_bytes, min(BYTES_OF_A_TOKEN * length, size // DOCUMENTS))
        return self._texts(cache, least, TRAIN_BYTES)

    def _texts(self, cache: Path, least: int, train_bytes: int = 0, *, finer: bool = False) -> Texts:
        """Documents of at least so many bytes; those of the train split are joined to at least `train_bytes`. `finer`:
        see `TextFile.pieces`."""
        pieces, said = self.file.pieces(finer=finer)
        documents = TextsOnDisk.of(_joined(pieces, least), cache)
        held_out = max(1, len(documents) // 20)
        train = len(documents) - 2 * held_out
        if train < 1:
            if not finer and not self.file.kind:
                return self._texts(cache, least, train_bytes, finer=True)
            paragraphs = sum(len(text) >= SHORTEST for text, _ in _joined(self.file.pieces()[0], 0))
            smaller = f", or file[path={self.path},document_bytes=0]" if paragraphs > 2 and self.document_bytes else ""
            raise UserError(
                f"{self.path} has {len(documents)} document(s) of at least {least} bytes, and three are "
                f"needed; give a longer file{smaller}"
            )
        return Texts(
            train=documents[:train].joined(train_bytes), validation=documents[train : train + held_out],
            test=documents[train + held_out :], said=said and f"{self.path}: {said}",
        )  # fmt: skip

    def identity(self) -> dict[str, Any]:
        """The file's hash in place of its path: a file that moves stays the same corpus."""
        content = {key: value for key, value in self.content().items() if key != "path"}
        kind = "".join(Path(self.path).suffixes[-2 if self.file.packed else -1 :]).lower()
        return {**content, "kind": kind, "sha256": self.file.digest()}


def _joined(pieces: Iterable[Piece], least: int) -> Iterator[Piece]:
    """Documents of at least `least` bytes, except the last, each with the space between it and the next."""
    parts: list[str] = []
    size = 0
    for piece, between in pieces:
        if not parts and not piece.strip():
            continue
        parts += (piece, between)
        size += len(piece.encode())
        if size >= least:
            yield "".join(parts[:-1]), between
            parts, size = [], 0
    if parts:
        yield "".join(parts[:-1]), parts[-1]


@hookimpl
def mist_bench_corpora() -> Iterator[type[Corpus]]:
    yield FileCorpus

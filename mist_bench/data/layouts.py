"""Layouts: how the documents of a corpus become sequences of exactly L tokens, a block at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..api.component import IntArray, UserError
from ..api.corpora import Corpus
from ..api.tokenizers import Codec, Tokenizer

MOST_WORDS = 2**24
SPLITS = ("train", "validation", "test")
BATCH, CHARACTERS = 512, 2**22
"""Documents for each call of the codec, and characters from which on there are fewer."""


class Sequencer:
    """Cuts documents into sequences by the corpus's layout.

    `padded`: a document is a sequence, filled with end tokens. `packed`: documents are joined by end tokens and cut
    every L tokens. `windows`: each document is cut every L tokens, without its last, incomplete piece.
    """

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer, codec: Codec, length: int) -> None:
        self.codec, self.length = codec, length
        self._corpus, self._tokenizer = corpus, tokenizer
        if problem := _problem(codec):
            raise UserError(f"tokenizer {tokenizer.spec}: {problem}")
        self._end = codec.vocab_size
        mask = codec.vocab_size + (corpus.layout != "windows")
        self.dtype: np.dtype[Any] = np.dtype(np.uint16 if mask <= np.iinfo(np.uint16).max else np.int32)
        self._bytes = np.append(np.asarray(codec.token_bytes(), dtype=np.int64), 0)
        self.read = self.kept = 0
        """Tokens of all documents so far, and how many of them are in sequences."""

    def text_bytes(self, rows: IntArray) -> IntArray:
        """(n, L) tokens -> (n,) bytes of raw UTF-8; the end token has none."""
        return np.asarray(self._bytes[rows].sum(axis=1))

    def rows(self, texts: Iterable[str], split: str) -> Iterator[tuple[IntArray, IntArray]]:
        """Blocks of sequences (n, L) with the numbers of the documents (n, 3) that their first, middle and last tokens
        are of; an end token is its document's. Raises `UserError` if there is no full sequence."""
        layout = {"padded": self._padded, "packed": self._packed, "windows": self._windows}[self._corpus.layout]
        total = 0
        for rows, documents in layout(self._encoded(texts, split), split):
            total += len(rows)
            self.kept += int((rows != self._end).sum())
            yield rows.astype(self.dtype), documents.astype(np.int32)
        if not total:
            raise UserError(
                f"the {split} split of {self._corpus.spec} has no full sequence of {self.length} tokens by "
                f"{self._tokenizer.spec}; use a shorter length or a longer text"
            )

    def _encoded(self, texts: Iterable[str], split: str) -> Iterator[Sequence[IntArray]]:
        """The ids of the documents, a batch at a time. They are checked, since a plugin's codec may be wrong."""
        for batch in _batches(self._checked(texts, split)):
            encoded = self.codec.encode_batch(batch)
            if len(encoded) != len(batch):
                raise UserError(
                    f"tokenizer {self._tokenizer.spec} gives {len(encoded)} results of encode_batch for {len(batch)} "
                    "texts; give one for each"
                )
            for ids in encoded:
                if not isinstance(ids, np.ndarray) or ids.ndim != 1 or ids.dtype.kind not in "iu":
                    found = f"{ids.dtype} {ids.shape}" if isinstance(ids, np.ndarray) else type(ids).__name__
                    raise UserError(
                        f"tokenizer {self._tokenizer.spec} gives {found} as the ids of a text; give a numpy array of "
                        "whole numbers, (n,)"
                    )
                if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < self.codec.vocab_size:
                    raise UserError(
                        f"tokenizer {self._tokenizer.spec} gives ids outside 0 to {self.codec.vocab_size - 1} in the "
                        f"{split} split; fix its encode() or its vocab_size"
                    )
            self.read += sum(map(len, encoded))
            yield encoded

    def _checked(self, texts: Iterable[Any], split: str) -> Iterator[str]:
        for text in texts:
            if not isinstance(text, str):
                name = type(text).__name__
                raise UserError(f"corpus {self._corpus.spec!r} gives {name} in its {split} split; give texts (str)")
            yield text

    def _padded(self, batches: Iterable[Sequence[IntArray]], split: str) -> Iterator[tuple[IntArray, IntArray]]:
        first = 0
        for batch in batches:
            rows = np.full((len(batch), self.length), self._end, dtype=np.int32)
            for i, ids in enumerate(batch):
                if len(ids) > self.length:
                    raise UserError(
                        f"document {first + i} of the {split} split of {self._corpus.spec} has {len(ids)} tokens by "
                        f"{self._tokenizer.spec}, more than the length {self.length}: "
                        f"{self.codec.decode(ids[:12])!r}…; use a longer length or another tokenizer"
                    )
                rows[i, : len(ids)] = ids
            first += len(batch)
            yield rows, _alone(np.arange(first - len(batch), first))

    def _packed(self, batches: Iterable[Sequence[IntArray]], split: str) -> Iterator[tuple[IntArray, IntArray]]:
        rest, rest_of, first = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int64), 0
        for batch in batches:
            parts = [part for ids in batch for part in (ids, np.array([self._end], dtype=np.int32))]
            joined = np.concatenate([rest, *parts])
            numbers = np.repeat(np.arange(first, first + len(batch)), [len(ids) + 1 for ids in batch])
            document_of = np.concatenate([rest_of, numbers])
            first += len(batch)
            used = len(joined) // self.length * self.length
            rest, rest_of = joined[used:], document_of[used:]
            if used:
                documents = document_of[:used].reshape(-1, self.length)[:, [0, self.length // 2, -1]]
                yield joined[:used].reshape(-1, self.length), documents

    def _windows(self, batches: Iterable[Sequence[IntArray]], split: str) -> Iterator[tuple[IntArray, IntArray]]:
        first = 0
        for batch in batches:
            counts = [len(ids) // self.length for ids in batch]
            if any(counts):
                parts = [ids[: n * self.length] for n, ids in zip(counts, batch, strict=True)]
                documents = np.repeat(np.arange(first, first + len(batch)), counts)
                yield np.concatenate(parts).reshape(-1, self.length), _alone(documents)
            first += len(batch)


def _problem(codec: Codec) -> str:
    """Why a codec cannot be used; empty if it can."""
    size: Any = codec.vocab_size
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or not 0 < size <= MOST_WORDS:
        return f"vocab_size is {size!r}; it is a whole number from 1 to {MOST_WORDS}"
    sizes = np.asarray(codec.token_bytes())
    if sizes.shape != (size,) or sizes.dtype.kind not in "iu" or (sizes < 0).any():
        return f"token_bytes gives {sizes.dtype} {sizes.shape}; give ({size},) whole numbers, the bytes of each token"
    return ""


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch, size = list[str](), 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if len(batch) == BATCH or size >= CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _alone(documents: IntArray) -> IntArray:
    """(n,) -> (n, 3): sequences with tokens of one document only."""
    return np.repeat(documents[:, None], 3, axis=1)


class RowFile:
    """A .npy file of (n, *row) that grows by rows: numpy pads its header, so that the count can be written last."""

    def __init__(self, path: Path, row: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self.count = 0
        self._row, self._dtype = row, np.dtype(dtype)
        self._file: BinaryIO = path.open("wb")
        self._header()

    def append(self, rows: IntArray) -> None:
        self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).tobytes())
        self.count += len(rows)

    def _header(self) -> None:
        self._file.seek(0)
        shape = (self.count, *self._row)
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if kind is None:
                self._header()
        finally:
            self._file.close()

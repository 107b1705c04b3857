"""Texts on disk: the documents of a corpus that may be larger than the memory."""

from __future__ import annotations

import contextlib
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast, overload

import numpy as np
import numpy.typing as npt

from ..api.component import UserError
from ..engine.machine import way_out
from .cutting import Piece

Spans = npt.NDArray[np.int64]


class Unnamed:
    """A file without a name, which is gone with this object, however the process ends."""

    def __init__(self, folder: Path | None) -> None:
        self.file = cast(BinaryIO, tempfile.TemporaryFile(dir=folder))  # noqa: SIM115
        weakref.finalize(self, _close, self.file)


class TextsOnDisk(Sequence[str]):
    """Texts in a file without a name, read on demand. A slice shares the file, which is gone with the last of them."""

    def __init__(self, place: Unnamed, spans: Spans) -> None:
        """`spans`: (N, 2) the bytes of the file at which each text begins and ends."""
        self._place, self._spans = place, spans

    @classmethod
    def of(cls, pieces: Iterable[Piece], cache: Path) -> TextsOnDisk:
        """The texts of pieces, written to the disk of the cache folder. Raises `UserError` if that is full."""
        try:
            with contextlib.suppress(OSError):
                cache.mkdir(parents=True, exist_ok=True)
            place = Unnamed(cache if cache.is_dir() else None)
            return cls(place, _write(pieces, place.file))
        except OSError as error:
            raise UserError(
                f"cannot write the texts of a corpus to {cache}: {error.strerror or error}; {way_out(error)}, or set "
                "XDG_CACHE_HOME to another folder"
            ) from error

    def joined(self, least: int) -> TextsOnDisk:
        """The same file in texts of at least `least` bytes each, but for the last, with what was between them."""
        joined, start, size = list[tuple[int, int]](), 0, 0
        for number, (begin, end) in enumerate(self._spans.tolist()):
            start = start if size else begin
            size += end - begin
            if size >= least or number == len(self) - 1:
                joined.append((start, end))
                size = 0
        return TextsOnDisk(self._place, np.array(joined, dtype=np.int64).reshape(-1, 2))

    def __len__(self) -> int:
        return len(self._spans)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> TextsOnDisk: ...
    def __getitem__(self, index: int | slice) -> str | TextsOnDisk:
        if isinstance(index, slice):
            return TextsOnDisk(self._place, self._spans[index])
        begin, end = self._spans[index].tolist()
        self._place.file.seek(begin)
        return self._place.file.read(end - begin).decode()

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """As a list of the same texts."""
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


def _close(file: BinaryIO) -> None:
    with contextlib.suppress(OSError):  # it is said where it was written
        file.close()


def _write(pieces: Iterable[Piece], file: BinaryIO) -> Spans:
    """(N, 2) the bytes at which the texts begin and end."""
    spans, place = list[Spans](), 0
    block = list[tuple[int, int]]()
    for text, between in pieces:
        begin, end = place, place + file.write(text.encode())
        place = end + file.write(between.encode())
        block.append((begin, end))
        if len(block) == 65536:  # as numbers of Python they would take ten times as much
            spans.append(np.array(block, dtype=np.int64))
            block = []
    file.flush()  # a full disk is found here
    return np.concatenate([*spans, np.array(block, dtype=np.int64).reshape(-1, 2)])

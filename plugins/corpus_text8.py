"""`text8`: the first 100 million characters of a cleaned Wikipedia; use it with the tokenizer `char`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mist_bench import Corpus, Texts, UserError, cache_folder, download, fingerprint, hookimpl

DATASET = "afmck/text8"
CHARACTERS = 100_000_000
DOCUMENT = 8192  # so that error bars have clusters


class Text8Corpus(Corpus):
    """Letters a to z and the space. The usual splits: 90, 5 and 5 million characters.

    The text has no documents: each split is cut into pieces of 8192 characters instead, or of the next multiple of the
    length, so that sequences of characters fill them.
    """

    name = "text8"
    source = "M. Mahoney, Large Text Compression Benchmark; afmck/text8 on the Hugging Face Hub"
    layout = "windows"

    def identity(self) -> dict[str, Any]:
        return {**self.content(), "fingerprint": fingerprint(DATASET, cache_folder())}

    def load(self, cache: Path) -> Texts:
        return self._pieces(cache, DOCUMENT)

    def load_for(self, cache: Path, length: int) -> Texts:
        return self._pieces(cache, -(-DOCUMENT // length) * length)

    def _pieces(self, cache: Path, size: int) -> Texts:
        """The splits in pieces of so many characters."""
        found = download(DATASET, cache)
        text = ""
        for split in ("train", "validation", "test"):  # the train split may be the whole
            if len(text) < CHARACTERS:
                text += "".join(found.get(split, ()))
        if len(text) != CHARACTERS:
            raise UserError(f"{DATASET} has {len(text)} characters, not {CHARACTERS}; get text8 and use file:PATH")
        first, second = CHARACTERS * 90 // 100, CHARACTERS * 95 // 100
        parts = (text[:first], text[first:second], text[second:])
        train, validation, test = (_cut(part, size) for part in parts)
        return Texts(train=train, validation=validation, test=test)


def _cut(text: str, size: int) -> Sequence[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


@hookimpl
def mist_bench_corpora() -> Iterator[type[Corpus]]:
    yield Text8Corpus

"""`text8`: the first 100 million characters of a cleaned Wikipedia; use it with the tokenizer `char`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mist_bench import Corpus, Texts, UserError, download, hookimpl

CHARACTERS = 100_000_000
DOCUMENT = 8192  # so that error bars have clusters; a multiple of the usual lengths, so that windows drop nothing


class Text8Corpus(Corpus):
    """Letters a to z and the space. The usual splits: 90, 5 and 5 million characters.

    The text has no documents: each split is cut into pieces of 8192 characters instead.
    """

    name = "text8"
    source = "M. Mahoney, Large Text Compression Benchmark; afmck/text8 on the Hugging Face Hub"
    layout = "windows"

    def load(self, cache: Path) -> Texts:
        found = download("afmck/text8", cache)
        text = ""
        for split in ("train", "validation", "test"):  # the train split may be the whole
            if len(text) < CHARACTERS:
                text += "".join(found.get(split, ()))
        if len(text) != CHARACTERS:
            raise UserError(f"afmck/text8 has {len(text)} characters, not {CHARACTERS}; get text8 and use file:PATH")
        first, second = CHARACTERS * 90 // 100, CHARACTERS * 95 // 100
        return Texts(train=_cut(text[:first]), validation=_cut(text[first:second]), test=_cut(text[second:]))


def _cut(text: str) -> Sequence[str]:
    return [text[i : i + DOCUMENT] for i in range(0, len(text), DOCUMENT)]


@hookimpl
def mist_bench_corpora() -> Iterator[type[Corpus]]:
    yield Text8Corpus

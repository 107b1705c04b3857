"""`tinystories`: short stories for small children, written by GPT-3.5 and GPT-4."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mist_bench import Corpus, Texts, cache_folder, download, fingerprint, hold_out, hookimpl

DATASET = "roneneldan/TinyStories"


class TinyStoriesCorpus(Corpus):
    """2.1 million stories, 1.9 GB, packed.

    Test: the published validation split (22 thousand stories), on which numbers are reported. Validation: the last
    10 000 stories of the published train split, held out of it.
    """

    name = "tinystories"
    source = "Eldan and Li, arXiv 2305.07759; roneneldan/TinyStories on the Hugging Face Hub"

    def identity(self) -> dict[str, Any]:
        return {**self.content(), "fingerprint": fingerprint(DATASET, cache_folder())}

    def load(self, cache: Path) -> Texts:
        found = download(DATASET, cache)
        train, validation = hold_out(found["train"])
        return Texts(train=train, validation=validation, test=found["validation"])


@hookimpl
def mist_bench_corpora() -> Iterator[type[Corpus]]:
    yield TinyStoriesCorpus

"""`lm1b`: single sentences of news, shuffled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mist_bench import Corpus, Texts, cache_folder, download, fingerprint, hold_out, hookimpl

DATASET = "dvruette/lm1b"


class Lm1bCorpus(Corpus):
    """30 million sentences, 4 GB, packed as by BD3-LM; MDLM pads, so its numbers are not comparable.

    The text is raw, with its spaces before punctuation. Test: the published test split. Validation: the last 10 000
    sentences of the published train split, held out of it.
    """

    name = "lm1b"
    source = "Chelba et al., arXiv 1312.3005; dvruette/lm1b on the Hugging Face Hub"

    def identity(self) -> dict[str, Any]:
        return {**self.content(), "fingerprint": fingerprint(DATASET, cache_folder())}

    def load(self, cache: Path) -> Texts:
        found = download(DATASET, cache)
        train, validation = hold_out(found["train"])
        return Texts(train=train, validation=validation, test=found["test"])


@hookimpl
def mist_bench_corpora() -> Iterator[type[Corpus]]:
    yield Lm1bCorpus

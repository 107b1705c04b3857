"""`openwebtext`: web pages linked from Reddit, like the training data of GPT-2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mist_bench import Corpus, Texts, UserError, cache_folder, download, fingerprint, hold_out, hookimpl

DATASET = "Skylion007/openwebtext"
TEST = 100_000


class OpenWebTextCorpus(Corpus):
    """8 million documents, 40 GB, packed.

    Test: the last 100 000 documents, which MDLM reports on as validation. Validation: the 10 000 before them,
    held out of training, so that a choice made on it does not touch the reported number.
    """

    name = "openwebtext"
    source = "Gokaslan and Cohen 2019; Skylion007/openwebtext on the Hugging Face Hub; split as MDLM, arXiv 2406.07524"

    def identity(self) -> dict[str, Any]:
        return {**self.content(), "fingerprint": fingerprint(DATASET, cache_folder())}

    def load(self, cache: Path) -> Texts:
        rows = download(DATASET, cache)["train"]
        if len(rows) <= TEST + 1:
            raise UserError(f"{DATASET} has {len(rows)} documents here, not 8 million; clear {cache}/hub")
        train, validation = hold_out(rows[:-TEST])
        return Texts(train=train, validation=validation, test=rows[-TEST:])


@hookimpl
def mist_bench_corpora() -> Iterator[type[Corpus]]:
    yield OpenWebTextCorpus

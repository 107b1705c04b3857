"""`hf:OWNER/NAME`: any data set of the Hugging Face Hub."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mist_bench import Corpus, Texts, UserError, cache_folder, download, fingerprint, hold_out, hookimpl, parameter


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubCorpus(Corpus):
    """A data set of the Hub, downloaded once; its rows are the documents, packed.

    A `validation` or `test` split that is neither named nor present is taken from the end of the train split: a
    twentieth of it, at most 10 000 rows (the test split first, if both). Write `hf:OWNER/NAME`, or
    `hf[dataset=OWNER/NAME,column=story]`.
    """

    name = "hf"
    source = "Hugging Face Hub, through `datasets`"
    dataset: str = parameter(dataclasses.MISSING, "name on the Hub, OWNER/NAME")
    subset: str = parameter("", "configuration, if there are several")
    column: str = parameter("text", "the column that holds the text")
    train: str = parameter("train", "name of the split to train on")
    validation: str = parameter("", "name of the validation split; `validation` if there is one")
    test: str = parameter("", "name of the test split; `test` if there is one")
    revision: str = parameter("", "commit, tag or branch on the Hub; the newest if empty")

    def identity(self) -> dict[str, Any]:
        """With the hash of its revision, or of the files of a local folder: a data set may change under its name."""
        found = fingerprint(self.dataset, cache_folder(), subset=self.subset, revision=self.revision)
        return {**self.content(), "fingerprint": found}

    def load(self, cache: Path) -> Texts:
        wanted = (self.train, self.validation or "validation", self.test or "test")
        found = download(self.dataset, cache, subset=self.subset, column=self.column, revision=self.revision,
                         splits=wanted)  # fmt: skip
        for split in (self.train, *filter(None, (self.validation, self.test))):
            if split not in found:
                raise UserError(f"{self.dataset!r} has no split {split!r}; known: {', '.join(found)}")
        train = found[self.train]
        validation = found.get(self.validation or "validation")
        test = found.get(self.test or "test")
        if test is None:
            train, test = hold_out(train)
        if validation is None:
            train, validation = hold_out(train)
        return Texts(train=train, validation=validation, test=test)


@hookimpl
def mist_bench_corpora() -> Iterator[type[Corpus]]:
    yield HubCorpus

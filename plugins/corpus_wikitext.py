"""`wikitext`: good and featured articles of the English Wikipedia."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Literal

from mist_bench import Corpus, Texts, TextsOnDisk, cache_folder, download, fingerprint, hookimpl, parameter

DATASET = "Salesforce/wikitext"
TITLE = re.compile(r" = [^=].*[^=] = \n")


@dataclass(frozen=True, kw_only=True)
class WikiTextCorpus(Corpus):
    """The published splits, packed; its lines are joined into articles, one for each title ` = Title = `."""

    name = "wikitext"
    source = "Merity et al., arXiv 1609.07843; Salesforce/wikitext on the Hugging Face Hub"
    subset: Literal["wikitext-103-raw-v1", "wikitext-2-raw-v1"] = parameter("wikitext-103-raw-v1", "which of the two")

    def identity(self) -> dict[str, Any]:
        return {**self.content(), "fingerprint": fingerprint(DATASET, cache_folder(), subset=self.subset)}

    def load(self, cache: Path) -> Texts:
        found = download(DATASET, cache, subset=self.subset)
        train, validation, test = (
            TextsOnDisk.of(((article, "") for article in _articles(found[split])), cache)
            for split in ("train", "validation", "test")
        )
        return Texts(train=train, validation=validation, test=test)


def _articles(lines: Iterable[str]) -> Iterator[str]:
    """A title is a line ` = … = ` after an empty line and before another; table cells may look like titles."""
    article: list[str] = []
    before = ""
    for line, after in pairwise(chain(lines, [""])):
        if article and TITLE.fullmatch(line) and not before.strip() and not after.strip():
            yield "".join(article)
            article = []
        if line:
            article.append(line)
        before = line
    if article:
        yield "".join(article)


@hookimpl
def mist_bench_corpora() -> Iterator[type[Corpus]]:
    yield WikiTextCorpus

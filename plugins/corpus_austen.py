"""`austen`: six novels of Jane Austen, cut into chapters."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mist_bench import Corpus, Texts, hookimpl

TRAINED = ("sense_and_sensibility", "pride_and_prejudice", "mansfield_park", "emma", "northanger_abbey")
TEST = "persuasion"
EVERY, FIRST = 20, 9  # chapters 10, 30, 50, … of the five novels in the order of their publication

HEADING = re.compile(r"^(?:CHAPTER|Chapter) (?:[IVXL]+|\d+)$", re.MULTILINE)
VOLUME = re.compile(r"^VOLUME [IVX]+$", re.MULTILINE)
EDITORIAL = re.compile(r"^ *\[(?:End volume|At this point in the first)[^\]]*\]$", re.MULTILINE)
AFTER = re.compile(r"^(?:FINIS|Finis|THE END|A NOTE ON THE TEXT)$", re.MULTILINE)


class AustenCorpus(Corpus):
    """4 MB of prose in 269 chapters, a document each; lines stay as printed.

    Test: the 24 chapters of Persuasion. Validation: chapters 10, 30, 50, … of the other five novels, numbered through
    in the order of their publication (12 chapters). Train: the remaining 233. Headings, "THE END" and editors' notes
    are removed.
    """

    name = "austen"
    source = "Jane Austen, six novels (1811-1818), public domain"
    layout = "windows"

    def load(self, cache: Path) -> Texts:
        novels = _novels()
        known = [chapter for title in TRAINED for chapter in chapters(novels[title])]
        validation = known[FIRST::EVERY]
        train = [chapter for i, chapter in enumerate(known) if i % EVERY != FIRST]
        return Texts(train=train, validation=validation, test=chapters(novels[TEST]))

    def identity(self) -> dict[str, Any]:
        return {**self.content(), "sha256": hashlib.sha256(_archive()).hexdigest()}


def _archive() -> bytes:
    # importlib.resources cannot read a package without __init__.py when it is installed as editable
    return Path(__file__).with_name("data").joinpath("austen.tar.xz").read_bytes()


def _novels() -> dict[str, str]:
    """Title -> text of each file of the archive."""
    with tarfile.open(fileobj=io.BytesIO(_archive()), mode="r:xz") as archive:
        found = {member.name: archive.extractfile(member) for member in archive}
        return {name.removesuffix(".txt"): file.read().decode() for name, file in found.items() if file}


def chapters(novel: str) -> list[str]:
    """The text between the headings, without volume headings, notes and front matter."""
    body = AFTER.split(novel)[0]
    found = HEADING.split(EDITORIAL.sub("", VOLUME.sub("", body)))[1:]
    return [text.lstrip("\n").rstrip() + "\n" for text in found]


@hookimpl
def mist_bench_corpora() -> Iterator[type[Corpus]]:
    yield AustenCorpus

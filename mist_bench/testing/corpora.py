"""Checks of a corpus: splits of text that are the same at every load. If it knows its truth: `oracles`."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from ..api.component import FloatArray, IntArray, UserError
from ..api.corpora import Corpus, Oracle, Texts
from ..api.tokenizers import utf8
from ..engine import compiler, machine
from ..host.registry import Registry
from .core import Failed, Skipped, Study, check, unreachable

SPLITS = ("train", "validation", "test")
MOST_TEXTS = 2_000
SAMPLES = 2_000
LONG = 4096


class CorpusStudy(Study):
    """A corpus, its texts and its oracle."""

    component: Corpus

    def load(self) -> Texts:
        """Its documents. Skips where they cannot be downloaded."""
        try:
            return self.component.load(machine.cache_folder())
        except UserError as error:
            if unreachable(error) or "download" in str(error) or "Hub" in str(error):
                raise Skipped(f"cannot be loaded here: {error}") from error
            raise

    @property
    def texts(self) -> Texts:
        return self.once("texts", self.load)

    def some(self, split: str, most: int = MOST_TEXTS) -> list[str]:
        """The first documents of a split."""
        found: Sequence[str] = getattr(self.texts, split)
        return [found[i] for i in range(min(most, len(found)))]

    @property
    def oracle(self) -> Oracle:
        """Its truth. Skips where there is none."""
        found = self.component.oracle()
        if found is None:
            raise Skipped("it has no oracle")
        compiler.prepare()
        return found

    def samples(self) -> IntArray:
        """(N, L) draws of the oracle."""
        _ = self.oracle
        return self.once("samples", lambda: self.oracle.sample(SAMPLES, np.random.default_rng(0)))

    def posterior(self, tokens: IntArray) -> FloatArray:
        """(B, L) with masks -> (B, L, V) float64 log p."""
        from tinygrad import Tensor

        return np.asarray(self.oracle.log_posterior(Tensor(tokens.astype(np.int32))).numpy().astype(np.float64))

    def hidden(self) -> tuple[IntArray, IntArray]:
        """Texts (B, L), and the same with random positions masked."""
        tokens = self.samples()[:64]
        rng = np.random.default_rng(1)
        masked = rng.random(tokens.shape) < rng.uniform(0.1, 1.0, (len(tokens), 1))
        return tokens, np.where(masked, self.oracle.vocab_size, tokens)


def study(component: Corpus, registry: Registry) -> CorpusStudy:
    return CorpusStudy(component, registry)


@check("corpus")
def splits(its: CorpusStudy) -> str:
    """Three splits, none empty, all of str that UTF-8 can encode."""
    for split in SPLITS:
        texts = its.some(split)
        if not texts:
            raise Failed(f"the {split} split is empty; hold some documents out of another one")
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise Failed(f"{split}[{number}] is {type(text).__name__}; documents are str")
            try:
                utf8(text)
            except UserError as error:
                raise Failed(f"{split}[{number}]: {error}") from error
        if not any(texts):
            raise Failed(f"every document of the {split} split is empty")
    return ", ".join(f"{len(getattr(its.texts, split))} {split}" for split in SPLITS)


@check("corpus")
def loads_the_same_again(its: CorpusStudy) -> None:
    """Every load gives the same documents in the same order."""
    first = {split: (len(getattr(its.texts, split)), its.some(split)) for split in SPLITS}
    again = its.load()
    for split, (count, texts) in first.items():
        found: Sequence[str] = getattr(again, split)
        if len(found) != count or [found[i] for i in range(len(texts))] != texts:
            raise Failed(
                f"loaded again, the {split} split differs; sort files, and give every random generator a fixed seed"
            )


@check("corpus")
def same_text_for_lengths(its: CorpusStudy) -> str:
    """Documents for long sequences are the same text, cut elsewhere."""
    if type(its.component).load_for is Corpus.load_for:
        return "its documents do not depend on the length of a sequence"
    longer = its.component.load_for(machine.cache_folder(), LONG)
    first, again = _words(its.texts), _words(longer)
    if first != again:
        raise Failed(
            f"load_for(cache, {LONG}) gives {len(again)} words where load(cache) gives {len(first)}, or others; cut "
            "the same text into longer documents, in the same order"
        )
    return f"{len(its.texts.train)} train documents, {len(longer.train)} for sequences of {LONG} tokens"


def _words(texts: Texts) -> list[str]:
    """The words of all splits, one after another: space between documents may be lost."""
    return [word for split in SPLITS for document in getattr(texts, split) for word in document.split()]


@check("corpus")
def overlap(its: CorpusStudy) -> str:
    """Held-out documents are not in the train split."""
    train = set(its.some("train", 10**6))
    counts = []
    for split in ("validation", "test"):
        texts = its.some(split, 10**5)
        known = sum(text in train for text in texts)
        counts.append(f"{known} of {len(texts)} {split}")
        if known > len(texts) / 2 and its.component.oracle() is None:
            raise Failed(
                f"{known} of {len(texts)} documents of the {split} split are in the train split; hold out other ones"
            )
    return f"also in train: {', '.join(counts)}"


@check("corpus")
def identity(its: CorpusStudy) -> None:
    """The identity is plain JSON and the same for the same corpus."""
    try:
        first, again = (json.dumps(its.component.identity(), sort_keys=True) for _ in range(2))
    except TypeError as error:
        raise Failed(f"identity() is not JSON ({error}); give str, numbers, lists and dicts") from error
    if first != again:
        raise Failed("identity() differs from call to call; give name, parameters and a hash of the content, no times")
    if json.loads(first).get("name") != its.component.name:
        raise Failed("identity() does not hold the name; begin with self.content()")


@check("corpus")
def vocabulary(its: CorpusStudy) -> str:
    """Its texts are made of the pieces that it declares, and its oracle knows them."""
    pieces = its.component.vocabulary()
    if pieces is None:
        if its.component.oracle() is not None:
            raise Failed("it has an oracle and no vocabulary(); declare the pieces in the order of the oracle's ids")
        raise Skipped("it declares no pieces")
    codec = its.registry.first("tokenizer", "keeps_pieces").fit(its.some("train"), pieces)
    for text in its.some("train", 256):
        try:
            found = codec.encode(text)
        except UserError as error:
            raise Failed(f"a document is not made of the pieces of vocabulary(): {error}") from error
        if codec.decode(found) != text:
            raise Failed("a document does not come back from the pieces of vocabulary()")
    if its.component.oracle() is not None:
        _known_to_the_oracle(its, [codec.encode(text) for text in its.some("test", 256)], len(pieces))
    return f"{len(pieces)} pieces"


def _known_to_the_oracle(its: CorpusStudy, texts: list[IntArray], pieces: int) -> None:
    oracle = its.oracle
    if oracle.vocab_size != pieces + 1:
        raise Failed(
            f"the oracle has {oracle.vocab_size} tokens, vocabulary() {pieces}; it has one more, the end token"
        )
    if its.component.fixed_length() != oracle.length:
        raise Failed(
            f"fixed_length() is {its.component.fixed_length()}, the oracle's length {oracle.length}; give the latter"
        )
    longest = max(map(len, texts))
    if longest > oracle.length:
        raise Failed(f"a document has {longest} pieces, the oracle's length is {oracle.length}")
    rows = np.full((len(texts), oracle.length), pieces)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text)] = text
    impossible = ~np.isfinite(oracle.log_probability(rows))
    if impossible.any():
        raise Failed(
            f"{impossible.sum()} of {len(texts)} test documents have probability 0 under the oracle; order the ids "
            "alike"
        )

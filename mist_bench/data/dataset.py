"""A corpus as sequences of tokens: made once, kept on disk, memory-mapped from there.

    <cache>/data/<key>/meta.json                       settings, counts, the fitted tokenizer
    <cache>/data/<key>/<split>.{tokens,clusters,text_bytes}.npy

The key is the hash of everything that makes the tokens another. A folder is written under another name and renamed
when whole, so what a killed process leaves behind is never read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..api.component import IntArray, UserError
from ..api.corpora import Corpus, Texts
from ..api.tokenizers import Codec, Tokenizer
from .layouts import SPLITS, RowFile, Sequencer, count_known

FORMAT = 1
META = "meta.json"
ARRAYS = ("tokens", "clusters", "text_bytes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """N sequences of L tokens."""

    tokens: IntArray
    """(N, L), memory-mapped, uint16 or int32."""
    clusters: IntArray
    """(N,) what error bars are taken over: the document's number for `windows`, the sequence's own otherwise."""
    text_bytes: IntArray
    """(N,) bytes of raw UTF-8 that each sequence stands for; the end token stands for none."""

    def __len__(self) -> int:
        return len(self.tokens)

    def spread(self) -> Split:
        """The same sequences in an order whose every beginning is spread evenly over the documents.

        A run takes the first sequences of a split: in the printed order they would be of one chapter, and an error
        over chapters would be of nothing. Golden-ratio order; where no document has two sequences, as it is.
        """
        if len(np.unique(self.clusters)) == len(self):
            return self
        order = np.argsort(np.argsort(np.arange(len(self)) * ((5**0.5 - 1) / 2) % 1.0))
        return Split(**{name: np.asarray(getattr(self, name))[order] for name in ARRAYS})

    @property
    def bytes_per_token(self) -> float:
        """Bytes of raw UTF-8 per token, end tokens counted as tokens: bits per byte = nats per token / (this ln 2)."""
        return float(self.text_bytes.sum() / self.tokens.size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """The three splits of a corpus under a tokenizer."""

    corpus: str
    tokenizer: str
    codec: Codec
    vocab_size: int
    """V: tokens that can be predicted, the end token included where the layout has one."""
    end: int | None
    """Id of the end token, V - 1; None for `windows`."""
    mask: int
    """Id of the mask, V."""
    length: int
    train: Split
    validation: Split
    test: Split
    duplicates: Mapping[str, int]
    """`test` and `validation`: how many of their sequences occur, token for token, in the train split."""
    fingerprint: str
    """sha256 over all tokens and the settings that made them."""
    scored_end: bool
    """Whether end tokens are predicted and scored like any other: always, where there are any."""
    oracle_ids: bool
    """Whether the ids are those of the corpus's oracle: its own pieces in its own order."""

    def decode(self, ids: Sequence[int] | IntArray, mask: str = "", end: str = "") -> str:
        """The text of a sequence (L,); `mask` and `end` are what is shown for masks and end tokens."""
        shown = {self.mask: mask, self.end: end}
        parts: list[str] = []
        run: list[int] = []
        for i in np.asarray(ids, dtype=np.int64).tolist():
            if i in shown:
                parts += (self.codec.decode(run), shown[i])
                run = []
            else:
                run.append(i)
        return "".join([*parts, self.codec.decode(run)])


def load(corpus: Corpus, tokenizer: Tokenizer, length: int, cache: Path) -> Dataset:
    """The sequences of a corpus, from the cache if they are there.

    Raises `UserError` for a length below 2 or against the oracle's own, for a split without a full sequence, for a
    document longer than a padded sequence, for text that the tokenizer refuses, and for a cache that cannot be written.
    """
    if length < 2:
        raise UserError(f"sequences have at least 2 tokens, not {length}; give a longer length")
    settings = _settings(corpus, tokenizer, length)
    text = json.dumps(settings, sort_keys=True)
    folder = cache / "data" / hashlib.sha256(text.encode()).hexdigest()[:16]
    found = _read(folder)
    if found is None:
        codec = _tokenize(folder, corpus, tokenizer, settings, cache)
        found = _read(folder)
    elif found.meta["codec"] is None:
        codec = tokenizer.fit(corpus.load(cache).train, corpus.vocabulary())
    else:
        codec = tokenizer.restore(found.meta["codec"])
    if found is None:
        raise UserError(f"the files in {folder} cannot be read back; remove that folder and run again")
    return _dataset(corpus, tokenizer, codec, found)


def _tokenize(folder: Path, corpus: Corpus, tokenizer: Tokenizer, settings: dict[str, Any], cache: Path) -> Codec:
    """Fit the tokenizer and write the folder."""
    texts = corpus.load(cache)
    codec = tokenizer.fit(texts.train, corpus.vocabulary())
    own, length = corpus.fixed_length(), settings["length"]
    if own is not None and own != length and _owns_ids(corpus, codec):
        raise UserError(f"sequences of {corpus.spec} have {own} tokens of its own vocabulary, not {length}")
    try:
        _make(folder, Sequencer(corpus, tokenizer, codec, length), texts, settings)
    except OSError as error:
        raise UserError(
            f"cannot write the tokens of {corpus.spec} to {folder.parent}: {error.strerror or error}; free some space, "
            "or set XDG_CACHE_HOME to a folder that can be written"
        ) from error
    return codec


def _settings(corpus: Corpus, tokenizer: Tokenizer, length: int) -> dict[str, Any]:
    """Everything that makes the tokens another, the code of the two plugins included."""
    pieces = corpus.vocabulary()
    return {
        "format": FORMAT,
        "corpus": corpus.identity(),
        "tokenizer": tokenizer.content(),
        "length": length,
        "layout": corpus.layout,
        "vocabulary": None if pieces is None else list(pieces),
        "code": [_code(type(corpus)), _code(type(tokenizer))],
    }


def _code(cls: type) -> str:
    try:
        return hashlib.sha256(Path(inspect.getfile(cls)).read_bytes()).hexdigest()
    except (OSError, TypeError):  # typed at a prompt
        return ""


def _owns_ids(corpus: Corpus, codec: Codec) -> bool:
    """Whether the codec's tokens are the pieces that the corpus declares, in their order."""
    pieces = corpus.vocabulary()
    return (
        pieces is not None
        and len(pieces) == codec.vocab_size
        and all(codec.decode([i]) == piece for i, piece in enumerate(pieces))
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Found:
    meta: dict[str, Any]
    splits: dict[str, Split]


def _read(folder: Path) -> _Found | None:
    """What is in the folder; None if it is not there, not whole, or not what its description says."""
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        splits = {}
        for name in SPLITS:
            arrays = {kind: np.load(folder / f"{name}.{kind}.npy", mmap_mode="r") for kind in ARRAYS}
            rows = meta["rows"][name]
            described = {"tokens": (rows, meta["settings"]["length"]), "clusters": (rows,), "text_bytes": (rows,)}
            if any(arrays[kind].shape != described[kind] for kind in ARRAYS):
                return None
            splits[name] = Split(**arrays)
        if meta["settings"]["format"] != FORMAT or not {"codec", "duplicates", "fingerprint"} <= meta.keys():
            return None
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None
    return _Found(meta=meta, splits=splits)


def _make(folder: Path, sequencer: Sequencer, texts: Texts, settings: dict[str, Any]) -> None:
    """Write the folder whole, or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        rows = {}
        for name in SPLITS:
            rows[name] = _write_split(making, name, sequencer, getattr(texts, name), digest)
        tokens = {name: np.load(making / f"{name}.tokens.npy", mmap_mode="r") for name in SPLITS}
        meta = {
            "settings": settings,
            "codec": sequencer.codec.state(),
            "rows": rows,
            "duplicates": {name: count_known(tokens[name], tokens["train"]) for name in ("validation", "test")},
            "fingerprint": digest.hexdigest(),
        }
        (making / META).write_text(json.dumps(meta), encoding="utf-8")
        _move(making, folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _write_split(folder: Path, name: str, sequencer: Sequencer, texts: Sequence[str], digest: Any) -> int:
    clusters: list[IntArray] = []
    text_bytes: list[IntArray] = []
    with RowFile(folder / f"{name}.tokens.npy", sequencer.length, sequencer.dtype) as file:
        for rows, cluster in sequencer.rows(texts, name):
            file.append(rows)
            digest.update(rows.tobytes())
            clusters.append(cluster)
            text_bytes.append(sequencer.text_bytes(rows))
        digest.update(name.encode())
        count = file.count
    np.save(folder / f"{name}.clusters.npy", np.concatenate(clusters))
    np.save(folder / f"{name}.text_bytes.npy", np.concatenate(text_bytes))
    return count


def _move(making: Path, folder: Path) -> None:
    """Give the finished folder its name. Another process may have been first; a damaged one is put aside."""
    try:
        os.rename(making, folder)
    except OSError:
        if not folder.exists():
            raise
        if _read(folder) is None:
            aside = making.with_name(making.name.replace("making", "damaged"))
            os.rename(folder, aside)
            os.rename(making, folder)
            shutil.rmtree(aside, ignore_errors=True)


def _dataset(corpus: Corpus, tokenizer: Tokenizer, codec: Codec, found: _Found) -> Dataset:
    end = None if corpus.layout == "windows" else codec.vocab_size
    vocab_size = codec.vocab_size + (end is not None)
    return Dataset(
        corpus=corpus.spec,
        tokenizer=tokenizer.spec,
        codec=codec,
        vocab_size=vocab_size,
        end=end,
        mask=vocab_size,
        length=found.meta["settings"]["length"],
        train=found.splits["train"],
        validation=found.splits["validation"].spread(),
        test=found.splits["test"].spread(),
        duplicates=found.meta["duplicates"],
        fingerprint=found.meta["fingerprint"],
        scored_end=end is not None,
        oracle_ids=_owns_ids(corpus, codec),
    )

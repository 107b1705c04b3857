"""Dataset: a corpus as sequences of tokens, tokenized once and memory-mapped from a cache on disk.

    <cache>/data/<key>/meta.json                       settings, counts, the fitted tokenizer
    <cache>/data/<key>/<split>.{tokens,documents,text_bytes}.npy
    <cache>/data/<key>/{validation,test}.in_train.npy

The key is the hash of everything that determines the tokens. A folder is written under a temporary name and renamed
when it is complete, so that the leftovers of a killed process are never read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from ..api.component import IntArray, UserError
from ..api.corpora import Corpus, Layout, Texts
from ..api.tokenizers import Codec, Tokenizer
from ..engine.machine import sweep, temporary_name, way_out
from .clusters import clusters_of
from .layouts import SPLITS, RowFile, Sequencer
from .occurrences import NOWHERE, SAME, SHIFTED, in_train

FORMAT = 4
VERIFIED = 2**26
"""Bytes of a file of the cache that are read each time to see that they are those written. Of a larger one its size and
time are looked at, and it is read only if they differ."""
META = "meta.json"
ARRAYS = ("tokens", "documents", "text_bytes")
HELD_OUT = ("validation", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """A split of a corpus: N sequences of L tokens."""

    tokens: IntArray
    """(N, L), memory-mapped, uint16 or int32."""
    documents: IntArray
    """(N, 3) numbers of the documents that the first, the middle and the last token of each sequence are of."""
    places: IntArray
    """(N,) where each sequence is in the text: neighbours may depend on each other."""
    text_bytes: IntArray
    """(N,) bytes of raw UTF-8 in each sequence; the end token has none."""
    in_train: IntArray | None = None
    """(N,) whether a held-out sequence also occurs, token for token, in the train split: 0 nowhere, 1 as a sequence of
    it, 2 at another offset of one of its texts. None for the train split itself."""

    def __len__(self) -> int:
        return len(self.tokens)

    def clusters(self, count: int) -> IntArray:
        """(count,) the independent unit, for standard errors, of each of the first `count` sequences."""
        return clusters_of(self.documents[:count], self.places[:count])

    def counts_in_train(self) -> dict[str, int]:
        """How many sequences of a held-out split the train split has too: as `same` sequences, and `shifted`."""
        kinds = np.zeros(0) if self.in_train is None else self.in_train
        return {"same": int((kinds == SAME).sum()), "shifted": int((kinds == SHIFTED).sum())}

    def unseen(self) -> npt.NDArray[np.bool_]:
        """(N,) which sequences occur nowhere in the train split."""
        return np.ones(len(self), dtype=np.bool_) if self.in_train is None else np.asarray(self.in_train == NOWHERE)

    def spread(self) -> Split:
        """The split reordered so that its first sequences, however many, come evenly from all documents.

        A run uses the first sequences of a split. In the original order they would all be of one chapter, and a
        standard error over chapters would be impossible. The order follows the golden ratio; a split whose documents
        have one sequence each stays as it is.
        """
        if (self.documents[1:, 0] > self.documents[:-1, 2]).all():
            return self
        order = np.argsort(np.argsort(np.arange(len(self)) * ((5**0.5 - 1) / 2) % 1.0))
        held = {name: array for name, array in vars(self).items() if array is not None}
        return Split(**{name: np.asarray(array)[order] for name, array in held.items()})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """A corpus under a tokenizer: its three splits, and what its token ids mean."""

    corpus: str
    tokenizer: str
    codec: Codec
    vocab_size: int
    """V: number of tokens that can be predicted, including the end token where the layout has one."""
    end: int | None
    """Id of the end token, V - 1, predicted and scored like any other; None for `windows`."""
    mask: int
    """Id of the mask, V."""
    length: int
    train: Split
    validation: Split
    test: Split
    left_out: Mapping[str, float]
    """For each split, the share of its tokens that is in no sequence: ends of documents, and documents too short."""
    said: str = ""
    """What a user must know of how the corpus was read; empty if there is nothing."""
    oracle_ids: bool
    """Whether the ids are those of the corpus's oracle: its pieces in its order."""

    def decode(self, ids: Sequence[int] | IntArray, mask: str = "", end: str = "") -> str:
        """The text of a sequence (L,), with `mask` and `end` in place of masks and end tokens."""
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


def open_dataset(corpus: Corpus, tokenizer: Tokenizer, length: int, cache: Path) -> Dataset:
    """The dataset of a corpus under a tokenizer, read from the cache or tokenized and written there.

    Raises `UserError` for a length below 2 or unlike the oracle's own, for a split without a full sequence, for a
    document longer than a padded sequence, for text that the tokenizer refuses, and for a cache that cannot be written.
    """
    if length < 2:
        raise UserError(f"sequences have at least 2 tokens, not {length}; give a longer length")
    settings = _settings(corpus, tokenizer, length)
    text = json.dumps(settings, sort_keys=True)
    folder = cache / "data" / hashlib.sha256(text.encode()).hexdigest()[:16]
    stored = _read(folder)
    if stored is None:
        codec = _tokenize(folder, corpus, tokenizer, settings, cache)
        stored = _read(folder)
    elif stored.meta["codec"] is None:
        codec = tokenizer.fit(corpus.load_for(cache, length).train, corpus.vocabulary())
    else:
        codec = tokenizer.restore(stored.meta["codec"])
    if stored is None:
        raise UserError(f"the files in {folder} cannot be read back; remove that folder and run again")
    return _dataset(corpus, tokenizer, codec, stored)


def _tokenize(folder: Path, corpus: Corpus, tokenizer: Tokenizer, settings: dict[str, Any], cache: Path) -> Codec:
    """Fit the tokenizer and write the folder."""
    texts = corpus.load_for(cache, settings["length"])
    if problem := _problem(corpus, texts):
        raise UserError(f"corpus {corpus.spec!r} {problem}")
    codec = tokenizer.fit(texts.train, corpus.vocabulary())
    own, length = corpus.fixed_length(), settings["length"]
    if own is not None and own != length and _owns_ids(corpus, codec):
        raise UserError(f"sequences of {corpus.spec} have {own} tokens of its own vocabulary, not {length}")
    try:
        _write(folder, Sequencer(corpus, tokenizer, codec, length), texts, settings)
    except OSError as error:
        raise UserError(
            f"cannot write the tokens of {corpus.spec} to {folder.parent}: {error.strerror or error}; "
            f"{way_out(error)}, or set XDG_CACHE_HOME to another folder"
        ) from error
    return codec


def _problem(corpus: Corpus, texts: Any) -> str:
    """Why what a corpus gives cannot be used; empty if it can. Each document is looked at when it is read."""
    if not isinstance(texts, Texts):
        return f"gives {type(texts).__name__} from load; give Texts(train=…, validation=…, test=…)"
    if corpus.layout not in get_args(Layout):
        return f"declares layout = {corpus.layout!r}; it is one of {', '.join(map(repr, get_args(Layout)))}"
    for name in SPLITS:
        split: Any = getattr(texts, name)
        if isinstance(split, str | bytes) or not isinstance(split, Sequence):
            return f"gives {type(split).__name__} as its {name} split; give a list of texts"
        if not len(split):
            return f"gives an empty {name} split; give at least one text"
    return ""


def _settings(corpus: Corpus, tokenizer: Tokenizer, length: int) -> dict[str, Any]:
    """Everything that determines the tokens, including the code of the two plugins."""
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
    except (OSError, TypeError):  # a class without a file, defined at a prompt
        return ""


def _owns_ids(corpus: Corpus, codec: Codec) -> bool:
    """Whether the codec's tokens are the corpus's declared pieces in their order."""
    pieces = corpus.vocabulary()
    return (
        pieces is not None
        and len(pieces) == codec.vocab_size
        and all(codec.decode([i]) == piece for i, piece in enumerate(pieces))
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Stored:
    """The content of a folder of the cache."""

    meta: dict[str, Any]
    splits: dict[str, Split]


def _read(folder: Path) -> _Stored | None:
    """The content of a folder; None if it is missing, incomplete or damaged."""
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        splits = {}
        if not all(_as_written(folder / file, known) for file, known in meta["files"].items()):
            return None
        for name in SPLITS:
            arrays = {kind: np.load(folder / f"{name}.{kind}.npy", mmap_mode="r") for kind in ARRAYS}
            rows = meta["rows"][name]
            described = {"tokens": (rows, meta["settings"]["length"]), "documents": (rows, 3), "text_bytes": (rows,)}
            if any(arrays[kind].shape != described[kind] for kind in ARRAYS):
                return None
            if name in HELD_OUT:
                arrays["in_train"] = np.load(folder / f"{name}.in_train.npy", mmap_mode="r")
                if arrays["in_train"].shape != (rows,):
                    return None
            splits[name] = Split(**arrays, places=np.arange(rows))
        if meta["settings"]["format"] != FORMAT or not {"codec", "left_out"} <= meta.keys():
            return None
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return _Stored(meta=meta, splits=splits)


def _as_written(path: Path, known: Mapping[str, Any]) -> bool:
    """Whether a file holds what was written."""
    found = path.stat()
    if found.st_size != known["bytes"]:
        return False
    if found.st_size > VERIFIED and found.st_mtime_ns == known["changed"]:
        return True
    return bool(_described(path)["sha256"] == known["sha256"])


def _described(path: Path) -> dict[str, Any]:
    """What a file is recognised by."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "changed": path.stat().st_mtime_ns, "sha256": digest}


def _write(folder: Path, sequencer: Sequencer, texts: Texts, settings: dict[str, Any]) -> None:
    """Write the folder completely, or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder.parent)
    unfinished = temporary_name(folder)
    unfinished.mkdir()
    try:
        rows, left_out = {}, {}
        for name in SPLITS:
            read, kept = sequencer.read, sequencer.kept
            rows[name] = _write_split(unfinished, name, sequencer, getattr(texts, name))
            left_out[name] = 1 - (sequencer.kept - kept) / max(1, sequencer.read - read)
        _write_occurrences(unfinished, settings["layout"])
        files = {path.name: _described(path) for path in sorted(unfinished.iterdir())}
        meta = {"settings": settings, "codec": sequencer.codec.state(), "rows": rows, "left_out": left_out,
                "said": texts.said, "files": files}  # fmt: skip
        (unfinished / META).write_text(json.dumps(meta), encoding="utf-8")
        _move(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_split(folder: Path, name: str, sequencer: Sequencer, texts: Sequence[str]) -> int:
    """Write the arrays of a split; the number of its sequences."""
    with (
        RowFile(folder / f"{name}.tokens.npy", (sequencer.length,), sequencer.dtype) as tokens,
        RowFile(folder / f"{name}.documents.npy", (3,), np.int32) as documents,
        RowFile(folder / f"{name}.text_bytes.npy", (), np.int64) as text_bytes,
    ):
        for rows, of in sequencer.rows(texts, name):
            tokens.append(rows)
            documents.append(of)
            text_bytes.append(sequencer.text_bytes(rows))
        return tokens.count


def _write_occurrences(folder: Path, layout: str) -> None:
    """Write where the train split has the sequences of the others. A text is a document, or all that is packed."""
    tokens = {name: np.load(folder / f"{name}.tokens.npy", mmap_mode="r") for name in SPLITS}
    texts = np.load(folder / "train.documents.npy", mmap_mode="r")[:, 0]
    if layout != "windows":
        texts = None if layout == "padded" else np.zeros(len(texts), dtype=np.int8)
    found = in_train([tokens[name] for name in HELD_OUT], tokens["train"], texts)
    for name, kinds in zip(HELD_OUT, found, strict=True):
        np.save(folder / f"{name}.in_train.npy", kinds)


def _move(finished: Path, folder: Path) -> None:
    """Rename the finished folder. One that another process wrote meanwhile stays; a damaged one is replaced."""
    try:
        os.rename(finished, folder)
    except OSError:
        if not folder.exists():
            raise
        if _read(folder) is None:
            damaged = temporary_name(folder)
            os.rename(folder, damaged)
            os.rename(finished, folder)
            shutil.rmtree(damaged, ignore_errors=True)


def _dataset(corpus: Corpus, tokenizer: Tokenizer, codec: Codec, stored: _Stored) -> Dataset:
    end = None if corpus.layout == "windows" else codec.vocab_size
    vocab_size = codec.vocab_size + (end is not None)
    return Dataset(
        corpus=corpus.spec,
        tokenizer=tokenizer.spec,
        codec=codec,
        vocab_size=vocab_size,
        end=end,
        mask=vocab_size,
        length=stored.meta["settings"]["length"],
        train=stored.splits["train"],
        validation=stored.splits["validation"].spread(),
        test=stored.splits["test"].spread(),
        left_out=stored.meta["left_out"],
        said=stored.meta.get("said", ""),
        oracle_ids=_owns_ids(corpus, codec),
    )

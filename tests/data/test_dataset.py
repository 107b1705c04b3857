"""From documents to sequences: the three layouts, and the cache on disk."""

from __future__ import annotations

import dataclasses
import json
import math
import os

import numpy as np
import pytest
from mist_bench_plugins.corpus_markov import MarkovCorpus
from mist_bench_plugins.corpus_tales import TalesCorpus
from mist_bench_plugins.tokenizer_bpe import BpeTokenizer
from mist_bench_plugins.tokenizer_byte import ByteTokenizer, Utf8Codec
from mist_bench_plugins.tokenizer_char import CharacterTokenizer
from mist_bench_plugins.tokenizer_word import WordTokenizer

from mist_bench import Codec, Corpus, Texts, Tokenizer, UserError, parameter
from mist_bench.data import dataset, layouts, occurrences

DOCUMENTS = Texts(
    train=["abcdefgh", "", "ab", "héllo w"],
    validation=["abcdx", "ab"],
    test=["abcd", "wxyz!", "héllo w", "abcd"],
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Small(Corpus):
    """A corpus that can be told not to load."""

    name = "small"
    salt: int = parameter(0, "another number, another corpus")
    forbidden: bool = parameter(False, "not part of the identity")

    def load(self, cache):
        assert not self.forbidden, "the cache was not used"
        return DOCUMENTS

    def identity(self):
        return {"name": self.name, "salt": self.salt}


class Padded(Small):
    layout = "padded"


class Windows(Small):
    layout = "windows"


class Packed(Small):
    layout = "packed"


def by_hand(split: str) -> list[list[int]]:
    return [list(text.encode()) for text in getattr(DOCUMENTS, split)]


def test_padded(tmp_path):
    found = dataset.open_dataset(Padded(), ByteTokenizer(), 9, tmp_path)
    assert (found.vocab_size, found.end, found.mask) == (257, 256, 257)
    for name in ("train", "validation", "test"):
        split = getattr(found, name)
        assert split.tokens.tolist() == [ids + [256] * (9 - len(ids)) for ids in by_hand(name)]
        assert split.documents.tolist() == [[i] * 3 for i in range(len(split))]
        assert split.clusters(len(split)).tolist() == list(range(len(split)))
        assert split.text_bytes.tolist() == [len(text.encode()) for text in getattr(DOCUMENTS, name)]
        assert [found.decode(row) for row in split.tokens] == list(getattr(DOCUMENTS, name))


def test_packed(tmp_path):
    found = dataset.open_dataset(Packed(), ByteTokenizer(), 4, tmp_path)
    assert (found.vocab_size, found.end, found.mask) == (257, 256, 257)
    for name in ("train", "validation", "test"):
        split = getattr(found, name)
        stream = [(i, number) for number, ids in enumerate(by_hand(name)) for i in [*ids, 256]]
        rows = [stream[i : i + 4] for i in range(0, len(stream) - 3, 4)]
        rows = [rows[place] for place in split.places]
        assert sorted(split.places) == list(range(len(rows)))
        assert split.tokens.tolist() == [[i for i, _ in row] for row in rows]
        assert split.documents.tolist() == [[row[at][1] for at in (0, 2, 3)] for row in rows]
        assert split.text_bytes.tolist() == [sum(i != 256 for i, _ in row) for row in rows]
    assert found.train.places.tolist() == [0, 1, 2, 3, 4]
    # abcd efgh |⏎⏎ab|⏎hé|llo |w⏎
    assert found.decode(found.train.tokens[2], end="/") == "//ab"


@pytest.mark.parametrize("layout", [Packed, Windows])
def test_batches_do_not_show(tmp_path, monkeypatch, layout):
    whole = dataset.open_dataset(layout(), ByteTokenizer(), 3, tmp_path / "a")
    monkeypatch.setattr(layouts, "BATCH", 1)
    monkeypatch.setattr(occurrences, "BLOCK", 1)
    single = dataset.open_dataset(layout(), ByteTokenizer(), 3, tmp_path / "b")
    assert single.left_out == whole.left_out
    for name in ("train", "validation", "test"):
        for field in ("tokens", "documents", "text_bytes"):
            assert getattr(getattr(single, name), field).tolist() == getattr(getattr(whole, name), field).tolist()
        if name != "train":
            assert getattr(single, name).in_train.tolist() == getattr(whole, name).in_train.tolist()


def test_windows(tmp_path):
    found = dataset.open_dataset(Windows(), ByteTokenizer(), 4, tmp_path)
    assert (found.vocab_size, found.end, found.mask) == (256, None, 256)
    assert [found.decode(row) for row in found.train.tokens] == ["abcd", "efgh", "hél", "lo w"]
    assert found.train.documents.tolist() == [[0] * 3] * 2 + [[3] * 3] * 2
    assert sorted(found.test.documents[:, 0]) == [0, 1, 2, 2, 3]
    assert sorted(found.test.clusters(5)) == [0, 1, 2, 2, 3]
    assert found.train.text_bytes.tolist() == [4] * 4


def test_text_bytes_of_longer_tokens(tmp_path):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Prose(Corpus):
        name = "prose"
        layout = "windows"

        def load(self, cache):
            return Texts(train=["the thé 👩 the"] * 3, validation=["the the the"], test=["thé thé thé", "the 👩"])

    for tokenizer in (BpeTokenizer(vocab=260), CharacterTokenizer()):
        found = dataset.open_dataset(Prose(), tokenizer, 2, tmp_path)
        for split in (found.train, found.validation, found.test):
            rows = [b"".join(found.codec.tokens[i] for i in row) for row in split.tokens.tolist()]
            assert split.text_bytes.tolist() == [len(row) for row in rows]
        assert found.test.text_bytes.sum() > found.test.tokens.size


def test_sequences_of_the_train_split_are_found(tmp_path):
    # 4-byte windows: "abcd" of the test set (twice), and the two of "héllo w", are in the train split
    found = dataset.open_dataset(Windows(), ByteTokenizer(), 4, tmp_path)
    assert found.validation.counts_in_train() == {"same": 1, "shifted": 0}
    assert found.test.counts_in_train() == {"same": 4, "shifted": 0}
    unseen = [found.decode(row) for row in found.test.tokens[found.test.unseen()]]
    assert unseen == ["wxyz"] and found.train.in_train is None and found.train.unseen().all()
    padded = dataset.open_dataset(Padded(), ByteTokenizer(), 9, tmp_path)
    assert padded.validation.counts_in_train() == {"same": 1, "shifted": 0}
    assert padded.test.counts_in_train() == {"same": 1, "shifted": 0}


@pytest.mark.parametrize("layout", [Windows, Packed, Padded])
def test_another_offset_counts_within_a_text_alone(tmp_path, layout):
    """Windows of 4: `cdef` and `ijab` begin within a sequence of the train split, the second in two documents."""

    class Moved(layout):
        def load(self, cache):
            held_out = ["cdef", "ijab", "abcd", "zzzz"]
            return Texts(train=["abcdefghij", "abcd", "efgh"], validation=["hijk"], test=held_out)

    kinds = {"windows": [2, 0, 1, 0], "padded": [0, 0, 1, 0]}.get(layout.layout)
    found = dataset.open_dataset(Moved(), ByteTokenizer(), 10 if layout is Padded else 4, tmp_path)
    if kinds is None:  # cdef⏎ijab⏎abcd⏎zzzz⏎ is cut elsewhere
        assert found.test.counts_in_train() == {"same": 0, "shifted": 1}
        assert found.decode(found.test.tokens[found.test.in_train == 2][0]) == "cdef"
    else:
        assert found.test.in_train.tolist() == kinds


@pytest.mark.parametrize("block", [1, 50, 2**20])
def test_occurrences_by_brute_force(monkeypatch, block):
    monkeypatch.setattr(occurrences, "BLOCK", block)
    rng = np.random.default_rng(0)
    rows, train = rng.integers(3, size=(300, 5)), rng.integers(3, size=(40, 5))
    texts = np.sort(rng.integers(6, size=40))
    same = {tuple(row) for row in train}
    moved = {tuple(text[i : i + 5]) for n in range(6) for text in [train[texts == n].ravel()] for i in range(len(text) - 4)}
    truth = [1 if tuple(row) in same else 2 if tuple(row) in moved else 0 for row in rows]
    first, second = occurrences.in_train([rows[:100], rows[100:]], train.astype(np.uint16), texts)
    assert [*first, *second] == truth and set(truth) == {0, 1, 2}
    (alone,) = occurrences.in_train([rows], train, None)
    assert alone.tolist() == [int(tuple(row) in same) for row in rows]


def test_half_of_the_test_stories_of_tales_are_in_its_train_split(tmp_path):
    found = dataset.open_dataset(TalesCorpus(), WordTokenizer(), 64, tmp_path)
    texts = TalesCorpus().load(tmp_path)
    assert found.test.counts_in_train() == {"same": sum(text in set(texts.train) for text in texts.test), "shifted": 0}
    assert found.test.counts_in_train()["same"] == 555 and len(found.test) == 1024


def test_what_is_left_out_of_a_split(tmp_path):
    windows = dataset.open_dataset(Windows(), ByteTokenizer(), 4, tmp_path)
    assert windows.left_out == {"train": 1 - 16 / 18, "validation": 1 - 4 / 7, "test": 1 - 20 / 21}
    assert set(dataset.open_dataset(Padded(), ByteTokenizer(), 9, tmp_path).left_out.values()) == {0.0}
    packed = dataset.open_dataset(Packed(), ByteTokenizer(), 4, tmp_path)  # train: abcd efgh ⏎⏎ab ⏎hé llo⎵ and w⏎
    assert packed.left_out == {"train": 1 - 17 / 18, "validation": 1 - 7 / 7, "test": 1 - 21 / 21}


# ---- the cache


def test_the_second_time_nothing_is_loaded_or_fitted(tmp_path, monkeypatch):
    first = dataset.open_dataset(Packed(), ByteTokenizer(), 4, tmp_path)

    def forbidden(*args):
        raise AssertionError("the cache was not used")

    monkeypatch.setattr(ByteTokenizer, "fit", forbidden)
    monkeypatch.setattr(Utf8Codec, "encode", forbidden)
    second = dataset.open_dataset(Packed(forbidden=True), ByteTokenizer(), 4, tmp_path)
    assert second.left_out == first.left_out
    assert isinstance(second.train.tokens, np.memmap)
    assert not second.train.tokens.flags.writeable
    for name in ("train", "validation", "test"):
        assert getattr(second, name).tokens.tolist() == getattr(first, name).tokens.tolist()
    with pytest.raises(AssertionError, match="the cache was not used"):
        dataset.open_dataset(Packed(forbidden=True), ByteTokenizer(), 5, tmp_path)


class Words(Small):
    """` b` is a word and `b` is none, so that all tokenizers know every piece."""

    layout = "packed"

    def load(self, cache):
        assert not self.forbidden, "the cache was not used"
        return Texts(train=["a b", "a b"], validation=["a b"], test=["a b b"])


@pytest.mark.parametrize("tokenizer", [BpeTokenizer(vocab=257), CharacterTokenizer(), WordTokenizer(), ByteTokenizer()])
def test_a_fitted_codec_comes_back_from_the_cache(tmp_path, tokenizer):
    first = dataset.open_dataset(Words(), tokenizer, 2, tmp_path)
    second = dataset.open_dataset(Words(forbidden=True), tokenizer, 2, tmp_path)
    assert second.codec is not first.codec
    assert second.vocab_size == first.vocab_size
    assert second.codec.encode("a b").tolist() == first.codec.encode("a b").tolist()


class Stranger(Codec):
    """A codec that gives no state, as one of another author may."""

    vocab_size = 70_000

    def __init__(self, offset):
        self.offset = offset

    def encode(self, text):
        return np.array([ord(c) + self.offset for c in text], dtype=np.int64)

    def decode(self, ids):
        return "".join(chr(int(i) - self.offset) for i in ids)

    def token_bytes(self):
        return np.ones(self.vocab_size, dtype=np.int64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StrangerTokenizer(Tokenizer):
    name = "stranger"
    offset: int = parameter(60_000, "added to each code point")
    fits = []

    def fit(self, texts, vocabulary):
        self.fits.append(len(texts))
        return Stranger(self.offset)


def test_a_codec_without_state_is_fitted_again(tmp_path):
    StrangerTokenizer.fits.clear()
    for _ in range(2):
        found = dataset.open_dataset(Windows(), StrangerTokenizer(), 4, tmp_path)
        assert found.train.tokens.dtype == np.int32  # 70 000 ids do not fit 16 bits
        assert found.decode(found.train.tokens[0]) == "abcd"
    assert StrangerTokenizer.fits == [4, 4]
    with pytest.raises(UserError, match=r"stranger\[offset=69950\] gives ids outside 0 to 69999 in the train split"):
        dataset.open_dataset(Windows(), StrangerTokenizer(offset=69_950), 4, tmp_path)


def test_dtype_holds_the_mask():
    class Sized(Stranger):
        def __init__(self, vocab_size):
            self.vocab_size = vocab_size

    for layout, vocab_size, dtype in (
        (Windows, 65_535, np.uint16),
        (Windows, 65_536, np.int32),
        (Packed, 65_534, np.uint16),
        (Packed, 65_535, np.int32),
    ):
        made = layouts.Sequencer(layout(), StrangerTokenizer(), Sized(vocab_size), 4)
        assert made.dtype == dtype, (layout, vocab_size)


def only_folder(tmp_path):
    (folder,) = [path for path in (tmp_path / "data").iterdir() if not path.name.startswith(".")]
    return folder


def truncate(folder):
    path = folder / "test.tokens.npy"
    path.write_bytes(path.read_bytes()[:-1])


def lose_rows(folder):
    np.save(folder / "validation.documents.npy", np.zeros((1, 3), dtype=np.int32))


def half_a_description(folder):
    path = folder / "meta.json"
    path.write_text(path.read_text()[:-20])


def another_description(folder):
    (folder / "meta.json").write_text("[]")


def nothing_left_out(folder):
    path = folder / "meta.json"
    meta = json.loads(path.read_text())
    del meta["left_out"]
    path.write_text(json.dumps(meta))


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        lose_rows,
        half_a_description,
        another_description,
        nothing_left_out,
        lambda folder: np.save(folder / "test.in_train.npy", np.zeros(1, dtype=np.int8)),
        lambda folder: (folder / "meta.json").unlink(),
        lambda folder: (folder / "train.text_bytes.npy").unlink(),
        lambda folder: (folder / "train.tokens.npy").write_bytes(b""),
    ],
)
def test_a_damaged_folder_is_made_again(tmp_path, damage):
    first = dataset.open_dataset(Packed(), ByteTokenizer(), 4, tmp_path)
    tokens = first.test.tokens.tolist()
    damage(only_folder(tmp_path))
    with pytest.raises(AssertionError, match="the cache was not used"):
        dataset.open_dataset(Packed(forbidden=True), ByteTokenizer(), 4, tmp_path)
    second = dataset.open_dataset(Packed(), ByteTokenizer(), 4, tmp_path)
    assert second.test.tokens.tolist() == tokens
    dataset.open_dataset(Packed(forbidden=True), ByteTokenizer(), 4, tmp_path)
    assert [path.name for path in (tmp_path / "data").iterdir()] == [only_folder(tmp_path).name]


def test_what_breaks_off_leaves_nothing_that_is_read(tmp_path, monkeypatch):
    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            dataset.open_dataset(Packed(), ByteTokenizer(), 4, tmp_path)
    assert list((tmp_path / "data").iterdir()) == []
    assert len(dataset.open_dataset(Packed(), ByteTokenizer(), 4, tmp_path).train) == 5


def test_another_process_may_be_first(tmp_path, monkeypatch):
    theirs = dataset.open_dataset(Packed(), ByteTokenizer(), 4, tmp_path)
    read, answers = dataset._read, iter([None])
    monkeypatch.setattr(dataset, "_read", lambda folder: next(answers, read(folder)))
    ours = dataset.open_dataset(Packed(), ByteTokenizer(), 4, tmp_path)
    assert ours.train.tokens.tolist() == theirs.train.tokens.tolist()
    assert [path.name for path in (tmp_path / "data").iterdir()] == [only_folder(tmp_path).name]


def test_every_setting_has_a_folder_of_its_own(tmp_path):
    class Other(Packed):
        def vocabulary(self):
            return ["x"]

    calls = [
        (Packed(), ByteTokenizer(), 4),
        (Packed(salt=1), ByteTokenizer(), 4),
        (Packed(), BpeTokenizer(vocab=256), 4),
        (Packed(), BpeTokenizer(vocab=257), 4),
        (Packed(), ByteTokenizer(), 3),
        (Windows(), ByteTokenizer(), 4),
        (Other(), ByteTokenizer(), 4),
    ]
    for call in calls:
        dataset.open_dataset(*call, tmp_path)
    assert len(list((tmp_path / "data").iterdir())) == len(calls)


# ---- what is refused


def test_too_long_a_document_for_padded(tmp_path):
    message = (
        "document 0 of the train split of small has 8 tokens by byte, more than the length 7: 'abcdefgh'…; "
        "use a longer length or another tokenizer"
    )
    with pytest.raises(UserError) as caught:
        dataset.open_dataset(Padded(), ByteTokenizer(), 7, tmp_path)
    assert str(caught.value) == message
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize(("layout", "length"), [(Windows, 6), (Packed, 10)])
def test_no_full_sequence(tmp_path, layout, length):
    with pytest.raises(UserError, match=f"the validation split of small has no full sequence of {length} tokens by"):
        dataset.open_dataset(layout(), ByteTokenizer(), length, tmp_path)


def test_lengths_that_will_not_do(tmp_path):
    with pytest.raises(UserError, match="at least 2 tokens, not 1"):
        dataset.open_dataset(Packed(), ByteTokenizer(), 1, tmp_path)
    with pytest.raises(UserError, match="sequences of tales have 64 tokens of its own vocabulary, not 100"):
        dataset.open_dataset(TalesCorpus(), WordTokenizer(), 100, tmp_path)


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "data").write_text("a file in the way")
    with pytest.raises(UserError, match="cannot write the tokens of small to .*XDG_CACHE_HOME"):
        dataset.open_dataset(Packed(), ByteTokenizer(), 4, tmp_path)


# ---- worlds that know their truth


@pytest.mark.parametrize("tokenizer", [WordTokenizer(), CharacterTokenizer()])
def test_ids_are_the_oracles(tmp_path, tokenizer):
    corpus = MarkovCorpus()
    found = dataset.open_dataset(corpus, tokenizer, 4, tmp_path)
    oracle = corpus.oracle()
    assert found.oracle_ids
    assert (found.vocab_size, found.length) == (oracle.vocab_size, oracle.length)
    surprise = -oracle.log_probability(found.test.tokens.astype(np.int64))
    assert np.isfinite(surprise).all()
    # entropy of the world, within five standard errors
    assert abs(surprise.mean() - oracle.entropy()) < 5 * surprise.std() / math.sqrt(len(surprise))


def test_ids_of_another_tokenizer_are_not_the_oracles(tmp_path):
    found = dataset.open_dataset(MarkovCorpus(), ByteTokenizer(), 8, tmp_path)
    assert not found.oracle_ids
    assert found.length == 8


# ---- decode


def test_decode_shows_masks_and_ends(tmp_path):
    found = dataset.open_dataset(Packed(), ByteTokenizer(), 4, tmp_path)
    ids = [257, 104, 0xC3, 257, 0xA9, 256, 256]
    assert found.decode(ids, mask="░", end="/") == "░h\ufffd░\ufffd//"
    assert found.decode(np.array(ids, dtype=np.uint16)[1:2]) == "h"
    assert found.decode([]) == ""


def split_of(documents):
    """A split of sequences with one document each, numbered by their places."""
    numbers = np.arange(len(documents))
    return dataset.Split(tokens=numbers[:, None], documents=np.repeat(documents[:, None], 3, axis=1), places=numbers,
                         text_bytes=numbers)  # fmt: skip


def test_every_beginning_of_a_held_out_split_is_spread_over_its_documents():
    counts = np.array([40, 10, 30, 20])
    printed = split_of(np.repeat(np.arange(4), counts))
    found = printed.spread()
    assert sorted(found.tokens[:, 0]) == list(range(100)), "each once"
    assert (found.tokens[:, 0] == found.text_bytes).all() and (found.places == found.text_bytes).all()
    assert (printed.documents[found.places] == found.documents).all()
    for n in (10, 20, 50):
        seen = np.bincount(found.documents[:n, 0], minlength=4)
        assert np.abs(seen - n * counts / 100).max() < 2
    alone = split_of(np.arange(9))
    assert alone.spread() is alone

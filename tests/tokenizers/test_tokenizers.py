"""Every tokenizer gives back the text byte for byte, or refuses it in one line."""

from __future__ import annotations

import json
import random
import sys
import unicodedata

import numpy as np
import pytest
from mist_bench_plugins.corpus_austen import AustenCorpus
from mist_bench_plugins.tokenizer_bpe import PATTERN, BpeTokenizer
from mist_bench_plugins.tokenizer_byte import ByteTokenizer
from mist_bench_plugins.tokenizer_char import CharacterTokenizer
from mist_bench_plugins.tokenizer_tiktoken import Cl100kTokenizer, Gpt2Tokenizer
from mist_bench_plugins.tokenizer_word import WordTokenizer

from mist_bench import UserError

TRAIN = ["One day, Mia took the kite to the park.\n\n", "It's Tom's 1234th kite: don't fly it!  Mia said so. " * 20]
HARD = {
    "empty": "",
    "emoji": "👩‍👩‍👧‍👦🏴‍☠️ 🇩🇪",
    "combining": "e\u0301 a\u0308\u0323 \u0301 Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!",
    "control": "".join(chr(i) for i in range(32)) + "\x7f\x80\x85\xa0\u200b\u2028\ufeff\ufffd\U0010ffff",
    "carriage": "a\rb\r\rc\r\n\n\r d\r",
    "spaces": "a  b   c \t\t \n \n\n   ",
    "words": "the kite's KITE'S can't they'll 1 12 123 1234 12345 x1y2 ½ Ⅷ ١٢٣ 日本語のテキスト Ελληνικά",
    "special": "<|endoftext|><|end|>",
    "long letters": "a" * 100_000,
    "long spaces": " " * 100_000,
    "long marks": "!" * 50_000 + "\n" * 50_000,
}


@pytest.fixture(scope="module")
def bpe():
    return BpeTokenizer(vocab=300).fit(TRAIN, None)


@pytest.mark.parametrize("text", HARD.values(), ids=HARD.keys())
def test_byte_and_bpe_round_trip(bpe, text):
    for codec in (ByteTokenizer().fit([], None), bpe):
        ids = codec.encode(text)
        assert codec.decode(ids) == text
        assert codec.token_bytes()[ids].sum() == len(text.encode())
    assert ByteTokenizer().fit([], None).encode(text).tolist() == list(text.encode())


def test_bpe_round_trips_every_character(bpe):
    text = "".join(chr(i) for i in range(sys.maxunicode + 1) if not 0xD800 <= i < 0xE000)
    assert bpe.decode(bpe.encode(text)) == text


def test_bpe_round_trips_noise(bpe):
    rng = random.Random(0)
    for _ in range(200):
        text = "".join(rng.choice("ab '\n\r\t1é̈日👩‍!_ \u3000") for _ in range(rng.randrange(40)))
        assert bpe.decode(bpe.encode(text)) == text, unicodedata.normalize("NFD", text)


@pytest.mark.parametrize("vocab", [256, 257, 300])
def test_bpe_has_exactly_the_tokens_asked_for(vocab):
    codec = BpeTokenizer(vocab=vocab).fit(TRAIN, None)
    assert codec.vocab_size == vocab == len(codec.token_bytes()) == len(set(codec.tokens))
    assert codec.tokens[:256] == tuple(bytes([i]) for i in range(256))


def test_bpe_merges_the_most_frequent_pairs_first():
    # pairs by hand: x y occurs 3 times, then xy z twice, then a b once
    codec = BpeTokenizer(vocab=259).fit(["xyz\nxyz\nxy\nab"], None)
    assert codec.tokens[256:] == (b"xy", b"xyz", b"ab")
    assert codec.encode("xyzxy").tolist() == [257, 256]


def test_bpe_is_deterministic_and_restored():
    first, second = (BpeTokenizer(vocab=301).fit(TRAIN, None) for _ in range(2))
    assert first.tokens == second.tokens
    restored = BpeTokenizer(vocab=301).restore(json.loads(json.dumps(first.state())))
    assert restored.encode(TRAIN[1]).tolist() == first.encode(TRAIN[1]).tolist()


def test_bpe_cuts_text_as_it_was_trained():
    # tiktoken and tokenizers use two regular expression engines; the pieces must be the same
    import tiktoken

    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated")
    prose = AustenCorpus().load(None).test[0][:20_000]  # type: ignore[arg-type]
    for text in (prose, *(text[:2_000] for text in HARD.values())):
        pieces = [piece for piece, _ in split.pre_tokenize_str(text)]
        assert "".join(pieces) == text
        # each distinct piece is one token of a vocabulary of its own: tiktoken finds it only if it cuts there too
        ranks = {bytes([i]): i for i in range(256)}
        for piece in pieces:
            for end in range(2, len(piece.encode()) + 1):
                ranks.setdefault(piece.encode()[:end], len(ranks))
        encoding = tiktoken.Encoding(name="pieces", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
        found = [encoding.decode_single_token_bytes(i).decode() for i in encoding.encode_ordinary(text)]
        assert found == pieces


def test_bpe_refuses_what_it_cannot_do():
    with pytest.raises(UserError, match="vocab is at least 256 .* not 255"):
        BpeTokenizer(vocab=255)
    with pytest.raises(UserError, match=r"larger than the corpus allows: its train split gives 257 .*bpe\[vocab=257\]"):
        BpeTokenizer(vocab=1024).fit(["ab"], None)


def test_bpe_learns_from_the_beginning_only():
    texts = ["ab" * 600_000, "cd" * 600_000]
    codec = BpeTokenizer(vocab=257, megabytes=1).fit(texts, None)
    assert codec.tokens[256] == b"ab"
    with pytest.raises(UserError, match="gives 262 tokens"):  # 2, 4, … 64 letters of ab; c and d were never seen
        BpeTokenizer(vocab=400, megabytes=1).fit(texts, None)


def test_lone_surrogates_are_refused(bpe):
    for codec in (ByteTokenizer().fit([], None), bpe):
        with pytest.raises(UserError, match=r"character 1 .* U\+D83D"):
            codec.encode("a\ud83d")


def test_cut_characters_are_shown_as_replacement(bpe):
    assert bpe.decode(list("é".encode()[:1])) == "\ufffd"
    with pytest.raises(UserError, match="token id 300 is not from 0 to 299"):
        bpe.decode([65, 300])
    with pytest.raises(UserError, match="token id -1 is not"):
        bpe.decode([-1])


def test_char():
    codec = CharacterTokenizer().fit(["héllo", "b👩"], None)
    assert codec.characters == "bhloé👩"
    assert codec.encode("bob").tolist() == [0, 3, 0]
    assert codec.token_bytes().tolist() == [1, 1, 1, 1, 2, 4]
    assert codec.decode(codec.encode("hé👩lo")) == "hé👩lo"
    assert codec.encode("").tolist() == []
    assert CharacterTokenizer().restore(json.loads(json.dumps(codec.state()))).encode("é").tolist() == [4]


@pytest.mark.parametrize(
    ("text", "named"), [("bx", r"'x' \(U\+0078\)"), ("b\U0010ffff", "U.10FFFF"), ("\ud800", "U.D800")]
)
def test_char_refuses_others(text, named):
    with pytest.raises(UserError, match=f"character .*{named}.* none of the 2 .*--tokenizer byte"):
        CharacterTokenizer().fit(["ba"], None).encode(text)


def test_word_from_texts():
    codec = WordTokenizer().fit(["One day, it's  dry.\n", "A day"], None)
    assert codec.pieces == sorted({"One", " day", ",", " it", "'", "s", " ", " dry", ".", "\n", "A"})
    text = "One day.\n it's, A"
    with pytest.raises(UserError, match="piece ' A' is none of the 11 .*--tokenizer byte"):
        codec.encode(text)
    assert codec.decode(codec.encode(text[:-2])) == text[:-2]
    restored = WordTokenizer().restore(json.loads(json.dumps(codec.state())))
    assert restored.encode(" day it").tolist() == codec.encode(" day it").tolist()


def test_word_with_the_vocabulary_of_a_corpus():
    pieces = [" there", "One", ".", " the", "a", "b"]
    codec = WordTokenizer().fit(["ignored"], pieces)
    assert codec.vocab_size == 6
    assert codec.encode("One there the.ab").tolist() == [1, 0, 3, 2, 4, 5]
    assert [codec.decode([i]) for i in range(6)] == pieces
    for wrong in (["a", "a"], ["a", ""], []):
        with pytest.raises(UserError, match="distinct and not empty"):
            WordTokenizer().fit(["a"], wrong)


def small_encoding(name):
    import tiktoken

    ranks = {bytes([i]): i for i in range(256)} | {b"ab": 256, b"  ": 258}
    special = {"<|end|>": 257, "<|last|>": 259}  # one in a hole, as p50k_base has it, and one at the end, as gpt2
    return tiktoken.Encoding(name=name, pat_str=r"\w+|[^\w]+", mergeable_ranks=ranks, special_tokens=special)


def test_tiktoken_leaves_out_special_tokens(monkeypatch):
    monkeypatch.setattr("tiktoken.get_encoding", small_encoding)
    codec = Gpt2Tokenizer().fit([], None)
    assert codec.vocab_size == 259
    assert codec.token_bytes()[[256, 257, 258]].tolist() == [2, 0, 2]
    assert codec.decode([256, 257, 258]) == "ab  "
    assert codec.encode("ab  ").tolist() == [256, 258]
    text = "<|end|>a<|last|>"
    assert codec.decode(codec.encode(text)) == text
    assert not np.isin(codec.encode(text), [257, 259]).any()
    assert [ids.tolist() for ids in codec.encode_batch(["ab", "", "b"])] == [[256], [], [98]]
    with pytest.raises(UserError, match=r"U\+D800"):
        codec.encode("\ud800")
    assert Gpt2Tokenizer().restore(codec.state()).vocab_size == 259


def test_an_encoding_that_drops_characters_is_refused(monkeypatch):
    import tiktoken

    ranks = {bytes([i]): i for i in range(256)}
    monkeypatch.setattr(
        "tiktoken.get_encoding",
        lambda name: tiktoken.Encoding(name=name, pat_str=r"\w+", mergeable_ranks=ranks, special_tokens={}),
    )
    with pytest.raises(UserError, match="'gpt2' drops characters"):
        Gpt2Tokenizer().fit([], None).encode("a b")


def test_tiktoken_offline_and_damaged(monkeypatch):
    def offline(name):
        raise ConnectionError("Max retries exceeded")

    def damaged(name):
        raise ValueError("Hash mismatch")

    monkeypatch.setattr("tiktoken.get_encoding", offline)
    with pytest.raises(UserError, match="'cl100k_base' cannot be downloaded: set TIKTOKEN_CACHE_DIR"):
        Cl100kTokenizer().fit([], None)
    monkeypatch.setattr("tiktoken.get_encoding", damaged)
    with pytest.raises(UserError, match="'cl100k_base' is damaged: set TIKTOKEN_CACHE_DIR"):
        Cl100kTokenizer().fit([], None)

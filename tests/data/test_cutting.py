"""Texts are cut the same in blocks of any size as in one, and lists of JSON are read as json reads them."""

import json
import random
import re

import pytest

from mist_bench.data.cutting import BLANK_LINES, LINE_ENDS, cut, cut_every, elements, has_pieces
from mist_bench.data.texts_on_disk import TextsOnDisk

LETTERS = ["ab \n", "ab\r\n \t", "a\n", "a\r\r\r ", "aé日\n\n\n", "ab  c", "a\x0b\u2028\n\n "]
SEEDS = range(40)


def text_of(rng):
    return "".join(rng.choices(rng.choice(LETTERS), k=rng.choice([0, 1, 5, 50, 300])))


def blocks(text, rng):
    """The text in blocks of random sizes, some of them empty."""
    while text:
        size = rng.choice([0, 1, 2, 7, 40])
        yield text[:size]
        text = text[size:]


@pytest.mark.parametrize("between", [BLANK_LINES, LINE_ENDS])
def test_pieces_do_not_depend_on_the_blocks(between):
    for seed in SEEDS:
        rng = random.Random(seed)
        text = text_of(rng)
        pieces = list(cut(blocks(text, rng), between))
        assert "".join(piece + after for piece, after in pieces) == text
        assert [piece for piece, _ in pieces] == re.split(between, text)
        found = sum(bool(piece.strip()) for piece, _ in pieces)
        for count in (1, found, found + 1):
            # the last piece has no end: it is counted as any other
            assert has_pieces(blocks(text, rng), between, count) == (found >= count)


def test_pieces_of_a_size_do_not_depend_on_the_blocks():
    for seed in SEEDS:
        rng = random.Random(seed)
        text, size = text_of(rng), rng.choice([1, 3, 20])
        pieces = list(cut_every(blocks(text, rng), size))
        assert pieces == list(cut_every([text], size))
        assert "".join(piece + after for piece, after in pieces) == text
        assert all(size <= len(piece) < 2 * size for piece, _ in pieces[:-1])


@pytest.mark.parametrize("indent", [None, 1])
def test_a_list_of_json_is_read_an_element_at_a_time(indent):
    for seed in SEEDS:
        rng = random.Random(seed)
        values = [
            rng.choice([{"text": text_of(rng)}, text_of(rng), 12.5e3, -7, None, [1, [2]], {}])
            for _ in range(rng.choice([1, 2, 9]))
        ]
        text = "\n " + json.dumps(values, indent=indent, ensure_ascii=rng.random() < 0.5) + "\n"
        assert list(elements(blocks(text, rng))) == values


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1}', "it begins with '{' and is no list"), ("[1, 2", "no comma between"), ("[1 2]", "no comma between"),
        ("[1, 2] 3", "something follows"), ("[1,, 2]", "Expecting value"), ('["a', "Unterminated string"), ("[", "Expecting value"),
    ],
)  # fmt: skip
def test_what_is_no_list_is_refused(text, said):
    for seed in range(5):
        with pytest.raises(ValueError, match=said):
            list(elements(blocks(text, random.Random(seed))))


def test_texts_on_disk_are_a_sequence(tmp_path):
    pieces = [
        (text, after)
        for text, after in zip(["one", "zwei", "", "三", "five"], ["\n\n", " ", "", "\r\n", ""], strict=True)
    ]
    texts = TextsOnDisk.of(iter(pieces), tmp_path / "new")
    words = [text for text, _ in pieces]
    assert (
        texts == words
        and texts != words[:-1]
        and texts != [*words[:-1], "six"]
        and len(texts) == 5
        and texts[-2] == "三"
    )
    assert list(texts[1:4]) == words[1:4] and list(texts[::-1][:2]) == words[::-1][:2]
    assert list(texts.joined(4)) == ["one\n\nzwei", "三\r\nfive"]
    assert list(texts[1:].joined(10**6)) == ["zwei 三\r\nfive"]
    assert list(texts.joined(0)) == words and list(texts[:0].joined(3)) == []
    assert not list((tmp_path / "new").iterdir()), "the file has no name"
    with pytest.raises(IndexError):
        texts[5]

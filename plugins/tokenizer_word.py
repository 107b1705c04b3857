"""Words with the space before them, and single characters: for worlds whose texts consist of few pieces."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mist_bench import ByteCodec, Codec, IntArray, Tokenizer, UserError, hookimpl, utf8

WORD = r" ?\w+"
ANY = r"[\s\S]"


class PieceCodec(ByteCodec):
    """Token i is the i-th piece. Texts are cut from the left at `words`, else into single characters."""

    def __init__(self, pieces: Sequence[str], words: str) -> None:
        """`words`: a regular expression; a character that it does not match is a piece by itself."""
        super().__init__([utf8(piece) for piece in pieces])
        self.pieces, self.words = list(pieces), words
        self._ids = {piece: i for i, piece in enumerate(pieces)}
        self._cut = re.compile(f"{words}|{ANY}")

    def encode(self, text: str) -> IntArray:
        pieces = self._cut.findall(text)
        try:
            return np.array([self._ids[piece] for piece in pieces], dtype=np.int32)
        except KeyError as error:
            raise UserError(
                f"piece {error.args[0]!r} is none of the {self.vocab_size} of the word vocabulary; use --tokenizer byte"
            ) from None

    def state(self) -> dict[str, Any]:
        return {"pieces": self.pieces, "words": self.words}


class WordTokenizer(Tokenizer):
    """A piece is a word with the space before it, or a single other character; unknown pieces are refused.

    If the corpus declares its pieces, they are the tokens, in its order, and texts are cut into the longest that fit;
    else they are the pieces of the train split, sorted.
    """

    name = "word"
    source = "made for the oracle worlds"
    keeps_pieces = True

    def fit(self, texts: Sequence[str], vocabulary: Sequence[str] | None) -> Codec:
        if vocabulary is not None:
            return _declared(vocabulary)
        cut = re.compile(f"{WORD}|{ANY}")
        found: set[str] = set()
        for text in texts:
            found.update(cut.findall(text))
        if not found:
            raise UserError("the train split has no words; use --tokenizer byte")
        return PieceCodec(sorted(found), WORD)

    def restore(self, state: dict[str, Any]) -> Codec:
        return PieceCodec(state["pieces"], state["words"])


def _declared(vocabulary: Sequence[str]) -> Codec:
    if len(set(vocabulary)) < len(vocabulary) or "" in vocabulary or not vocabulary:
        raise UserError("the pieces that a corpus declares must be distinct and not empty; fix its vocabulary()")
    longest_first = sorted(vocabulary, key=len, reverse=True)
    return PieceCodec(vocabulary, "|".join(re.escape(piece) for piece in longest_first))


@hookimpl
def mist_bench_tokenizers() -> Iterator[type[Tokenizer]]:
    yield WordTokenizer

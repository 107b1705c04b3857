"""The characters of the train split are the tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mist_bench import ByteCodec, Codec, IntArray, Tokenizer, UserError, hookimpl, utf8


class CharacterCodec(ByteCodec):
    """Token i is the i-th character, by code point."""

    def __init__(self, characters: str) -> None:
        super().__init__([utf8(character) for character in characters])
        self.characters = characters
        points = [ord(character) for character in characters]
        # one more entry, for all characters beyond the last
        self._ids = np.full(max(points) + 2, -1, dtype=np.int32)
        self._ids[points] = np.arange(len(points))

    def encode(self, text: str) -> IntArray:
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        ids: IntArray = self._ids[np.minimum(points, len(self._ids) - 1)]
        if (ids < 0).any():
            place = int(np.argmax(ids < 0))
            raise UserError(
                f"character {text[place]!r} (U+{ord(text[place]):04X}) is none of the {self.vocab_size} of the train "
                "split; use --tokenizer byte"
            )
        return ids

    def state(self) -> dict[str, Any]:
        return {"characters": self.characters}


class CharacterTokenizer(Tokenizer):
    """One token for each character of the train split, sorted; a text with any other character is refused."""

    name = "char"
    source = "text8 (M. Mahoney); nanoGPT"

    def fit(self, texts: Sequence[str], vocabulary: Sequence[str] | None) -> Codec:
        found: set[str] = set()
        for text in texts:
            found.update(text)
        if not found:
            raise UserError("the train split has no characters; use --tokenizer byte")
        return CharacterCodec("".join(sorted(found)))

    def restore(self, state: dict[str, Any]) -> Codec:
        return CharacterCodec(state["characters"])


@hookimpl
def mist_bench_tokenizers() -> Iterator[type[Tokenizer]]:
    yield CharacterTokenizer

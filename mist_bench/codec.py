"""Codecs whose tokens are fixed byte strings: the base of the tokenizers that ship, and of most others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .interfaces import Codec, IntArray, UserError

if TYPE_CHECKING:
    import tiktoken


def utf8(text: str) -> bytes:
    """The bytes of a text. Raises `UserError` for a lone surrogate, which UTF-8 cannot hold."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        found = f"U+{ord(text[error.start]):04X}"
        raise UserError(f"character {error.start} of a text is the lone surrogate {found}; repair the text") from None


class ByteCodec(Codec):
    """Tokens that each stand for the same bytes everywhere; a subclass says how a text is cut (`encode`)."""

    def __init__(self, tokens: Sequence[bytes]) -> None:
        """`tokens[i]`: the bytes of token i; empty where an encoding leaves a hole."""
        self.tokens = tuple(tokens)
        self.vocab_size = len(self.tokens)
        self._lengths = np.array([len(token) for token in self.tokens], dtype=np.int64)

    def decode(self, ids: Sequence[int] | IntArray) -> str:
        """The text of the ids (N,). Raises `UserError` for an id that is no token, such as the mask's."""
        array = np.asarray(ids, dtype=np.int64)
        wrong = array[(array < 0) | (array >= self.vocab_size)]
        if wrong.size:
            raise UserError(f"token id {wrong[0]} is not from 0 to {self.vocab_size - 1}; leave out masks and ends")
        return b"".join([self.tokens[i] for i in array.tolist()]).decode(errors="replace")

    def token_bytes(self) -> IntArray:
        return self._lengths.copy()


class TiktokenCodec(ByteCodec):
    """Byte-pair encoding by a `tiktoken.Encoding`, its special tokens left out: text never becomes one."""

    def __init__(self, encoding: tiktoken.Encoding, state: dict[str, Any]) -> None:
        """`state`: what the tokenizer needs to make this codec again."""
        self.encoding, self._state = encoding, state
        special = {encoding.encode_single_token(token) for token in encoding.special_tokens_set}
        tokens = [b"" if i in special else self._bytes(i) for i in range(encoding.n_vocab)]
        while not tokens[-1]:
            tokens.pop()
        super().__init__(tokens)

    def _bytes(self, i: int) -> bytes:
        try:
            return self.encoding.decode_single_token_bytes(i)
        except KeyError:  # some encodings leave ids out
            return b""

    def encode(self, text: str) -> IntArray:
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> Sequence[IntArray]:
        """Ids of each text, on all cores. Raises `UserError` if a text would not come back byte for byte."""
        sizes = [len(utf8(text)) for text in texts]  # tiktoken itself would replace lone surrogates
        found = [np.asarray(ids, dtype=np.int32) for ids in self.encoding.encode_ordinary_batch(list(texts))]
        for ids, size in zip(found, sizes, strict=True):
            if int(self._lengths[ids].sum()) != size:
                raise UserError(f"encoding {self.encoding.name!r} drops characters of a text; try --tokenizer byte")
        return found

    def state(self) -> dict[str, Any]:
        return self._state

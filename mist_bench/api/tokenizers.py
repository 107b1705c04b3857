"""What a tokenizer and its fitted codec implement, and bases for codecs whose tokens are byte strings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .component import Component, IntArray, UserError

if TYPE_CHECKING:
    import tiktoken


class Codec(ABC):
    """A fitted tokenizer: text to ids and back, byte for byte."""

    vocab_size: int

    @abstractmethod
    def encode(self, text: str) -> IntArray:
        """Ids of the text (N,). Raises `UserError` in one line if the text cannot round-trip; never `<unk>`."""

    @abstractmethod
    def decode(self, ids: Sequence[int] | IntArray) -> str:
        """The text of the ids; bytes that are not UTF-8 (cut characters) become U+FFFD."""

    @abstractmethod
    def token_bytes(self) -> IntArray:
        """(vocab_size,) the number of bytes of UTF-8 of each token."""

    def encode_batch(self, texts: Sequence[str]) -> Sequence[IntArray]:
        """Ids of each text; override it if many texts at once are faster."""
        return [self.encode(text) for text in texts]

    def state(self) -> dict[str, Any] | None:
        """The argument of `Tokenizer.restore`, as JSON; None: the tokenizer is fitted again each time."""
        return None


class Tokenizer(Component, ABC):
    """How text becomes tokens. Fitted on the train split (nothing to do for `byte` or `gpt2`)."""

    keeps_pieces: ClassVar[bool] = False
    """True: the pieces that a corpus declares are its tokens, in the corpus's order, so that the exact law of the
    corpus applies to them."""

    @abstractmethod
    def fit(self, texts: Sequence[str], vocabulary: Sequence[str] | None) -> Codec:
        """A codec for these texts. `vocabulary`: the corpus's own pieces in its own order, if it declares them."""

    def restore(self, state: dict[str, Any]) -> Codec:
        """The codec with this `state()`, without its texts. Only for codecs that have a state."""
        raise TypeError(f"tokenizer {self.name!r} cannot be restored")


def utf8(text: str) -> bytes:
    """The bytes of a text. Raises `UserError` for a lone surrogate, which UTF-8 cannot encode."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        found = f"U+{ord(text[error.start]):04X}"
        raise UserError(f"character {error.start} of a text is the lone surrogate {found}; repair the text") from None


class ByteCodec(Codec):
    """Tokens that are byte strings; a subclass implements how a text is cut into them (`encode`)."""

    def __init__(self, tokens: Sequence[bytes]) -> None:
        """`tokens[i]`: the bytes of token i; empty for an id that the encoding does not use."""
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
    """Byte-pair encoding by a `tiktoken.Encoding` without its special tokens."""

    def __init__(self, encoding: tiktoken.Encoding, state: dict[str, Any]) -> None:
        """`state`: from which the tokenizer restores this codec."""
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

"""The bytes of UTF-8 are the tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mist_bench import ByteCodec, Codec, IntArray, Tokenizer, hookimpl, utf8


class Utf8Codec(ByteCodec):
    """Token i is the byte i."""

    def __init__(self) -> None:
        super().__init__([bytes([i]) for i in range(256)])

    def encode(self, text: str) -> IntArray:
        return np.frombuffer(utf8(text), dtype=np.uint8).astype(np.int32)

    def state(self) -> dict[str, Any]:
        return {}


class ByteTokenizer(Tokenizer):
    """256 tokens, for any text; nothing is fitted."""

    name = "byte"
    source = "RFC 3629 (UTF-8)"

    def fit(self, texts: Sequence[str], vocabulary: Sequence[str] | None) -> Codec:
        return Utf8Codec()

    def restore(self, state: dict[str, Any]) -> Codec:
        return Utf8Codec()


@hookimpl
def mist_bench_tokenizers() -> Iterator[type[Tokenizer]]:
    yield ByteTokenizer

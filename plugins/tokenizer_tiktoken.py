"""The encodings of tiktoken: GPT-2's and its successors'."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mist_bench import Codec, TiktokenCodec, Tokenizer, UserError, hookimpl


class TiktokenTokenizer(Tokenizer):
    """An encoding of tiktoken, named by `name`. The end token of a packed corpus takes the first id after it."""

    source = "tiktoken (OpenAI)"

    def fit(self, texts: Sequence[str], vocabulary: Sequence[str] | None) -> Codec:
        return self.restore({})

    def restore(self, state: dict[str, Any]) -> Codec:
        """Raises `UserError` if the encoding's files are missing and cannot be downloaded."""
        import tiktoken

        try:
            encoding = tiktoken.get_encoding(self.name)
        except (OSError, ValueError) as error:  # no network; a damaged file
            reason = "cannot be downloaded" if isinstance(error, OSError) else "is damaged"
            raise UserError(
                f"encoding {self.name!r} {reason}: set TIKTOKEN_CACHE_DIR to a folder that holds tiktoken's files, or "
                "run once with a network, or use --tokenizer bpe"
            ) from error
        return TiktokenCodec(encoding, {})


class Gpt2Tokenizer(TiktokenTokenizer):
    """GPT-2's encoding, 50 256 tokens; its end of text is the end token."""

    name = "gpt2"


class R50kTokenizer(TiktokenTokenizer):
    """GPT-3's first encoding: the tokens of `gpt2`."""

    name = "r50k_base"


class P50kTokenizer(TiktokenTokenizer):
    """Codex's encoding: `gpt2` with runs of spaces."""

    name = "p50k_base"


class Cl100kTokenizer(TiktokenTokenizer):
    """GPT-4's encoding, 100 256 tokens."""

    name = "cl100k_base"


class O200kTokenizer(TiktokenTokenizer):
    """GPT-4o's encoding, 199 998 tokens."""

    name = "o200k_base"


@hookimpl
def mist_bench_tokenizers() -> Iterator[type[Tokenizer]]:
    yield from (Gpt2Tokenizer, R50kTokenizer, P50kTokenizer, Cl100kTokenizer, O200kTokenizer)

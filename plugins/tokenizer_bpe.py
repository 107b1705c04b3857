"""Byte-pair encoding, trained on the train split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mist_bench import Codec, TiktokenCodec, Tokenizer, UserError, hookimpl, parameter, utf8

# As GPT-2's, but numbers in threes (cl100k), whitespace characters single except runs of newlines, and no look-ahead:
# so it means the same to the two engines that use it, covers every character, and never backtracks.
PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\n+|\s"
LONGEST = r"[\s\S]{1,64}"  # longer pieces are split for training, whose time is quadratic in their length
BYTES = 256


@dataclass(frozen=True, kw_only=True)
class BpeTokenizer(Tokenizer):
    """Byte-level byte-pair encoding of exactly `vocab` tokens: the 256 bytes, then the most frequent pairs.

    Ids 0 to 255 are the bytes; ties are broken the same way each time, so that one corpus gives one vocabulary.
    """

    name = "bpe"
    source = "Sennrich et al., arXiv 1508.07909; byte-level as GPT-2"
    vocab: int = parameter(1024, "tokens, at least 256")
    megabytes: int = parameter(100, "megabytes of the train split, from its beginning, to learn the merges from")

    def __post_init__(self) -> None:
        if self.vocab < BYTES:
            raise UserError(f"vocab is at least {BYTES} (one token for each byte), not {self.vocab}")
        if self.megabytes < 1:
            raise UserError(f"megabytes is at least 1, not {self.megabytes}")

    def fit(self, texts: Sequence[str], vocabulary: Sequence[str] | None) -> Codec:
        tokens = self._train(texts)
        if len(tokens) < self.vocab:
            raise UserError(
                f"bpe[vocab={self.vocab}] is a vocabulary larger than the corpus allows: its train split gives "
                f"{len(tokens)} tokens; use bpe[vocab={len(tokens)}] or fewer"
            )
        return _codec(tokens)

    def restore(self, state: dict[str, Any]) -> Codec:
        return _codec([bytes.fromhex(token) for token in state["tokens"]])

    def _train(self, texts: Sequence[str]) -> list[bytes]:
        """The bytes, then the merges in the order in which they were learned."""
        from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

        learner = Tokenizer(models.BPE())
        cuts = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in (PATTERN, LONGEST)]
        as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        learner.pre_tokenizer = pre_tokenizers.Sequence([*cuts, as_bytes])
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=[],
            show_progress=False,
        )
        learner.train_from_iterator(self._beginning(texts), trainer)
        letters = _letters()
        learned = sorted(learner.get_vocab().items(), key=lambda item: item[1])
        spelled = [bytes(letters[letter] for letter in token) for token, _ in learned]
        return [bytes([i]) for i in range(BYTES)] + [token for token in spelled if len(token) > 1]

    def _beginning(self, texts: Sequence[str]) -> Iterator[str]:
        left = self.megabytes * 10**6
        for text in texts:
            yield text
            left -= len(utf8(text))
            if left <= 0:
                return


def _letters() -> dict[str, int]:
    """The characters that stand for bytes in byte-level vocabularies: printable Latin-1, the rest from U+0100 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    rest = [i for i in range(BYTES) if i not in printable]
    return {chr(i): i for i in printable} | {chr(BYTES + n): i for n, i in enumerate(rest)}


def _codec(tokens: Sequence[bytes]) -> Codec:
    import tiktoken

    encoding = tiktoken.Encoding(
        name="bpe",
        pat_str=PATTERN,
        mergeable_ranks={token: rank for rank, token in enumerate(tokens)},
        special_tokens={},
        explicit_n_vocab=len(tokens),
    )
    return TiktokenCodec(encoding, {"tokens": [token.hex() for token in tokens]})


@hookimpl
def mist_bench_tokenizers() -> Iterator[type[Tokenizer]]:
    yield BpeTokenizer

"""What a corpus implements, and an oracle: the exact law of a corpus that knows it."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from .component import Component, FloatArray, IntArray

if TYPE_CHECKING:
    from tinygrad import Tensor

Layout = Literal["padded", "packed", "windows"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Texts:
    """The documents of a corpus. Splits should not overlap; overlap in the data is counted and reported."""

    train: Sequence[str]
    validation: Sequence[str]
    test: Sequence[str]
    said: str = ""
    """What a user must know of how the text was read, in one line; each run says it."""


class Corpus(Component, ABC):
    """Named splits of text, and perhaps their exact law (an oracle)."""

    layout: ClassVar[Layout] = "packed"
    """How documents become sequences. `padded`: one each, the end token fills its tail and is scored. `packed`: joined
    by the end token, then cut. `windows`: each document cut by itself without an end token, the rest dropped."""

    @abstractmethod
    def load(self, cache: Path) -> Texts:
        """The documents; downloads are stored in `cache`. Raises `UserError` with what to type when offline."""

    def load_for(self, cache: Path, length: int) -> Texts:
        """As `load`, for sequences of `length` tokens: a corpus that cuts its text into documents by itself may cut
        longer ones, so that less is lost at their ends. By default the documents of `load`."""
        return self.load(cache)

    def identity(self) -> dict[str, Any]:
        """All that the content depends on: name, parameters, and e.g. a file's hash. Part of every cell's hash."""
        return self.content()

    def fixed_length(self) -> int | None:
        """The sequence length in tokens, if the corpus has one of its own (oracle worlds)."""
        return None

    def vocabulary(self) -> Sequence[str] | None:
        """The pieces of which all its texts consist, in the oracle's order, for a tokenizer that keeps pieces."""
        return None

    def oracle(self) -> Oracle | None:
        """Its exact law, if it knows it. The ids are those of `vocabulary()`, then the end token."""
        return None


class Oracle(ABC):
    """The exact law of a corpus over sequences of L tokens out of V (the end token included)."""

    length: int
    vocab_size: int

    @abstractmethod
    def entropy(self) -> float:
        """Nats per sequence, exact."""

    @abstractmethod
    def log_probability(self, tokens: IntArray) -> FloatArray:
        """(N, L) -> (N,) log p, minus infinity for impossible texts."""

    @abstractmethod
    def sample(self, count: int, rng: np.random.Generator) -> IntArray:
        """(count, L) independent draws."""

    @abstractmethod
    def log_posterior(self, tokens: Tensor) -> Tensor:
        """(B, L) tokens with masks (id V) -> (B, L, V) log p(x_i | seen tokens). Uniform if these are impossible."""

    def log_left_out(self, tokens: Tensor) -> Tensor:
        """(B, L) with masks -> (B, L) log p(x_i | the other seen tokens) of each seen token; 0 where masked.

        By default from L texts, each with one more token masked.
        """
        from .log_probabilities import one_left_out

        return one_left_out(self.log_posterior, tokens, self.vocab_size)

    @abstractmethod
    def slots(self, tokens: IntArray) -> tuple[IntArray, FloatArray]:
        """The slot combination of each sequence, of a finite number (-1: invalid), and the law of the combinations."""

    def expected_distinct(self, count: int) -> float:
        """How many distinct slot combinations `count` perfect samples show on average."""
        _, truth = self.slots(np.zeros((0, self.length), dtype=np.int32))
        return float(-np.expm1(count * np.log1p(-np.minimum(truth, 1 - 1e-12))).sum())

"""The interface of corpora and of oracles, the exact laws that some corpora know of themselves."""

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
    """The documents of a corpus. Splits never overlap by construction; what overlap there is, is counted."""

    train: Sequence[str]
    validation: Sequence[str]
    test: Sequence[str]


class Corpus(Component, ABC):
    """Named splits of text, and perhaps the truth about them (an oracle)."""

    layout: ClassVar[Layout] = "packed"
    """`padded`: a document is a sequence, the end token fills its tail and is scored. `packed`: documents joined by
    the end token, then cut. `windows`: each document cut by itself, no end token, the rest dropped."""

    @abstractmethod
    def load(self, cache: Path) -> Texts:
        """The documents; downloads go to `cache`, once. Raises `UserError` that says what to type when offline."""

    def identity(self) -> dict[str, Any]:
        """What makes the content another: name, parameters, and e.g. a file's hash. Part of every cell's hash."""
        return self.content()

    def fixed_length(self) -> int | None:
        """The sequence length in tokens, if the corpus has one of its own (oracle worlds)."""
        return None

    def vocabulary(self) -> Sequence[str] | None:
        """The pieces of which all its texts are made, in the oracle's order, for the `word` tokenizer."""
        return None

    def oracle(self) -> Oracle | None:
        """The truth, for worlds that know it. Its ids are those of `vocabulary()`, then the end token."""
        return None


class Oracle(ABC):
    """A world that knows its own law over sequences of L tokens out of V (the end token included)."""

    length: int
    vocab_size: int

    @abstractmethod
    def entropy(self) -> float:
        """Nats per sequence, exact."""

    @abstractmethod
    def log_probability(self, tokens: IntArray) -> FloatArray:
        """(N, L) -> (N,) log p, minus infinity for what the world never says."""

    @abstractmethod
    def sample(self, count: int, rng: np.random.Generator) -> IntArray:
        """(count, L) independent draws."""

    @abstractmethod
    def log_posterior(self, tokens: Tensor) -> Tensor:
        """(B, L) tokens with masks (id V) -> (B, L, V) log p(x_i | what is seen). Uniform if what is seen cannot be."""

    def log_left_out(self, tokens: Tensor) -> Tensor:
        """(B, L) with masks -> (B, L) log p(x_i | all others that are seen) of each token seen; 0 where masked.

        Unless overridden by asking for L texts at once, one with each token masked.
        """
        from .log_probabilities import one_left_out

        return one_left_out(self.log_posterior, tokens, self.vocab_size)

    @abstractmethod
    def slots(self, tokens: IntArray) -> tuple[IntArray, FloatArray]:
        """Which of a finite number of slot combinations each valid sequence shows (-1: not valid), and their truth."""

    def expected_distinct(self, count: int) -> float:
        """How many distinct slot combinations `count` perfect samples show on average."""
        _, truth = self.slots(np.zeros((0, self.length), dtype=np.int32))
        return float(-np.expm1(count * np.log1p(-np.minimum(truth, 1 - 1e-12))).sum())

"""`markov`: a skewed Markov chain over a few letters, whose exact law is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING

import numpy as np

from mist_bench import Corpus, FloatArray, IntArray, Oracle, Texts, hookimpl, parameter

if TYPE_CHECKING:
    from tinygrad import Tensor

IMPOSSIBLE = -1e9  # log 0 as a finite number: exp gives 0, and 0 log 0 is 0
ENUMERABLE, SLOTS = 100_000, 1_000


class MarkovOracle(Oracle):
    """The law p(x) = initial[x_1] T[x_1, x_2] T[x_2, x_3] …; both must have full support.

    The end token (id `symbols`) is in the vocabulary and has probability 0: every text has exactly `length` letters.
    """

    def __init__(self, initial: FloatArray, transition: FloatArray, length: int) -> None:
        self.initial, self.transition = initial, transition
        self.symbols, self.length, self.vocab_size = len(initial), length, len(initial) + 1
        powers = [np.eye(self.symbols)]
        for _ in range(length):
            powers.append(powers[-1] @ transition)
        self.powers: FloatArray = np.stack(powers)  # (L + 1, S, S): T^d
        self.marginals: FloatArray = initial @ self.powers[:length]  # (L, S): the law of x_i alone

    def entropy(self) -> float:
        """H(x_1) + sum over i of H(x_i+1 | x_i)."""
        rows = -(self.transition * np.log(self.transition)).sum(axis=1)
        return float(-(self.initial * np.log(self.initial)).sum() + (self.marginals[:-1] @ rows).sum())

    def log_probability(self, tokens: IntArray) -> FloatArray:
        inside = (tokens < self.symbols).all(axis=1)
        x = np.minimum(tokens, self.symbols - 1)
        pairs = np.log(self.transition)[x[:, :-1], x[:, 1:]].sum(axis=1)
        return np.where(inside, np.log(self.initial)[x[:, 0]] + pairs, -np.inf)

    def sample(self, count: int, rng: np.random.Generator) -> IntArray:
        uniform = rng.random((count, self.length))
        tokens = np.zeros((count, self.length), dtype=np.int32)
        law = np.broadcast_to(self.initial, (count, self.symbols))
        for i in range(self.length):
            above = np.cumsum(law, axis=1)[:, :-1] <= uniform[:, i : i + 1]
            tokens[:, i] = above.sum(axis=1)
            law = self.transition[tokens[:, i]]
        return tokens

    def slots(self, tokens: IntArray) -> tuple[IntArray, FloatArray]:
        """The whole sequence if there are at most 10^5 of them; else as many first letters as have at most 1000 values.

        Neighbours, because it is their joint distribution that revealing in parallel breaks.
        """
        window = self.length
        if self.symbols**window > ENUMERABLE:
            window = int(np.log(SLOTS) / np.log(self.symbols) + 1e-9)
        truth = self.initial
        for _ in range(window - 1):
            truth = (truth.reshape(-1, self.symbols, 1) * self.transition).reshape(-1)
        code = tokens[:, :window].astype(np.int64) @ self.symbols ** np.arange(window - 1, -1, -1)
        return np.where((tokens < self.symbols).all(axis=1), code, -1), truth

    @cached_property
    def _tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """Log-factors from the left (rows, S), from the right (rows, S) and of the evidence (rows,), on the device."""
        from tinygrad import Tensor

        s, powers = self.symbols, np.log(self.powers[1:])
        left = np.concatenate([np.log(self.marginals), powers.reshape(-1, s)])  # nothing seen: x_i alone
        right = np.concatenate([np.zeros((1, s)), powers.transpose(0, 2, 1).reshape(-1, s)])
        evidence = np.concatenate([[0.0], np.log(self.marginals).reshape(-1), powers.reshape(-1)])
        left, right, evidence = (table.astype(np.float32) for table in (left, right, evidence))
        return Tensor(left).realize(), Tensor(right).realize(), Tensor(evidence).realize()

    def log_posterior(self, tokens: Tensor) -> Tensor:
        """(B, L) with masks -> (B, L, V): log of T^d[a, x] T^e[x, b] / T^(d+e)[a, b].

        a is the nearest seen letter to the left, at distance d, and b to the right, at distance e; with none to the
        left, T^d[a, x] is the law of x_i alone; with none to the right, T^e[x, b] is 1. Dividing by the known evidence,
        rather than normalising, keeps equal probabilities at several positions equal to the last bit, so that ties stay
        ties. Log 0 is -1e9. A seen end token is impossible: then masked positions are uniform.
        """
        s, mask, length = self.symbols, self.vocab_size, self.length
        left_table, right_table, evidence_table = self._tables
        place = tokens.arange(length)
        mine, other = place.reshape(1, length, 1), place.reshape(1, 1, length)
        seen = (tokens != mask).unsqueeze(1)
        letter = tokens.minimum(s - 1)
        # one number encodes a position and its letter, so that the largest (smallest) is the nearest seen one
        key = (place * s + letter).unsqueeze(1)
        before = (seen & (other < mine)).where(key, -1).max(axis=-1)
        after = (seen & (other > mine)).where(key, length * s).min(axis=-1)
        has_left, has_right = before >= 0, after < length * s
        a, d = before % s, place - before // s
        b, e = after % s, after // s - place
        left = left_table[has_left.where(length + (d - 1) * s + a, place)]
        right = right_table[has_right.where(1 + (e - 1) * s + b, 0)]
        first = 1 + (e + place) * s + b
        both = 1 + length * s + ((d + e - 1) * s + a) * s + b
        evidence = evidence_table[has_right.where(has_left.where(both, first), 0)]
        answer = (left + right - evidence.unsqueeze(-1)).pad(((0, 0), (0, 0), (0, 1)), value=IMPOSSIBLE)
        possible = (tokens != s).min(axis=-1).reshape(-1, 1, 1)
        itself = (tokens.unsqueeze(-1) == tokens.arange(mask)).where(0.0, IMPOSSIBLE)
        return (tokens == mask).unsqueeze(-1).where(possible.where(answer, float(-np.log(mask))), itself)


@cache
def world(symbols: int, length: int, skew: float) -> MarkovOracle:
    """Each letter favours its successor, later letters more strongly: no two positions are alike by symmetry."""
    a, b = np.indices((symbols, symbols))
    transition = np.exp(-skew * (1 + a / symbols) * ((b - a - 1) % symbols))
    initial = np.exp(-skew / 2 * np.arange(symbols))
    return MarkovOracle(initial / initial.sum(), transition / transition.sum(axis=1, keepdims=True), length)


@dataclass(frozen=True, kw_only=True)
class MarkovCorpus(Corpus):
    """Texts of `length` letters from a skewed Markov chain: small enough to enumerate, so that laws are exact.

    Splits are independent draws (20 000, 1 024 and 1 024 texts) and may share texts. Raises ValueError for parameters
    out of range.
    """

    name = "markov"
    source = "made for mist-bench"
    layout = "padded"
    symbols: int = parameter(3, "letters, 2 to 26")
    length: int = parameter(4, "letters in a text, 1 to 1024")
    skew: float = parameter(1.2, "how much a letter favours its successor, 0 (not at all) to 5")

    def __post_init__(self) -> None:
        for name, low, high in (("symbols", 2, 26), ("length", 1, 1024), ("skew", 0, 5)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is from {low} to {high}, not {value!r}")

    def load(self, cache: Path) -> Texts:
        rng = np.random.default_rng(np.random.Philox(key=20260102))
        train, validation, test = (self._draw(n, rng) for n in (20_000, 1_024, 1_024))
        return Texts(train=train, validation=validation, test=test)

    def _draw(self, count: int, rng: np.random.Generator) -> list[str]:
        pieces = self.vocabulary()
        return ["".join(pieces[x] for x in row) for row in self.oracle().sample(count, rng)]

    def fixed_length(self) -> int:
        return self.length

    def vocabulary(self) -> Sequence[str]:
        return tuple(ascii_lowercase[: self.symbols])

    def oracle(self) -> MarkovOracle:
        return world(self.symbols, self.length, self.skew)


@hookimpl
def mist_bench_corpora() -> Iterator[type[Corpus]]:
    yield MarkovCorpus

"""How many of the best-scored positions a step reveals: one of the two parts of a `ScoreSampler`.

Shapes: B sequences, L positions.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from .component import IntArray
from .view import View

if TYPE_CHECKING:
    from tinygrad import Tensor

Reveals = Literal["chance", "schedule", "text"]
"""What decides how many positions a step reveals."""


class Count(ABC):
    """How many of the best-scored positions a step reveals. The facts are those of the sampler that it is part of."""

    uses_steps: ClassVar[bool] = True
    adaptive: ClassVar[bool] = False
    reveals: ClassVar[Reveals] = "text"

    @abstractmethod
    def of(self, view: View, score: Tensor) -> Tensor:
        """(B,) how many of the masked positions to reveal, those of the highest `score` (B, L) first."""

    def steps(self, steps: int, to_fill: int) -> int:
        """How many steps a sequence with `to_fill` positions to fill takes; at most, if adaptive."""
        return min(steps, to_fill)

    def left(self, masked: IntArray, target_masked: IntArray, to_fill: IntArray, step: int, steps: int) -> IntArray:
        """(B,) how many positions stay masked after a step, computed on the host; asked if `reveals` is "schedule"."""
        raise TypeError(f"{type(self).__name__} declares reveals = 'schedule' and does not implement `left`")


class ScheduledCount(Count):
    """Down to round(m(s) M) masked positions, at least one at each step, all at the last."""

    reveals = "schedule"

    def of(self, view: View, score: Tensor) -> Tensor:
        return scheduled_count(view)

    def left(self, masked: IntArray, target_masked: IntArray, to_fill: IntArray, step: int, steps: int) -> IntArray:
        return scheduled_left(masked, target_masked)


class EqualSharesCount(Count):
    """floor(M / steps) positions at each step, one more in each of the first M mod steps."""

    reveals = "schedule"

    def of(self, view: View, score: Tensor) -> Tensor:
        left = view.masked.sum(axis=-1).int()
        share = view.to_fill // view.steps + (view.step < view.to_fill % view.steps).int()
        return view.last.where(left, share)

    def left(self, masked: IntArray, target_masked: IntArray, to_fill: IntArray, step: int, steps: int) -> IntArray:
        return np.asarray(np.maximum(masked - to_fill // steps - (step < to_fill % steps), 0))


class OneCount(Count):
    """One position at each step; `steps` is ignored."""

    uses_steps = False
    reveals = "schedule"

    def of(self, view: View, score: Tensor) -> Tensor:
        return view.to_fill.ones_like()

    def steps(self, steps: int, to_fill: int) -> int:
        return to_fill

    def left(self, masked: IntArray, target_masked: IntArray, to_fill: IntArray, step: int, steps: int) -> IntArray:
        return np.maximum(masked - 1, 0)


class TextCount(Count):
    """As many as the text allows, at least one; `steps` is ignored."""

    uses_steps = False
    adaptive = True

    @abstractmethod
    def enough(self, view: View, score: Tensor) -> Tensor:
        """(B, L) where a position is certain enough; true of a position only if it is of those with higher scores."""

    def of(self, view: View, score: Tensor) -> Tensor:
        return (view.masked & self.enough(view, score)).sum(axis=-1).int().maximum(1)

    def steps(self, steps: int, to_fill: int) -> int:
        return to_fill


@dataclass(frozen=True)
class ThresholdCount(TextCount):
    """All whose score, a log p, is at least log `tau`."""

    tau: float

    def enough(self, view: View, score: Tensor) -> Tensor:
        return score >= math.log(self.tau)


@dataclass(frozen=True)
class FactorCount(TextCount):
    """The largest n for which the n-th best score is at least log(1 - `factor` / (n + 1))."""

    factor: float

    def enough(self, view: View, score: Tensor) -> Tensor:
        # p falls and the bar rises from rank to rank, so a position that passes by its own rank is within the largest n
        return score.exp() >= 1.0 - self.factor / (ranks(score, view.masked) + 2)


@dataclass(frozen=True)
class EntropyBoundCount(TextCount):
    """The longest prefix with sum(H) - max(H) <= `gamma` nats, for a score that falls with the entropy H."""

    gamma: float

    def enough(self, view: View, score: Tensor) -> Tensor:
        entropy = view.entropy.maximum(0.0)  # certain may round to just below
        # in ascending order the largest of a prefix is its last: what is bounded is the sum of those before it
        before = comes_before(score, view.masked)
        return before.where(entropy.unsqueeze(-2), 0.0).sum(axis=-1) <= self.gamma


def scheduled_count(view: View) -> Tensor:
    """(B,) how many to reveal: down to round(m(s) M) masked, at least one, all at the last step."""
    left = view.masked.sum(axis=-1).int()
    return view.last.where(left, (left - view.target_masked).maximum(1))


def scheduled_left(masked: IntArray, target_masked: IntArray) -> IntArray:
    """(B,) how many `scheduled_count` leaves masked, on the host."""
    return np.clip(target_masked, 0, np.maximum(masked - 1, 0))


def reveal_best(score: Tensor, masked: Tensor, count: Tensor) -> Tensor:
    """Which masked positions (B, L) are among the `count` (B,) highest scores; ties go to the left.

    By rank rather than by sorting: position i is revealed if fewer than `count` masked positions come before it.
    """
    return masked & (ranks(score, masked) < count.unsqueeze(-1))


def ranks(score: Tensor, masked: Tensor) -> Tensor:
    """(B, L) how many masked positions come before each."""
    return comes_before(score, masked).int().sum(axis=-1)


def comes_before(score: Tensor, masked: Tensor) -> Tensor:
    """(B, L), (B, L) -> (B, L, L): [b, i, j] says that masked position j comes before i, by a higher score or, where
    scores are equal, by standing further left."""
    from tinygrad import Tensor

    length = score.shape[-1]
    order = Tensor.arange(length)
    mine, other = score.unsqueeze(-1), score.unsqueeze(-2)
    before = (other > mine) | ((other == mine) & (order.reshape(1, 1, length) < order.reshape(1, length, 1)))
    return before & masked.unsqueeze(-2)

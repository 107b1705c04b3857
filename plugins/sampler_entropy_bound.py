"""Entropy bound: as many of the most certain positions as may be drawn independently at a bounded cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mist_bench import Count, EntropyBoundCount, Sampler, ScoreSampler, View, hookimpl, parameter

if TYPE_CHECKING:
    from tinygrad import Tensor


@dataclass(frozen=True, kw_only=True)
class EntropyBoundSampler(ScoreSampler):
    """Reveal the longest prefix, in ascending order of entropy H, with sum(H) - max(H) <= gamma; `steps` is ignored.

    The difference is an upper bound, in nats, of what is lost by drawing the positions independently rather than
    jointly. At gamma = 0 only certain positions (H = 0) are revealed together, so the law is the model's own. At least
    one position is revealed. The code published with PC-Sampler handles one sequence at a time; here each sequence of
    a batch has its own prefix. The default of that code is 0.1, and of its scripts 0.01.
    """

    name = "entropy-bound"
    source = "EB-Sampler, arXiv 2505.24857"
    order = "shown"
    gamma: float = parameter(0.01, "the most nats that a step may lose, 0 or more")

    def __post_init__(self) -> None:
        if not 0.0 <= self.gamma < math.inf:
            raise ValueError(f"gamma is a number of 0 or more, not {self.gamma!r}")

    @property
    def exact_one_at_a_time(self) -> bool:
        # above 0 it reveals several at a time, and no number of steps changes that
        return self.gamma == 0.0

    @property
    def count(self) -> Count:
        return EntropyBoundCount(self.gamma)

    def scores(self, view: View) -> Tensor:
        return -view.entropy.maximum(0.0)  # rounding may leave a certain position just below 0


@hookimpl
def mist_bench_samplers() -> Iterator[type[Sampler]]:
    yield EntropyBoundSampler

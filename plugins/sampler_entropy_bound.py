"""Entropy bound: as many of the most certain positions as may be drawn by themselves at a known cost."""

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
    """In ascending order of entropy, reveal the longest prefix with sum(H) - max(H) <= gamma, then draw it.

    The difference bounds from above what drawing the positions by themselves can lose against drawing them jointly, in
    nats. At gamma = 0 only certain positions (H = 0) go together, so the law is the model's own. At least one position
    is revealed; `steps` is ignored. The code published with PC-Sampler takes one sequence at a time; here each
    sequence of a batch has its own prefix. Its own default is 0.1, that of its scripts 0.01.
    """

    name = "entropy-bound"
    source = "EB-Sampler, arXiv 2505.24857"
    gamma: float = parameter(0.01, "nats that a step may lose at most, 0 or more")

    def __post_init__(self) -> None:
        if not 0.0 <= self.gamma < math.inf:
            raise ValueError(f"gamma is a number of 0 or more, not {self.gamma!r}")

    @property
    def exact_one_at_a_time(self) -> bool:
        # above 0 it reveals several at a time, and nothing that is asked for makes it one
        return self.gamma == 0.0

    @property
    def count(self) -> Count:
        return EntropyBoundCount(self.gamma)

    def scores(self, view: View) -> Tensor:
        return -view.entropy.maximum(0.0)  # rounding may leave a certain position just below 0


@hookimpl
def mist_bench_samplers() -> Iterator[type[Sampler]]:
    yield EntropyBoundSampler

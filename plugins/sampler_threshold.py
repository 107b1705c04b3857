"""Threshold: every position of sufficient probability."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mist_bench import Count, FactorCount, Order, Sampler, ScoreSampler, ThresholdCount, View, hookimpl, parameter

if TYPE_CHECKING:
    from tinygrad import Tensor

FORMS, SCORES = ("threshold", "factor"), ("proposal", "max")


@dataclass(frozen=True, kw_only=True)
class ThresholdSampler(ScoreSampler):
    """Reveal every position with p >= tau, at least the best one; `steps` is ignored.

    `form=factor`: the largest n whose n-th best p is at least 1 - factor / (n + 1), at least one. p is that of the
    drawn token (`score=proposal`, a hidden lower temperature) or the largest (`score=max`). Fast-dLLM's blocks and
    caches are not part of this. Its code for the factor form reveals all that is masked if only the last and worst
    position fails, so that two masked positions are always revealed together; here that one stays masked.
    """

    name = "threshold"
    source = "Fast-dLLM, arXiv 2505.22618"
    tau: float = parameter(0.9, "the least p, above 0 and at most 1")
    form: str = parameter("threshold", "threshold (the same tau for all) or factor (rises with the rank)")
    factor: float = parameter(1.0, "Fast-dLLM's f of the factor form, above 0")
    score: str = parameter("proposal", "which p: proposal (of the drawn token) or max (the largest)")

    def __post_init__(self) -> None:
        if not 0.0 < self.tau <= 1.0:
            raise ValueError(f"tau is above 0 and at most 1, not {self.tau!r}")
        if self.form not in FORMS:
            raise ValueError(f"form is one of {', '.join(FORMS)}, not {self.form!r}")
        if not 0.0 < self.factor < math.inf:
            raise ValueError(f"factor is a number above 0, not {self.factor!r}")
        if self.score not in SCORES:
            raise ValueError(f"score is one of {', '.join(SCORES)}, not {self.score!r}")

    @property
    def order(self) -> Order:
        return "shown" if self.score == "max" else "drawn"

    @property
    def exact_one_at_a_time(self) -> bool:
        # with tau = 1, what is revealed together with the best is certain
        return self.score == "max" and self.form == "threshold" and self.tau == 1.0

    @property
    def count(self) -> Count:
        return FactorCount(self.factor) if self.form == "factor" else ThresholdCount(self.tau)

    def scores(self, view: View) -> Tensor:
        return view.max_log_probability if self.score == "max" else view.log_probability


@hookimpl
def mist_bench_samplers() -> Iterator[type[Sampler]]:
    yield ThresholdSampler

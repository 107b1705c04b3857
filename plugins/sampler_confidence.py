"""Confidence: the positions of highest probability first, as many as the schedule says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mist_bench import Choice, Order, Sampler, ScoreSampler, View, hookimpl, parameter

if TYPE_CHECKING:
    from tinygrad import Tensor

SCORES = ("proposal", "max")


@dataclass(frozen=True, kw_only=True)
class ConfidenceSampler(ScoreSampler):
    """Reveal the positions of highest confidence: p of the drawn token (`proposal`), or the largest p (`max`).

    After the step round(m(s) M) positions stay masked; at least one is revealed, and all at the last step. Ordering by
    the drawn token's p favours likely tokens, a hidden lower temperature (arXiv 2510.04525), so `proposal` is not exact
    at any number of steps; `max` chooses before it draws, and is exact at one position a step.

    `noise` adds MaskGIT's choice noise, noise * (1 - (step + 1) / steps) * Gumbel, to the log confidence. Dream's
    code truncates the number to reveal, so that a step may reveal none; here every step reveals at least one. `cool`
    lowers the temperature of the proposals linearly from T at the first step to T (1 - cool) at the last.
    """

    name = "confidence"
    source = "MaskGIT, arXiv 2202.04200; Dream, arXiv 2508.15487"
    default = True
    score: str = parameter("proposal", "what orders the positions: proposal (p of the drawn token) or max (largest p)")
    noise: float = parameter(0.0, "annealed Gumbel noise on the log confidence, 0 or more (MaskGIT: 4.5)")
    cool: float = parameter(0.0, "share of the temperature taken off by the last step, 0 to 1")

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise ValueError(f"score is one of {', '.join(SCORES)}, not {self.score!r}")
        if not 0.0 <= self.noise < math.inf:
            raise ValueError(f"noise is a number of 0 or more, not {self.noise!r}")
        if not 0.0 <= self.cool <= 1.0:
            raise ValueError(f"cool is from 0 to 1, not {self.cool!r}")

    @property
    def choice(self) -> Choice:
        return "continuous" if self.noise else "none"

    @property
    def order(self) -> Order:
        return "shown" if self.score == "max" and not self.noise else "drawn"

    @property
    def exact_one_at_a_time(self) -> bool:
        return self.score == "max" and self.cool == 0.0

    def heat(self, step: int, steps: int) -> float:
        return 1.0 - self.cool * step / max(1, steps - 1)

    def scores(self, view: View) -> Tensor:
        order = view.max_log_probability if self.score == "max" else view.log_probability
        if self.noise:
            gumbel = -(-view.uniform.log()).log()
            order = order + self.noise * (1.0 - (view.step + 1) / view.steps) * gumbel
        return order


@hookimpl
def mist_bench_samplers() -> Iterator[type[Sampler]]:
    yield ConfidenceSampler

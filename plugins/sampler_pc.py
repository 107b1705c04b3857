"""PC: likely but rare tokens first, from left to right."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mist_bench import Sampler, ScoreSampler, View, hookimpl, parameter

if TYPE_CHECKING:
    from tinygrad import Tensor


@dataclass(frozen=True, kw_only=True)
class PcSampler(ScoreSampler):
    """Reveal by exp(-strength * i) * min(-p(x̂) log f(x̂), alpha) at position i, as many as the schedule says.

    f is the token's frequency in the train split: trivial tokens (frequent ones, e.g. ends) come later. Ordered by the
    drawn token, so not exact at any number of steps. The published code multiplies in float32, where exp(-0.25 i) is 0
    from about position 415 on, so that all scores are equal there; here the order is that of the logarithm. Its shares
    count the masks of later blocks too, and so rewrite fixed tokens; here blocks are `semi-autoregressive`. The paper
    sets strength (its lambda) from 0 to 1, depending on the task.
    """

    name = "pc"
    source = "PC-Sampler, arXiv 2508.13021"
    needs = frozenset({"log_frequency"})
    strength: float = parameter(0.25, "how strongly the left is preferred (the paper's lambda), 0 or more")
    alpha: float = parameter(10.0, "upper limit of -p log f, above 0")

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength < math.inf:
            raise ValueError(f"strength is a number of 0 or more, not {self.strength!r}")
        if not 0.0 < self.alpha < math.inf:
            raise ValueError(f"alpha is a number above 0, not {self.alpha!r}")

    def scores(self, view: View) -> Tensor:
        assert view.log_frequency is not None
        surprise = (-view.log_frequency).maximum(1e-30).log()
        informed = (view.log_probability + surprise).minimum(math.log(self.alpha))
        return informed - self.strength * view.masked.arange(view.masked.shape[1])


@hookimpl
def mist_bench_samplers() -> Iterator[type[Sampler]]:
    yield PcSampler

"""KLASS: the positions of high confidence whose distribution has stopped changing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mist_bench import Sampler, State, View, hookimpl, parameter, reveal_best, scheduled_count

if TYPE_CHECKING:
    from tinygrad import Tensor


@dataclass(frozen=True, kw_only=True)
class KlassSampler(Sampler):
    """Reveal every position with p(x̂) > tau and KL(p_t || p_t-1) < kappa in each of the last `history` steps.

    If there is none, the best by p(x̂), as many as the schedule says, and at least M / steps. `steps` is the maximum:
    generation ends earlier where many positions were stable, and the last step reveals all. The first KL is known at
    the second step. Differences from KLASS's code, which we do not copy: its fallback counts by LLaDA's shares alone,
    so that fewer stable positions than a share leave masks after the last step, and a share above what is masked
    rewrites fixed tokens; its confidence and KL are of the answer with Gumbel noise added; its fallback clears choices
    of other sequences; its entropy order picks the least certain. The paper's values: tau 0.6 to 0.9, kappa 0.001 to
    0.015, history 2.
    """

    name = "klass"
    source = "KLASS, arXiv 2511.05664"
    adaptive = True
    needs = frozenset({"log_probabilities", "previous_log_probabilities"})
    tau: float = parameter(0.9, "p(x̂) must be above this; from 0 to below 1")
    kappa: float = parameter(0.01, "the KL of a step, in nats, must be below this; above 0")
    history: int = parameter(2, "for how many steps in a row, 1 or more")

    def __post_init__(self) -> None:
        if not 0.0 <= self.tau < 1.0:
            raise ValueError(f"tau is at least 0 and below 1, not {self.tau!r}")
        if not 0.0 < self.kappa < math.inf:
            raise ValueError(f"kappa is a number above 0, not {self.kappa!r}")
        if self.history < 1:
            raise ValueError(f"history is at least 1, not {self.history!r}")

    def nfe(self, steps: int, to_fill: int) -> int:
        return min(steps, to_fill)

    def initial_state(self, batch: int, length: int) -> State:
        from tinygrad import Tensor

        return {"held": Tensor.zeros(batch, length).contiguous()}

    def step(self, view: View, state: State) -> tuple[Tensor, State]:
        assert view.log_probabilities is not None and view.previous_log_probabilities is not None
        moved = view.log_probabilities - view.previous_log_probabilities
        stable = ((view.log_probabilities.exp() * moved).sum(axis=-1) < self.kappa) & (view.step > 0)
        held = stable.where(state["held"] + 1.0, 0.0)
        confidence = view.log_probability
        ready = view.masked & (held >= self.history) & (confidence > (math.log(self.tau) if self.tau else -math.inf))
        count = scheduled_count(view).maximum(view.to_fill // view.steps)
        best = reveal_best(confidence, view.masked, count)
        reveal = ready.max(axis=-1, keepdim=True).where(ready, best)
        reveal = (view.step + 1 >= view.steps).where(view.masked, reveal)
        return reveal.where(view.proposal, view.tokens), {"held": held}


@hookimpl
def mist_bench_samplers() -> Iterator[type[Sampler]]:
    yield KlassSampler

"""WINO: reveal many, and mask again what the other tokens make unlikely."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mist_bench import Sampler, State, View, hookimpl, parameter, reveal_best

if TYPE_CHECKING:
    from tinygrad import Tensor

FEWEST, MOST = 5, 20


@dataclass(frozen=True, kw_only=True)
class WinoSampler(Sampler):
    """Reveal all with p(x̂) > tau, and mask again shown tokens with p < tau_back given the rest; `steps` is ignored.

    Of those above tau the best, at most 0.7 of what is masked, but that limit is from 5 to 20; at least the best one.
    Where more than one is revealed, each token revealed before is verified by its p given all other tokens, as if it
    alone were masked: the least likely below tau_back are masked again, fewer than were revealed at the step before. So
    a text takes at most M steps. A step computes both at once, twice the work of an evaluation, and counts as two.

    WINO verifies by a row of masks after the text, each of which sees all tokens but its own, and the other masks of
    the row. Here such a mask sees no other of the row, as if its token alone were masked: with more than one layer both
    are approximations, because the tokens that it sees have seen its own; and a network conditioned on the masked
    fraction gets that of the text as it is. With an oracle it is exact. The published code counts and compares over the
    whole batch, and has its limits in tokens of a block of 128.
    """

    name = "wino"
    source = "WINO, arXiv 2507.18578"
    uses_steps = False
    adaptive = True
    remasks = True
    needs = frozenset({"left_out_log_probability"})
    tau: float = parameter(0.6, "p(x̂) must be above this to be revealed; from 0 to below 1")
    tau_back: float = parameter(0.9, "a shown token with less p given the rest is masked again; from 0 (never) to 1")

    def __post_init__(self) -> None:
        if not 0.0 <= self.tau < 1.0:
            raise ValueError(f"tau is at least 0 and below 1, not {self.tau!r}")
        if not 0.0 <= self.tau_back <= 1.0:
            raise ValueError(f"tau_back is from 0 to 1, not {self.tau_back!r}")

    def nfe(self, steps: int, to_fill: int) -> int:
        return self.evaluations * to_fill

    def initial_state(self, batch: int, length: int) -> State:
        from tinygrad import Tensor

        return {"revealed": Tensor.zeros(batch, dtype="int32").contiguous()}

    def step(self, view: View, state: State) -> tuple[Tensor, State]:
        assert view.left_out_log_probability is not None
        sure = view.masked & (view.log_probability > (math.log(self.tau) if self.tau else -math.inf))
        left = view.masked.sum(axis=-1).int()
        most = (left * 7 // 10).maximum(FEWEST).minimum(MOST)
        count = sure.sum(axis=-1).int().minimum(most).maximum(1)
        reveal = reveal_best(view.log_probability, view.masked, count)
        shown = view.free & (view.tokens != view.mask)
        doubted = shown & (view.left_out_log_probability < (math.log(self.tau_back) if self.tau_back else -math.inf))
        back = (count > 1).where(state["revealed"] - 1, 0)
        again = reveal_best(-view.left_out_log_probability, doubted, back)
        return reveal.where(view.proposal, again.where(view.mask, view.tokens)), {"revealed": count}


@hookimpl
def mist_bench_samplers() -> Iterator[type[Sampler]]:
    yield WinoSampler

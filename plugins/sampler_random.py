"""Ancestral sampling: each masked token is revealed by a coin of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mist_bench import Sampler, State, View, hookimpl, parameter

if TYPE_CHECKING:
    from tinygrad import Tensor


@dataclass(frozen=True, kw_only=True)
class RandomSampler(Sampler):
    """Reveal each masked token with probability (alpha(s) - alpha(t)) / (1 - alpha(t)), all at the last step.

    Exact only as steps grow: tokens revealed in one step are drawn independently. MDLM's code draws the token and
    whether to reveal it at once, with the mask as one more category, by float32 Gumbel noise: that truncates the tail
    (arXiv 2409.02908). Here a Bernoulli decides, and the proposal is the value. MDLM's last step takes the argmax of
    what is left; here it is drawn like the rest.

    `cached`: the same tokens without the evaluations at steps that reveal nothing; a sequence counts only its others,
    at most M. Time is saved where no sequence of the batch reveals anything: with many more steps than M times the
    batch. MDLM's cache compares whole batches after the fact, and is valid only for a network that sees the text alone;
    here the noise tells beforehand, for any network but one that is told its last answer, which is asked at every step.
    """

    name = "random"
    source = "MDLM ancestral sampling, arXiv 2406.07524"
    choice = "bernoulli"
    reveals = "chance"
    cached: bool = parameter(False, "leave out the evaluations at steps that reveal nothing")

    @property
    def skips_idle_steps(self) -> bool:
        return self.cached

    def nfe(self, steps: int, to_fill: int) -> int:
        return steps

    def step(self, view: View, state: State) -> tuple[Tensor, State]:
        reveal = view.masked & (view.uniform < view.reveal_probability.unsqueeze(-1))
        return reveal.where(view.proposal, view.tokens), state


@hookimpl
def mist_bench_samplers() -> Iterator[type[Sampler]]:
    yield RandomSampler

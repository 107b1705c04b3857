"""Ancestral sampling: each masked token is revealed by an independent coin."""

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

    Exact only as steps grow: tokens revealed in one step are drawn independently. MDLM's code draws the token together
    with whether to reveal it, the mask being one more category, by float32 Gumbel noise, which truncates the tail
    (arXiv 2409.02908). Here a coin decides, and the token is the proposal. MDLM's last step takes the argmax for the
    rest; here it is drawn as at every step.

    `cached`: the same tokens without the evaluations at steps that reveal nothing; a sequence counts only those that
    reveal something, at most M. That saves time where no sequence of the batch reveals anything: with many more steps
    than M times the batch. MDLM's cache compares whole batches afterwards, and is valid only for a network whose input
    is the text alone; here the noise is known beforehand, so it works for every network that is not self-conditioned.
    """

    name = "random"
    source = "MDLM ancestral sampling, arXiv 2406.07524"
    order = "noise"
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

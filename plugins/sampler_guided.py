"""Classifier-free guidance without labels: away from the answer without the prompt."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mist_bench import Network, OuterSampler, Sampler, hookimpl, parameter, part

if TYPE_CHECKING:
    from tinygrad import Tensor


@dataclass(frozen=True, kw_only=True)
class GuidedSampler(OuterSampler):
    """Sample from p(x | seen)^(1 + scale) / p(x | seen without the prompt)^scale; the inner sampler reveals.

    The prompt is what the user fixed, at any position. Two evaluations a step, so twice the NFE. Without a prompt the
    two answers are equal: the inner sampler's text at twice the cost, as with scale 0. The rule favours tokens that
    the prompt makes likelier, so with a prompt the text does not follow the network's own law, unless scale is 0.
    """

    name = "guided"
    source = "SMDM, arXiv 2410.18514"
    needs_prompt: ClassVar[bool] = True
    asks_itself: ClassVar[bool] = True
    scale: float = parameter(1.0, "strength of the guidance, 0 (none) or more")
    inner: Sampler = part("confidence", "the sampler that chooses the positions")

    def __post_init__(self) -> None:
        if not 0.0 <= self.scale < math.inf:
            raise ValueError(f"scale is a number of 0 or more, not {self.scale!r}")
        if self.inner.asks_itself or self.inner.evaluations != 1:
            raise ValueError(f"inner must not have an evaluation of its own: {self.inner.spec}")

    @property
    def evaluations(self) -> int:
        return 2

    def nfe(self, steps: int, to_fill: int) -> int:
        return self.evaluations * self.inner.nfe(steps, to_fill)

    def evaluate(self, network: Network, tokens: Tensor, free: Tensor) -> Tensor:
        given = network(tokens)
        mask = given.shape[-1]
        without = network(free.where(tokens, mask).cast(tokens.dtype))
        # a token that the prompt makes impossible stays so: both logarithms may be as low as -1e9
        guided = (given < -1e8).where(given, given + self.scale * (given - without)).log_softmax(-1)
        return (tokens == mask).unsqueeze(-1).where(guided, given)


@hookimpl
def mist_bench_samplers() -> Iterator[type[Sampler]]:
    yield GuidedSampler

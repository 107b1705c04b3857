"""Top-k: the same number of positions at each step, the best first; LLaDA's low-confidence remasking."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mist_bench import EqualSharesCount, Sampler, ScoreSampler, View, hookimpl

if TYPE_CHECKING:
    from tinygrad import Tensor


class TopKSampler(ScoreSampler):
    """Reveal the floor(M / steps) positions of highest p(x̂), one more in each of the first M mod steps.

    Despite LLaDA's name for it, nothing that was revealed is masked again. Under `linear` it is close to `confidence`,
    which rounds in another way. With more steps than positions the first M steps reveal one each. Ordered by the drawn
    token's p, so not exact at any number of steps.
    """

    name = "top-k"
    source = "LLaDA, arXiv 2502.09992"
    count = EqualSharesCount()

    def scores(self, view: View) -> Tensor:
        return view.log_probability


@hookimpl
def mist_bench_samplers() -> Iterator[type[Sampler]]:
    yield TopKSampler

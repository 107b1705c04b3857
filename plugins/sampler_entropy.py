"""Entropy: the positions where the network is most certain first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mist_bench import Sampler, ScoreSampler, View, hookimpl

if TYPE_CHECKING:
    from tinygrad import Tensor


class EntropySampler(ScoreSampler):
    """Reveal the positions of lowest entropy, as many as the schedule says. Exact at one position a step.

    KLASS's code (arXiv 2511.05664) orders by plus the entropy, the least certain first; here it is minus.
    """

    name = "entropy"
    source = "Dream, arXiv 2508.15487"
    order = "shown"
    exact_one_at_a_time = True

    def scores(self, view: View) -> Tensor:
        return -view.entropy


@hookimpl
def mist_bench_samplers() -> Iterator[type[Sampler]]:
    yield EntropySampler

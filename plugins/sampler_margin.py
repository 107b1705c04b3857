"""Margin: the positions where the best token is far ahead of the second first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mist_bench import Sampler, ScoreSampler, View, hookimpl

if TYPE_CHECKING:
    from tinygrad import Tensor


class MarginSampler(ScoreSampler):
    """Reveal the positions of largest p(1st) - p(2nd), as many as the schedule says. Exact at one position a step."""

    name = "margin"
    source = "top probability margin, arXiv 2502.06768"
    order = "shown"
    exact_one_at_a_time = True

    def scores(self, view: View) -> Tensor:
        return view.margin


@hookimpl
def mist_bench_samplers() -> Iterator[type[Sampler]]:
    yield MarginSampler

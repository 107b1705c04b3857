"""Margin: first where the best token is far ahead of the second."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mist_bench import Sampler, ScoreSampler, View, hookimpl

if TYPE_CHECKING:
    from tinygrad import Tensor


class MarginSampler(ScoreSampler):
    """Order by p(1st) - p(2nd), reveal as many as `confidence`, then draw: exact at one position a step."""

    name = "margin"
    source = "top probability margin, arXiv 2502.06768"
    exact_one_at_a_time = True

    def scores(self, view: View) -> Tensor:
        return view.margin


@hookimpl
def mist_bench_samplers() -> Iterator[type[Sampler]]:
    yield MarginSampler

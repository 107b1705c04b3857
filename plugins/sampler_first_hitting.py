"""First-hitting: the exact process, with one evaluation for each token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from mist_bench import FloatArray, IntArray, OneCount, Sampler, Schedule, ScoreSampler, View, hookimpl

if TYPE_CHECKING:
    from tinygrad import Tensor


class FirstHittingSampler(ScoreSampler):
    """Reveal one masked position, chosen uniformly, at each evaluation, at its random time; `steps` is ignored. Exact.

    With n masked at t the next reveal is at t': 1 - alpha(t') = (1 - alpha(t)) u^(1/n). It is exact because the choice
    does not depend on the drawn value. The times matter only to networks that are conditioned on t.
    """

    name = "first-hitting"
    source = "arXiv 2409.02908"
    order = "noise"
    choice = "order"
    exact_one_at_a_time = True
    count = OneCount()

    def times(self, schedule: Schedule, steps: int, to_fill: IntArray, uniform: FloatArray) -> FloatArray:
        """(B, n + 1), n the largest `to_fill`: the time of each reveal, at which the network is evaluated, then 0."""
        events = int(np.max(to_fill))
        # left_j = M - j positions are masked before event j, and log m falls by -log(u_j) / left_j
        left = np.asarray(to_fill)[:, None] - np.arange(events)
        fall = np.log(uniform[:, :events]) / np.maximum(left, 1)
        hit = np.where(left > 0, schedule.inverse(np.exp(np.cumsum(fall, axis=1))), 0.0)
        return np.concatenate([hit, np.zeros((len(to_fill), 1))], axis=1)

    def scores(self, view: View) -> Tensor:
        return view.uniform


@hookimpl
def mist_bench_samplers() -> Iterator[type[Sampler]]:
    yield FirstHittingSampler

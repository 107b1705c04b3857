"""Left to right, one token at each evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from mist_bench import FloatArray, IntArray, OneCount, Sampler, Schedule, ScoreSampler, View, hookimpl

if TYPE_CHECKING:
    from tinygrad import Tensor


class AutoregressiveSampler(ScoreSampler):
    """Reveal the first masked position at each evaluation; `steps` is ignored. Exact, also for masked models.

    The only order that a causal family can follow, which uses a key-value cache.
    """

    name = "autoregressive"
    source = "the chain rule"
    order = "shown"
    left_to_right = True
    exact_one_at_a_time = True
    count = OneCount()

    def times(self, schedule: Schedule, steps: int, to_fill: IntArray, uniform: FloatArray) -> FloatArray:
        """(B, n + 1), n the largest `to_fill`: the times at which as much is masked; fewer positions end earlier."""
        events = int(np.max(to_fill))
        many = np.asarray(to_fill)[:, None]
        left = np.maximum(many - np.arange(events + 1), 0)
        inside = schedule.inverse(left / np.maximum(many, 1))
        return np.where(left == 0, 0.0, np.where(np.arange(events + 1) == 0, 1.0, inside))

    def scores(self, view: View) -> Tensor:
        # all equal: ties go to the left
        return view.uniform.zeros_like()


@hookimpl
def mist_bench_samplers() -> Iterator[type[Sampler]]:
    yield AutoregressiveSampler

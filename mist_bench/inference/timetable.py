"""Times and mask probabilities of every step of a sampler, in float64 on the host."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..api.component import FloatArray, IntArray
from ..api.samplers import Sampler
from ..api.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class Timetable:
    """The numbers of each step of a batch, (n, B) each, by the names of `View`."""

    t: FloatArray
    reveal_probability: FloatArray
    alpha_t: FloatArray
    alpha_s: FloatArray
    target_masked: IntArray

    def __len__(self) -> int:
        """n, the number of steps."""
        return len(self.t)


def timetable(sampler: Sampler, schedule: Schedule, steps: int, to_fill: IntArray, uniform: FloatArray) -> Timetable:
    """The timetable for (B,) positions to fill and (B, L) noise for random times.

    alpha(0) = 1 and alpha(1) = 0 are enforced, so that the last step reveals all.
    """
    times = sampler.times(schedule, steps, to_fill, uniform)
    alpha = np.where(times <= 0, 1.0, np.where(times >= 1, 0.0, schedule.alpha(np.clip(times, 0.0, 1.0))))
    alpha_t, alpha_s = alpha[:, :-1], alpha[:, 1:]
    reveal = np.where(alpha_t < 1, (alpha_s - alpha_t) / np.maximum(1 - alpha_t, 1e-300), 1.0)
    reveal = np.where(alpha_s >= 1, 1.0, reveal)
    many = np.broadcast_to(to_fill[:, None], alpha_s.shape)
    # round half up, with room for the last bit of alpha: 3.5 becomes 4 on every machine
    stay = np.floor((1 - alpha_s) * many + 0.5 + 1e-9)
    return Timetable(
        t=times[:, :-1].T, reveal_probability=reveal.T, alpha_t=alpha_t.T, alpha_s=alpha_s.T,
        target_masked=stay.T.astype(np.int64),
    )  # fmt: skip

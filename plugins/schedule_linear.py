"""The linear schedule: every mask ratio is equally likely."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mist_bench import FloatArray, Schedule, hookimpl


class LinearSchedule(Schedule):
    """alpha(t) = 1 - t, w(t) = 1/t; MDLM calls it "loglinear", MD4 and LLaDA "linear"."""

    name = "linear"
    source = "MDLM, arXiv 2406.07524; MD4, arXiv 2406.04329"

    def alpha(self, t: FloatArray) -> FloatArray:
        return 1.0 - t

    def dalpha(self, t: FloatArray) -> FloatArray:
        return -np.ones_like(t)

    def mask_probability(self, t: FloatArray) -> FloatArray:
        return t

    def weight(self, t: FloatArray) -> FloatArray:
        return 1.0 / t

    def inverse(self, mask_probability: FloatArray) -> FloatArray:
        return np.clip(mask_probability, 0.0, 1.0)


@hookimpl
def mist_bench_schedules() -> Iterator[type[Schedule]]:
    yield LinearSchedule

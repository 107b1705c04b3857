"""The cosine schedule of MD4: a fast start, most tokens are masked for most of the time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mist_bench import FloatArray, Schedule, hookimpl


class CosineMd4Schedule(Schedule):
    """alpha(t) = 1 - sin(pi t/2), w(t) = (pi/2) cot(pi t/2); MD4 and dllm "cosine". MDLM's is `cosine`.

    Published code clips alpha to 1e-4 .. 1 - 1e-4; here nothing is clipped.
    """

    name = "cosine-md4"
    source = "MD4, arXiv 2406.04329"

    def alpha(self, t: FloatArray) -> FloatArray:
        # 1 - cos(pi (1-t)/2) without cancellation near t = 1
        return 2.0 * np.sin(np.pi / 4 * (1.0 - t)) ** 2

    def dalpha(self, t: FloatArray) -> FloatArray:
        return -np.pi / 2 * np.sin(np.pi / 2 * (1.0 - t))

    def mask_probability(self, t: FloatArray) -> FloatArray:
        return np.sin(np.pi / 2 * t)

    def weight(self, t: FloatArray) -> FloatArray:
        return np.pi / 2 / np.tan(np.pi / 2 * t)

    def inverse(self, mask_probability: FloatArray) -> FloatArray:
        return 2 / np.pi * np.arcsin(np.clip(mask_probability, 0.0, 1.0))


@hookimpl
def mist_bench_schedules() -> Iterator[type[Schedule]]:
    yield CosineMd4Schedule

"""The squared cosine: mist's own schedule, slow at both ends."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mist_bench import FloatArray, Schedule, hookimpl


class CosineSquaredSchedule(Schedule):
    """alpha(t) = cos^2(pi t/2), w(t) = pi cot(pi t/2); MDLM's code has it as "cosinesqr"."""

    name = "cosine-squared"
    source = "mist; the curve of Nichol and Dhariwal, arXiv 2102.09672"

    def alpha(self, t: FloatArray) -> FloatArray:
        # cos^2(pi t/2), written so that alpha(1) is 0
        return np.sin(np.pi / 2 * (1.0 - t)) ** 2

    def dalpha(self, t: FloatArray) -> FloatArray:
        # sin(pi t) = 2 sin cos, each factor without cancellation at its own end
        return -np.pi * np.sin(np.pi / 2 * t) * np.sin(np.pi / 2 * (1.0 - t))

    def mask_probability(self, t: FloatArray) -> FloatArray:
        return np.sin(np.pi / 2 * t) ** 2

    def weight(self, t: FloatArray) -> FloatArray:
        return np.pi / np.tan(np.pi / 2 * t)

    def inverse(self, mask_probability: FloatArray) -> FloatArray:
        return 2 / np.pi * np.arcsin(np.sqrt(np.clip(mask_probability, 0.0, 1.0)))


@hookimpl
def mist_bench_schedules() -> Iterator[type[Schedule]]:
    yield CosineSquaredSchedule

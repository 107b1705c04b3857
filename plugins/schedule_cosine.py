"""The cosine schedule of MDLM: a slow start, so that few tokens are masked at small t."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mist_bench import FloatArray, Schedule, hookimpl


class CosineSchedule(Schedule):
    """alpha(t) = cos(pi t/2), w(t) = (pi/2) cot(pi t/4); MDLM and BD3-LM "cosine". MD4's is `cosine-md4`.

    Published code adds an epsilon to alpha, or clamps the mask probability but not its derivative (BD3-LM), which makes
    the bound wrong. Here nothing is clamped.
    """

    name = "cosine"
    source = "MDLM, arXiv 2406.07524"

    def alpha(self, t: FloatArray) -> FloatArray:
        # cos(pi t/2), written so that alpha(1) is 0 and not 6e-17
        return np.sin(np.pi / 2 * (1.0 - t))

    def dalpha(self, t: FloatArray) -> FloatArray:
        return -np.pi / 2 * np.sin(np.pi / 2 * t)

    def mask_probability(self, t: FloatArray) -> FloatArray:
        return 2.0 * np.sin(np.pi / 4 * t) ** 2

    def weight(self, t: FloatArray) -> FloatArray:
        return np.pi / 2 / np.tan(np.pi / 4 * t)

    def inverse(self, mask_probability: FloatArray) -> FloatArray:
        # the product of the rounded factors is one unit above 1 at the end
        return np.minimum(4 / np.pi * np.arcsin(np.sqrt(np.clip(mask_probability, 0.0, 1.0) / 2)), 1.0)


@hookimpl
def mist_bench_schedules() -> Iterator[type[Schedule]]:
    yield CosineSchedule

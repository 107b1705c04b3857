"""The schedule that is linear in the noise level."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mist_bench import FloatArray, Schedule, hookimpl, parameter

BELOW_ONE = 1.0 - 2.0**-53


@dataclass(frozen=True, kw_only=True)
class LinearSigmaSchedule(Schedule):
    """alpha(t) = exp(-sigma), sigma = smin + t (smax - smin), w(t) = (smax - smin) / (e^sigma - 1); MDLM "linear".

    What MD4 and LLaDA call "linear" is `linear`. Reaches only the mask probabilities from 1 - exp(-smin) to
    1 - exp(-smax), so its bound is taken by exact-k. Raises ValueError unless 0 < smin < smax.
    """

    name = "linear-sigma"
    source = "MDLM, arXiv 2406.07524"
    reaches_all = False
    sigma_min: float = parameter(1e-3, "noise level at t = 0, above 0")
    sigma_max: float = parameter(7.0, "noise level at t = 1, above sigma_min")

    def __post_init__(self) -> None:
        if not 0.0 < self.sigma_min < self.sigma_max < np.inf:
            raise ValueError(f"0 < sigma_min < sigma_max must hold, not {self.sigma_min!r} and {self.sigma_max!r}")

    @property
    def growth(self) -> float:
        """sigma'(t)."""
        return self.sigma_max - self.sigma_min

    def sigma(self, t: FloatArray) -> FloatArray:
        """The noise level at t, -log alpha(t)."""
        return self.sigma_min + t * self.growth

    def alpha(self, t: FloatArray) -> FloatArray:
        return np.exp(-self.sigma(t))

    def dalpha(self, t: FloatArray) -> FloatArray:
        return -self.growth * self.alpha(t)

    def mask_probability(self, t: FloatArray) -> FloatArray:
        return -np.expm1(-self.sigma(t))

    def weight(self, t: FloatArray) -> FloatArray:
        return self.growth / np.expm1(self.sigma(t))

    def inverse(self, mask_probability: FloatArray) -> FloatArray:
        sigma = -np.log1p(-np.clip(mask_probability, 0.0, BELOW_ONE))
        return np.clip((sigma - self.sigma_min) / self.growth, 0.0, 1.0)


@hookimpl
def mist_bench_schedules() -> Iterator[type[Schedule]]:
    yield LinearSigmaSchedule

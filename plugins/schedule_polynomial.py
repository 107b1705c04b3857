"""The polynomial schedule of MD4."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mist_bench import FloatArray, Schedule, hookimpl, parameter


@dataclass(frozen=True, kw_only=True)
class PolynomialSchedule(Schedule):
    """alpha(t) = 1 - t^p, w(t) = p/t; MD4 "poly2", "poly3", …; p = 1 is `linear`.

    Raises ValueError unless p is positive and finite. With p < 1 the derivative is infinite at t = 0.
    """

    name = "polynomial"
    source = "MD4, arXiv 2406.04329"
    power: float = parameter(2.0, "the exponent p, above 0")

    def __post_init__(self) -> None:
        if not 0.0 < self.power < np.inf:
            raise ValueError(f"power is a positive number, not {self.power!r}")

    def alpha(self, t: FloatArray) -> FloatArray:
        return 1.0 - t**self.power

    def dalpha(self, t: FloatArray) -> FloatArray:
        return -self.power * t ** (self.power - 1.0)

    def mask_probability(self, t: FloatArray) -> FloatArray:
        return t**self.power

    def weight(self, t: FloatArray) -> FloatArray:
        return self.power / t

    def inverse(self, mask_probability: FloatArray) -> FloatArray:
        return np.clip(mask_probability, 0.0, 1.0) ** (1.0 / self.power)


@hookimpl
def mist_bench_schedules() -> Iterator[type[Schedule]]:
    yield PolynomialSchedule

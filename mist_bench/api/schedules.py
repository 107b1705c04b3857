"""What a schedule implements: how likely a token is still clean at time t."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from .component import Component, FloatArray


class Schedule(Component, ABC):
    """How likely a token is still clean at time t, from t = 0 (clean) to t = 1 (all masked). Float64 on the host."""

    reaches_all: ClassVar[bool] = True
    """Whether alpha(0) = 1 and alpha(1) = 0. If not, its bound is computed by exact-k."""

    @abstractmethod
    def alpha(self, t: FloatArray) -> FloatArray:
        """Probability that a token is still clean at t."""

    @abstractmethod
    def dalpha(self, t: FloatArray) -> FloatArray:
        """Derivative of alpha by t; at most 0."""

    def mask_probability(self, t: FloatArray) -> FloatArray:
        """1 - alpha(t), in a form without cancellation near t = 0."""
        return 1.0 - self.alpha(t)

    def weight(self, t: FloatArray) -> FloatArray:
        """Weight of the bound, w(t) = -alpha'(t) / (1 - alpha(t)); infinite at t = 0."""
        return -self.dalpha(t) / self.mask_probability(t)

    def inverse(self, mask_probability: FloatArray) -> FloatArray:
        """The time at which the mask probability is reached, by bisection (to 1e-15); clipped to 0..1."""
        goal = np.asarray(mask_probability, dtype=np.float64)
        low, high = np.zeros_like(goal), np.ones_like(goal)
        for _ in range(60):
            middle = (low + high) / 2
            below = self.mask_probability(middle) < goal
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2

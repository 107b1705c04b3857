"""Student's t: what an error estimated from few clusters or few training seeds is worth."""

from __future__ import annotations

import math


def two_sided(t: float, freedom: int) -> float:
    """Probability of a value at least as far from 0 as `t`: the incomplete beta I_x(f/2, 1/2) at x = f/(f + t²)."""
    return _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


def quantile(freedom: int, outside: float = 0.05) -> float:
    """How many standard errors leave `outside` beyond both ends: 1.96 for many degrees of freedom, 12.7 for one."""
    low, high = 0.0, 1.0
    while two_sided(high, freedom) > outside:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided(middle, freedom) > outside else (low, middle)
    return (low + high) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b) by its continued fraction, evaluated where it converges fast (Numerical Recipes, section 6.4)."""
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _incomplete_beta(b, a, 1.0 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    value = ratio = 1.0 / (1.0 - (a + b) * x / (a + 1))
    last = 1.0
    for m in range(1, 1000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):  # modified Lentz
            last, ratio = 1.0 + term / last, 1.0 / (1.0 + term * ratio)
            value *= last * ratio
        if abs(last * ratio - 1.0) < 1e-15:
            break
    return front * value

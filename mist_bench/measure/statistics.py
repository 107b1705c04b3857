"""Statistics of the tables: means, ratios, rates and medians with their standard errors and confidence intervals.

Errors are over independent units, their *clusters*: sequences or samples that depend on each other share one. Their
intervals are Student's, with a degree of freedom less than there are units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from ..api.component import FloatArray, IntArray

Z = 1.96
"""Standard errors on each side of a 95 % interval, for many units."""
LEVEL = 0.95
ROUNDING = 1e-12
"""An error that is this part of the values, or less, is what their sums round."""
FEWEST_FOR_INTERVAL = 6
"""The smallest number of values for which `median_interval` reaches LEVEL."""


def two_sided(t: float, freedom: float) -> float:
    """Two-sided p-value of Student's t: the incomplete beta function I_x(f/2, 1/2) at x = f/(f + t²)."""
    return _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


@cache
def quantile(freedom: float, outside: float = 0.05) -> float:
    """Student's t with probability `outside` beyond ±t: 1.96 for many degrees of freedom, 12.7 for one."""
    low, high = 0.0, 1.0
    while two_sided(high, freedom) > outside:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided(middle, freedom) > outside else (low, middle)
    return (low + high) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b) by its continued fraction, on the side where that converges fast (Numerical Recipes, section 6.4)."""
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


def interval(mean: float, se: float | None, units: float | None) -> tuple[float, float] | None:
    """The 95 % confidence interval of a mean whose error is over so many units; None for one unit, without an error."""
    if se is None or not math.isfinite(se) or (units is not None and units <= 1):
        return None
    wide = (Z if units is None or units == math.inf else quantile(units - 1)) * se
    return mean - wide, mean + wide


def combined(se: float | None, units: float | None, other: float | None, others: float) -> tuple[float | None, float]:
    """The standard error of a mean with two independent sources of error, and how many units it is worth.

    `se` over `units` (None: many), `other` over `others`; None where a source is not measured. The degrees of freedom
    are those of Welch (1947) and Satterthwaite (1946); units are one more.
    """
    parts = [(error, n) for error, n in ((se, math.inf if units is None else units), (other, others))
             if error is not None and n > 1]  # fmt: skip
    if not parts:
        return se, 1.0 if units is None else units
    variance = math.fsum(error**2 for error, _ in parts)
    spread = math.fsum(error**4 / (n - 1) for error, n in parts)
    return math.sqrt(variance), 1 + (variance**2 / spread if spread else math.inf)


def standard_error(values: Sequence[float]) -> float | None:
    """Standard error of the mean of independent values; None for fewer than two."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    error = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
    return unless_rounding(error, max(map(abs, values)))


def unless_rounding(error: float, size: float) -> float:
    """An error, or 0 for that of values of this size which differ in nothing but their last digits."""
    return 0.0 if error <= ROUNDING * size else error


def ratio(values: FloatArray, sizes: FloatArray, clusters: IntArray) -> tuple[float, float]:
    """sum(values) / sum(sizes) and its standard error over clusters; NaN for one cluster.

    Linearised (Cochran 1977, section 6), with the factor G / (G - 1) for G clusters: CR1 of the literature on
    cluster-robust errors (Cameron and Miller, Journal of Human Resources 50(2), 2015), whose intervals are Student's
    with G - 1 degrees of freedom.
    """
    _, place = np.unique(clusters, return_inverse=True)
    v, s = np.bincount(place, weights=values), np.bincount(place, weights=sizes)
    mean, n = v.sum() / s.sum(), len(v)
    if n < 2:
        return float(mean), float("nan")
    residual = v - mean * s
    error = float(np.sqrt(n / (n - 1) * (residual**2).sum()) / s.sum())
    return float(mean), unless_rounding(error, float(np.abs(v).sum() / s.sum()))


def disagreement(a: FloatArray, b: FloatArray, clusters: IntArray) -> tuple[float, float]:
    """Mean difference of two estimates (nats per sequence) of the same sequences, and its paired standard error."""
    return ratio(a - b, np.ones(len(a)), clusters)


def mean_and_error(values: FloatArray, clusters: IntArray) -> tuple[float, float | None]:
    """Mean of (N,) values and its standard error over their clusters; the error of a single cluster is None."""
    mean, error = ratio(values, np.ones(len(values)), clusters)
    return mean, error if math.isfinite(error) else None


def wilson(rate: float, count: float) -> tuple[float, float]:
    """Wilson's 95 % confidence interval of a rate over `count` independent trials (1927).

    All p for which the rate lies within 1.96 sqrt(p (1 - p) / count) of p. Never empty, and never beyond 0 or 1.
    """
    z2 = Z * Z / count
    middle, half = rate + z2 / 2, math.sqrt(z2 * (rate * (1 - rate) + z2 / 4))
    low, high = (middle - half) / (1 + z2), (middle + half) / (1 + z2)
    return (low if rate > 0 else 0.0), (high if rate < 1 else 1.0)  # without the 1e-18 that rounding leaves


def median_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """Distribution-free confidence interval of the median, from order statistics. None if even the whole range has a
    lower level: that of three values contains the median with 75 %, of four with 87.5 %, of five with 93.75 %."""
    n, ordered = len(values), sorted(values)
    k, tail = 0, 0.0
    while k < n // 2:
        tail += math.comb(n, k) / 2**n
        if 2 * tail > 1 - level:
            break
        k += 1
    return (float(ordered[k - 1]), float(ordered[n - k])) if k else None


def with_error(value: float | None, se: float | None) -> str:
    """A value with its error as text, `1.234 ±0.012`: two significant digits of the error, and the value to the same
    decimal; empty if not measured."""
    if value is None:
        return ""
    if se is None or not math.isfinite(se):
        return f"{value:.4g}"
    if se == 0.0:
        return f"{value:.4g} ±0"
    digits = decimals(se)
    return f"{rounded(value, digits)} ±{rounded(se, digits)}"


def decimals(se: float) -> int:
    """Number of decimals that show two significant digits of a positive error; negative for errors of 100 or more."""
    return 1 - int(f"{se:.1e}".split("e")[1])


def rounded(value: float, digits: int) -> str:
    """A value as text with this number of decimals, which may be negative."""
    return f"{round(value, digits):.{max(digits, 0)}f}"


def perplexity_columns(nats: float, se: float, clusters: int) -> dict[str, float | None]:
    """Columns of a perplexity with its 95 % confidence interval, from nats per token ± SE; infinite where exp
    overflows, None where there is no error."""
    values = (nats, *(interval(nats, se, clusters) or (None, None)))
    return dict(zip(("perplexity", "perplexity_low", "perplexity_high"), map(_exp, values), strict=True))


def _exp(x: float | None) -> float | None:
    return None if x is None else math.exp(x) if x < 709.0 else math.inf

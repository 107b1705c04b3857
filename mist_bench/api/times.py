"""How the times of a training step are drawn, and what each weighs in the loss.

A training spreads uniform numbers evenly over its batch, u_i = u + i/B mod 1 (MDLM, section 3.5). A family makes times
of them (`Family.times`), by a quantile function, so that drawn from any law they are spread as evenly.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from .component import FloatArray
from .schedules import Schedule

Times = Callable[[FloatArray, Schedule], tuple[FloatArray, FloatArray]]
"""Uniform numbers and the schedule of the training -> as many times, which rise with them, and their weights."""
NARROWEST, WIDEST = 0.1, 10.0
"""Widths of a bell: a narrower one draws no early or late times, a wider one is flat."""


def uniform_times(uniform: FloatArray, schedule: Schedule) -> tuple[FloatArray, FloatArray]:
    """Times as they come with the weight of the bound, w(t): the expectation of the loss is the NELBO."""
    return uniform, schedule.weight(uniform)


def bell_times(uniform: FloatArray, width: float) -> tuple[FloatArray, FloatArray]:
    """Numbers in (0, 1) -> times of a bell around 1/2, and its density at each.

    The law is normal with standard deviation `width` and cut off at 0 and 1, so that its density is positive at both
    ends. A loss divided by the density is importance sampling, with the expectation that it has for uniform times.
    Raises `ValueError` for a width that is not from `NARROWEST` to `WIDEST`.
    """
    if not NARROWEST <= width <= WIDEST:
        raise ValueError(f"the width of a bell is from {NARROWEST:g} to {WIDEST:g}, not {width:g}")
    law = NormalDist(0.5, width)
    below, inside = law.cdf(0.0), law.cdf(1.0) - law.cdf(0.0)
    t = np.array([min(law.inv_cdf(below + inside * u), 1.0) for u in uniform.ravel()]).reshape(uniform.shape)
    return t, np.array([law.pdf(x) for x in t.ravel()]).reshape(uniform.shape) / inside

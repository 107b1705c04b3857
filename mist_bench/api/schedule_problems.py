"""What makes a schedule unusable: cheap checks that a run makes at its first use, and `mist-bench check` in its report.

Each gives what is wrong and what to change, or an empty text.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .component import FloatArray
from .schedules import Schedule

INSIDE = np.linspace(0.01, 0.99, 99)
FUNCTIONS = ("alpha", "dalpha", "mask_probability", "weight", "inverse")


def schedule_problem(schedule: Schedule) -> str:
    """The first problem of a schedule, of a thousand times that take a millisecond."""
    return (
        arrays_problem(schedule) or ends_problem(schedule) or fall_problem(schedule)
        or weight_problem(schedule, INSIDE)
    )  # fmt: skip


def arrays_problem(schedule: Schedule) -> str:
    """A function gives no float64 of the shape it was given, or is not finite."""
    t = INSIDE[:6].reshape(2, 3)
    for name in FUNCTIONS:
        found: Any = getattr(schedule, name)(t)
        if not isinstance(found, np.ndarray) or found.shape != t.shape or found.dtype != np.float64:
            given = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
            return f"{name}(t) gives {given} for float64 (2, 3); compute with numpy on t, constants by np.full_like"
        if not np.isfinite(found).all():
            return f"{name}(t) is not finite inside (0, 1); look for a division by 0 or the log of 0"
    return ""


def ends_problem(schedule: Schedule) -> str:
    """Alpha does not go from a larger to a smaller probability."""
    first, last = (float(x) for x in schedule.alpha(np.array([0.0, 1.0])))
    if 0 <= last < first <= 1:
        return ""
    return f"alpha(0) = {first:.6g} and alpha(1) = {last:.6g}; alpha falls, from at most 1 to at least 0"


def fall_problem(schedule: Schedule) -> str:
    """Alpha stays or rises somewhere."""
    t = np.linspace(0.0, 1.0, 1001)
    wrong = ~(np.diff(schedule.alpha(t)) < 0)
    if not wrong.any():
        return ""
    place = t[int(np.argmax(wrong))]
    return f"alpha does not fall at t = {place:.3g}; a token that is masked stays masked, so alpha must fall"


def weight_problem(schedule: Schedule, t: FloatArray) -> str:
    """The weight is not positive and finite at one of these times."""
    found = schedule.weight(t)
    wrong = ~(np.isfinite(found) & (found > 0))
    if not wrong.any():
        return ""
    place = int(np.argmax(wrong))
    return (
        f"weight({t[place]:.3g}) = {found[place]:.3g}; w(t) is finite and above 0 inside (0, 1): dalpha below 0, "
        "mask_probability above 0"
    )

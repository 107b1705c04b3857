"""Checks of a schedule: alpha, its derivative, the mask probability, the weight and the inverse agree."""

from __future__ import annotations

import numpy as np

from ..api.component import FloatArray
from ..api.schedule_problems import INSIDE, arrays_problem, ends_problem, fall_problem, weight_problem
from ..api.schedules import Schedule
from ..host.registry import Registry
from .core import Failed, Study, check, fail_on

EPS = 2.0**-52
ENDS = np.array([0.0, 1.0])
# numbers with all 53 bits, so that a loss of precision is visible
SMALL = 10.0 ** np.random.default_rng(0).uniform(-9, -4, 64)


class ScheduleStudy(Study):
    """A schedule, and its numbers on the grids of the checks."""

    component: Schedule


def study(component: Schedule, registry: Registry) -> ScheduleStudy:
    return ScheduleStudy(component, registry)


def _worst(error: FloatArray, t: FloatArray) -> tuple[float, float]:
    """The largest error and its time."""
    place = int(np.argmax(error))
    return float(error[place]), float(t[place])


@check("schedule")
def arrays(its: ScheduleStudy) -> None:
    """Every function gives float64 of the shape it was given."""
    fail_on(arrays_problem(its.component))


@check("schedule")
def boundaries(its: ScheduleStudy) -> None:
    """Alpha goes from 1 to 0, or reaches_all is False."""
    fail_on(ends_problem(its.component))
    first, last = (float(x) for x in its.component.alpha(ENDS))
    reached = abs(first - 1) <= 4 * EPS and abs(last) <= 4 * EPS
    if its.component.reaches_all and not reached:
        raise Failed(
            f"alpha(0) = {first:.6g} and alpha(1) = {last:.6g}, not 1 and 0; fix alpha, or set reaches_all = False "
            "(its bound is then taken by exact-k)"
        )
    if reached and not its.component.reaches_all:
        raise Failed("alpha(0) = 1 and alpha(1) = 0, and yet reaches_all is False; leave it out")


@check("schedule")
def falls(its: ScheduleStudy) -> None:
    """Alpha falls everywhere."""
    fail_on(fall_problem(its.component))


@check("schedule")
def derivative(its: ScheduleStudy) -> None:
    """Dalpha is the derivative of alpha."""
    alpha, h = its.component.alpha, 1e-5
    near, far = ((alpha(INSIDE + k * h) - alpha(INSIDE - k * h)) / (2 * k * h) for k in (1, 2))
    # the error of a central difference falls with h^2, so near is off by a third of far - near; the rest is rounding
    room = np.abs(far - near) + 8 * EPS / h
    found = its.component.dalpha(INSIDE)
    worst, place = _worst(np.abs(found - near) - room, INSIDE)
    if worst > 0:
        there = place == INSIDE
        raise Failed(
            f"dalpha({place:.3g}) = {found[there][0]:.8g}, but alpha's slope there is {near[there][0]:.8g}; "
            "differentiate alpha again"
        )


@check("schedule")
def complement(its: ScheduleStudy) -> None:
    """The mask probability is 1 - alpha."""
    error = np.abs(its.component.mask_probability(INSIDE) - (1 - its.component.alpha(INSIDE)))
    worst, place = _worst(error, INSIDE)
    if worst > 8 * EPS:
        raise Failed(f"mask_probability({place:.3g}) is off 1 - alpha by {worst:.3g}; the two must be one function")


@check("schedule")
def no_cancellation(its: ScheduleStudy) -> None:
    """The mask probability keeps all its digits near t = 0.

    1 - alpha in float64 is a multiple of 2^-53 when alpha is near 1; a number with all its bits almost never is.
    """
    m = its.component.mask_probability(SMALL)
    tiny = m < 2.0**-8
    if tiny.any() and (m[tiny] * 2.0**53 == np.round(m[tiny] * 2.0**53)).all():
        raise Failed(
            "mask_probability loses its digits near t = 0 (it is 1 - alpha); write it without the subtraction, e.g. 1 "
            "- cos(x) = 2 sin(x/2)^2, 1 - exp(-s) = -expm1(-s), 1 - (1 - t)^2 = t (2 - t)"
        )


@check("schedule")
def bound_weight(its: ScheduleStudy) -> None:
    """The weight is -dalpha / (1 - alpha), positive and finite inside (0, 1)."""
    t = np.concatenate([SMALL, INSIDE, 1 - SMALL])
    fail_on(weight_problem(its.component, t))
    found = its.component.weight(t)
    own = -its.component.dalpha(t) / its.component.mask_probability(t)
    # t itself is rounded, which near an end moves what is left of it (and so dalpha) by that much
    room = 16 * EPS * (1 + 1 / np.minimum(t, 1 - t))
    worst, where = _worst(np.abs(found / own - 1) - room, t)
    if worst > 0:
        off = float((found / own)[t == where][0])
        raise Failed(
            f"weight({where:.3g}) is {off:.8g} times -dalpha/mask_probability; derive it again, or leave it out"
        )


@check("schedule")
def inverse(its: ScheduleStudy) -> None:
    """The inverse gives back the time, and stays within 0..1."""
    schedule = its.component
    # an error of one unit in m moves t by that over m'(t)
    room = 1e-13 + 16 * EPS / np.maximum(-schedule.dalpha(INSIDE), EPS)
    worst, place = _worst(np.abs(schedule.inverse(schedule.mask_probability(INSIDE)) - INSIDE) - room, INSIDE)
    if worst > 0:
        raise Failed(
            f"inverse(mask_probability({place:.3g})) is not {place:.3g}; fix inverse, or leave it out: it is then "
            "computed by bisection"
        )
    outer = schedule.inverse(ENDS)
    if not ((outer >= 0) & (outer <= 1)).all():
        raise Failed(f"inverse of mask probabilities 0 and 1 is {outer[0]:.3g} and {outer[1]:.3g}; clip it to 0..1")

"""Schedules against their closed forms, finite differences, quadrature and small-t series."""

import numpy as np
import pytest
from mist_bench_plugins.schedule_cosine import CosineSchedule
from mist_bench_plugins.schedule_cosine_md4 import CosineMd4Schedule
from mist_bench_plugins.schedule_cosine_squared import CosineSquaredSchedule
from mist_bench_plugins.schedule_geometric import GeometricSchedule
from mist_bench_plugins.schedule_linear import LinearSchedule
from mist_bench_plugins.schedule_linear_sigma import LinearSigmaSchedule
from mist_bench_plugins.schedule_polynomial import PolynomialSchedule

from mist_bench import Schedule

PI = 3.141592653589793


def geometric_sigma(t):
    return np.exp(np.log(1e-4) + t * (np.log(20) - np.log(1e-4)))


def linear_sigma(t):
    return 1e-3 * (1 - t) + 7.0 * t


# the table of the design, written out: schedule, alpha(t), w(t)
TABLE = [
    (LinearSchedule(), lambda t: 1 - t, lambda t: 1 / t),
    (CosineSchedule(), lambda t: np.cos(PI * t / 2), lambda t: PI / 2 * np.cos(PI * t / 4) / np.sin(PI * t / 4)),
    (
        CosineSquaredSchedule(),
        lambda t: np.cos(PI * t / 2) ** 2,
        lambda t: PI * np.cos(PI * t / 2) / np.sin(PI * t / 2),
    ),
    (CosineMd4Schedule(), lambda t: 1 - np.sin(PI * t / 2), lambda t: PI / 2 * np.cos(PI * t / 2) / np.sin(PI * t / 2)),
    (PolynomialSchedule(), lambda t: 1 - t * t, lambda t: 2 / t),
    (PolynomialSchedule(power=0.5), lambda t: 1 - np.sqrt(t), lambda t: 0.5 / t),
    (PolynomialSchedule(power=3), lambda t: 1 - t * t * t, lambda t: 3 / t),
    (
        GeometricSchedule(),
        lambda t: np.exp(-geometric_sigma(t)),
        lambda t: geometric_sigma(t) * np.log(20 / 1e-4) / (np.exp(geometric_sigma(t)) - 1),
    ),
    (
        LinearSigmaSchedule(),
        lambda t: np.exp(-linear_sigma(t)),
        lambda t: (7.0 - 1e-3) / (np.exp(linear_sigma(t)) - 1),
    ),
]
SCHEDULES = [row[0] for row in TABLE]
INSIDE = np.linspace(0.01, 0.99, 99)


def each(schedules):
    return pytest.mark.parametrize("schedule", schedules, ids=lambda s: s.spec)


@pytest.mark.parametrize(("schedule", "alpha", "weight"), TABLE, ids=lambda x: getattr(x, "spec", ""))
def test_alpha_and_weight_are_those_of_the_table(schedule, alpha, weight):
    np.testing.assert_allclose(schedule.alpha(INSIDE), alpha(INSIDE), rtol=1e-12)
    np.testing.assert_allclose(schedule.weight(INSIDE), weight(INSIDE), rtol=1e-11)


@each(SCHEDULES)
def test_boundaries_and_monotone(schedule):
    t = np.linspace(0, 1, 1001)
    alpha, m = schedule.alpha(t), schedule.mask_probability(t)
    assert alpha.dtype == m.dtype == schedule.dalpha(INSIDE).dtype == schedule.weight(INSIDE).dtype == np.float64
    assert (np.diff(alpha) < 0).all()
    assert (np.diff(m) > 0).all()
    assert (schedule.dalpha(INSIDE) < 0).all()
    np.testing.assert_allclose(alpha + m, 1, rtol=0, atol=4e-16)
    if schedule.reaches_all:
        assert m[0] == 0
        assert alpha[-1] == 0
        np.testing.assert_allclose([alpha[0], m[-1]], 1, rtol=4e-16)


def test_the_sigma_schedules_do_not_reach_all_and_say_so():
    assert [s.name for s in SCHEDULES if not s.reaches_all] == ["geometric", "linear-sigma"]
    ends = np.array([0.0, 1.0])
    np.testing.assert_allclose(GeometricSchedule().mask_probability(ends), [9.9995e-05, 1 - 2.0611536e-09], rtol=1e-7)
    np.testing.assert_allclose(LinearSigmaSchedule().mask_probability(ends), [9.995e-04, 1 - 9.1188197e-04], rtol=1e-6)


@each(SCHEDULES)
def test_derivative_against_finite_differences(schedule):
    h = 1e-6
    numeric = (schedule.alpha(INSIDE + h) - schedule.alpha(INSIDE - h)) / (2 * h)
    np.testing.assert_allclose(schedule.dalpha(INSIDE), numeric, rtol=1e-6, atol=2e-9)


@each(SCHEDULES)
def test_weight_is_minus_dalpha_over_mask_probability(schedule):
    np.testing.assert_allclose(
        schedule.weight(INSIDE), -schedule.dalpha(INSIDE) / schedule.mask_probability(INSIDE), rtol=1e-12
    )


@each(SCHEDULES)
def test_integral_of_the_weight_is_the_log_ratio_of_mask_probabilities(schedule):
    node, mass = np.polynomial.legendre.leggauss(60)
    low, high = 0.05, 0.95
    t = (low + high) / 2 + (high - low) / 2 * node
    integral = (schedule.weight(t) * mass).sum() * (high - low) / 2
    m = schedule.mask_probability(np.array([low, high]))
    assert integral == pytest.approx(np.log(m[1] / m[0]), rel=1e-10, abs=0)


@each(SCHEDULES)
def test_inverse(schedule):
    m = schedule.mask_probability(INSIDE)
    # an error of one unit in m moves t by that over m'(t)
    room = 1e-14 + 2e-15 / -schedule.dalpha(INSIDE)
    assert (np.abs(schedule.inverse(m) - INSIDE) <= room).all()
    assert (np.abs(schedule.inverse(m) - Schedule.inverse(schedule, m)) <= room).all()
    ends = schedule.mask_probability(np.array([0.0, 1.0]))
    np.testing.assert_allclose(schedule.inverse(np.array([ends[0] / 2, 0.0])), 0, atol=1e-15)
    np.testing.assert_allclose(schedule.inverse(np.array([1.0])), 1, atol=1e-7 if schedule.reaches_all else 1e-15)


SMALL = 1e-8


def of_sigma(sigma):
    """1 - exp(-sigma), in a series whose next term is below 1e-16 of the sum."""
    return sigma - sigma**2 / 2 + sigma**3 / 6


SERIES = [
    (LinearSchedule(), SMALL, 1 / SMALL),
    (CosineSchedule(), PI**2 * SMALL**2 / 8, 2 / SMALL),
    (CosineSquaredSchedule(), PI**2 * SMALL**2 / 4, 2 / SMALL),
    (CosineMd4Schedule(), PI * SMALL / 2, 1 / SMALL),
    (PolynomialSchedule(), SMALL**2, 2 / SMALL),
    (
        GeometricSchedule(sigma_min=1e-9),
        of_sigma(1e-9 * (1 + SMALL * np.log(2e10) + (SMALL * np.log(2e10)) ** 2 / 2)),
        np.log(2e10) * (1 - 0.5e-9),
    ),
    (
        LinearSigmaSchedule(sigma_min=1e-12),
        of_sigma(7 * SMALL + 1e-12),
        7 / (7 * SMALL + 1e-12) * (1 - (7 * SMALL + 1e-12) / 2),
    ),
]


@pytest.mark.parametrize(("schedule", "mask_probability", "weight"), SERIES, ids=lambda x: getattr(x, "spec", ""))
def test_no_cancellation_near_zero(schedule, mask_probability, weight):
    t = np.array([SMALL])
    np.testing.assert_allclose(schedule.mask_probability(t), mask_probability, rtol=1e-12)
    np.testing.assert_allclose(schedule.weight(t), weight, rtol=1e-11)


@each([CosineSchedule(), CosineSquaredSchedule(), CosineMd4Schedule()])
def test_no_cancellation_near_one(schedule):
    leading = {"cosine": PI / 2 * SMALL, "cosine-squared": (PI / 2 * SMALL) ** 2, "cosine-md4": PI**2 / 8 * SMALL**2}
    np.testing.assert_allclose(schedule.alpha(np.array([1 - SMALL])), leading[schedule.name], rtol=2e-8)


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (PolynomialSchedule, {"power": 0.0}),
        (PolynomialSchedule, {"power": -1.0}),
        (PolynomialSchedule, {"power": float("nan")}),
        (GeometricSchedule, {"sigma_min": 0.0}),
        (GeometricSchedule, {"sigma_min": 30.0}),
        (GeometricSchedule, {"sigma_max": float("inf")}),
        (LinearSigmaSchedule, {"sigma_max": 1e-4}),
        (LinearSigmaSchedule, {"sigma_min": -1.0}),
    ],
)
def test_wrong_parameters_are_refused_in_one_line(kind, parameters):
    with pytest.raises(ValueError, match=str(next(iter(parameters)))) as refusal:
        kind(**parameters)
    assert "\n" not in str(refusal.value)


def test_specs():
    assert PolynomialSchedule().spec == "polynomial"
    assert PolynomialSchedule(power=3.0).spec == "polynomial[power=3.0]"
    assert GeometricSchedule(sigma_max=10.0).content() == {"name": "geometric", "sigma_min": 1e-4, "sigma_max": 10.0}

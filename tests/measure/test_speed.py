"""Turns, and the coverage of intervals of speeds on twins, by a clock whose speed drifts."""

from __future__ import annotations

import random

import numpy as np
import pytest

from mist_bench.measure import speed
from mist_bench.measure.speed import Mean, Turn, around, in_turn, means, ratio
from mist_bench.measure.statistics import quantile

ROUNDS, PASSES = 5, 1000


class Machine:
    """A clock that runs by work alone: `drift` of its speed (the standard deviation of the logarithm) is forgotten within
    `memory` seconds, it becomes slower by `throttle` a second, and each round has noise of its own."""

    def __init__(self, rng, *, drift=0.0, memory=1.0, throttle=0.0, noise=0.02):
        self.rng, self.drift, self.memory, self.throttle, self.noise = rng, drift, memory, throttle, noise
        self.now, self.level = 0.0, drift * rng.normal()

    def perf_counter(self):
        return self.now

    def work(self, seconds):
        rest = np.exp(-seconds / self.memory)
        self.level = rest * self.level + self.drift * np.sqrt(1 - rest**2) * self.rng.normal()
        self.now += seconds * np.exp(self.level + self.throttle * self.now + self.noise * self.rng.normal())


def timed(monkeypatch, rng, seconds, *, bursts=False, **machine):
    """(N, R) rates of N rows that take `seconds` on a machine as it should be: all are 1 there."""
    clock = Machine(rng, **machine)
    monkeypatch.setattr(speed.time, "perf_counter", clock.perf_counter)
    turns = [Turn(run=lambda number, each=each: clock.work(each)) for each in seconds]
    order = random.Random(int(rng.integers(2**32)))
    spent = [in_turn([turn], ROUNDS)[0] for turn in turns] if bursts else in_turn(turns, ROUNDS, order=order)
    return np.array(seconds)[:, None] / np.array(spent)


def covered(monkeypatch, seconds, **how):
    """How often the interval of the ratio of the first row and the last holds 1, and that of a row the mean of all; with
    half the length of the former."""
    rng, ratios, own, wide = np.random.default_rng(3), [], [], []
    for _ in range(PASSES):
        rates = timed(monkeypatch, rng, seconds, **how)
        quotient = ratio(rates[0], rates[-1:])
        ratios.append(quotient.interval[0] <= 1 <= quotient.interval[1])
        wide.append(quotient.error * quantile(ROUNDS - 1))
        middle = np.exp(np.log(rates).mean())
        # of N twins each is nearer to their mean, by (N - 1) / N in variance, than to the truth
        nearer = np.sqrt(1 - 1 / len(rates))
        ends = [around(row.value, nearer * row.se, row.rounds) for row in means(rates)]
        own += [low <= middle <= high for low, high in ends]
    return np.mean(ratios), np.mean(own), np.mean(wide)


DRIFTS = {
    "steady": {},
    "drifting slowly": {"drift": 0.08, "memory": 200.0},
    "drifting within a pass": {"drift": 0.08, "memory": 30.0},
    "ever slower": {"throttle": 0.005},
}


@pytest.mark.parametrize("machine", DRIFTS.values(), ids=DRIFTS)
@pytest.mark.parametrize("seconds", [(1.0,) * 4, (0.1, 0.3, 2.0, 0.1)], ids=["equal", "short and long"])
def test_intervals_of_twins_hold_95_percent_of_the_time_whatever_drifts(monkeypatch, machine, seconds):
    ratios, own, _ = covered(monkeypatch, seconds, **machine)
    assert 0.93 < ratios < 0.97 and 0.93 < own < 0.97


def test_rounds_in_a_row_do_not_cover_and_turns_need_no_longer_intervals(monkeypatch):
    """The error that is held against: the same work, the same machine, the same number of rounds."""
    machine, rng = {"drift": 0.08, "memory": 200.0}, np.random.default_rng(3)
    held = []
    for _ in range(300):
        a, *_, b = (Mean.of(row, row) for row in np.log(timed(monkeypatch, rng, (1.0,) * 8, bursts=True, **machine)))
        held.append(abs(np.log(a.value / b.value)) <= quantile(ROUNDS - 1) * np.hypot(a.error, b.error))
    assert np.mean(held) < 0.7
    steady, drifting = covered(monkeypatch, (1.0,) * 8), covered(monkeypatch, (1.0,) * 8, **machine)
    assert drifting[2] < 1.5 * steady[2]


def test_a_fixed_order_would_favour_the_first(monkeypatch):
    """On a machine that becomes ever slower; in orders of their own all rows are as fast, on average."""
    rng, machine = np.random.default_rng(0), {"throttle": 0.02, "noise": 0.001}
    fixed, drawn = [], []
    for _ in range(200):
        rates = timed(monkeypatch, rng, (1.0,) * 4, **machine)
        drawn.append(np.log(rates[0] / rates[-1]).mean())
        clock = Machine(rng, **machine)
        monkeypatch.setattr(speed.time, "perf_counter", clock.perf_counter)
        first, *_, last = in_turn([Turn(run=lambda number: clock.work(1.0))] * 4, ROUNDS)  # noqa: B023
        fixed.append(np.log(np.array(last) / np.array(first)).mean())
    assert np.mean(fixed) > 0.05 and abs(np.mean(drawn)) < 0.01


def test_all_take_their_turn_in_each_round_and_prepare_outside_the_clock(monkeypatch):
    clock, calls = Machine(np.random.default_rng(0), noise=0.0), []
    monkeypatch.setattr(speed.time, "perf_counter", clock.perf_counter)

    def turn(name, seconds):
        def run(number):
            calls.append((number, name))
            clock.work(seconds)

        return Turn(run=run, prepare=lambda: clock.work(100.0))

    seconds = in_turn([turn("a", 1.0), turn("b", 2.0), turn("c", 4.0)], 6, order=random.Random(0))
    assert np.allclose(seconds, [[1.0] * 6, [2.0] * 6, [4.0] * 6])
    rounds = [[name for number, name in calls if number == each] for each in range(6)]
    assert [number for number, _ in calls] == sorted(number for number, _ in calls)
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds) and len({tuple(names) for names in rounds}) > 1


def test_a_mean_is_geometric_and_of_one_round_has_no_error():
    rates = np.array([[100.0, 400.0]])
    [mean] = means(rates)
    assert mean.value == pytest.approx(200.0) and mean.se == pytest.approx(200 * np.log(2))
    low, high = mean.interval
    assert low * high == pytest.approx(200.0**2) and high == pytest.approx(200 * np.exp(quantile(1) * np.log(2)))
    [alone] = means(rates[:, :1])
    assert (alone.value, alone.se, alone.interval) == (pytest.approx(100.0), None, None)
    assert ratio(rates[0, :1], rates[:, 1:]).interval is None


def test_what_all_rows_share_is_in_no_error():
    shared = np.array([1.0, 3.0, 0.5, 2.0])
    rates = np.array([[10.0], [70.0], [300.0]]) * shared
    for mean, speeds in zip(means(rates), (10.0, 70.0, 300.0), strict=True):
        assert mean.value == pytest.approx(speeds * 3**0.25) and mean.error == pytest.approx(0.0, abs=1e-12)
    assert ratio(rates[1], rates[:1]).value == pytest.approx(7.0)
    assert ratio(rates[2], rates[:2]).value == pytest.approx(300 / np.sqrt(700)), "against the mean of both"

"""Docs/exactness.md is up to date and true: bounds, limits and zeros against brute force in numpy."""

from functools import cache

import numpy as np
import pytest
from mist_bench_plugins.sampler_confidence import ConfidenceSampler
from mist_bench_plugins.sampler_top_k import TopKSampler
from mist_bench_plugins.schedule_cosine import CosineSchedule
from mist_bench_plugins.schedule_cosine_md4 import CosineMd4Schedule
from mist_bench_plugins.schedule_cosine_squared import CosineSquaredSchedule
from mist_bench_plugins.schedule_geometric import GeometricSchedule
from mist_bench_plugins.schedule_linear import LinearSchedule
from mist_bench_plugins.schedule_polynomial import PolynomialSchedule

from harness import ROOT
from harness.chain import WORLD, L, by_coins, law_of, truth
from mist_bench.host.registry import Registry
from mist_bench.measure.sampler_law import law_distance, total_variation
from mist_bench.pages import exactness

PAGE = (ROOT / "docs" / "exactness.md").read_text(encoding="utf-8")
REGISTRY, LINEAR = Registry.discover(), LinearSchedule()


def number(cell: str) -> float | None:
    return None if cell == "-" else float(cell)


@cache
def rows_of_the_page() -> exactness.Distances:
    """The tables of the page, read back."""
    lines = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| `")]
    said = {line[0].strip("`"): line[1:] for line in lines if line[1] in ("yes", "no")}
    bounded = {(line[0].strip("`"), int(line[1])): number(line[2]) for line in lines if line[1] not in ("yes", "no")}
    rows = {}
    for spec, schedule, steps in exactness.combinations(L):
        known = map(number, said[spec][1:]) if schedule == "linear" else [bounded[schedule, n] for n in steps]
        rows[spec, schedule] = exactness.SamplerDistances(
            spec=spec, exact_one_at_a_time=said[spec][0] == "yes", distances=dict(zip(steps, known, strict=True))
        )
    return rows


def test_the_page_is_what_the_module_writes():
    """From its own numbers: text, order of the rows, format, the bound, and what the text quotes."""
    assert exactness.page(REGISTRY, rows_of_the_page()) == PAGE


CHEAP = [(spec, "linear", (1, 2, 4) if spec in exactness.SAMPLERS else (L,))
         for spec in (*exactness.SAMPLERS, *exactness.FREE)]  # fmt: skip


@pytest.mark.parametrize(("spec", "schedule", "steps"), [
    *CHEAP, ("random", "linear", (16,)), ("random", "cosine", (4, 16)), ("random", "cosine-md4", (16,)),
    ("confidence", "linear", (256,)), ("margin", "linear", (64,)), ("pc", "linear", (16,)),
], ids=lambda x: x if isinstance(x, str) else "")  # fmt: skip
def test_the_numbers_of_the_page_are_those_of_the_code(spec, schedule, steps):
    sampler, made = REGISTRY.make("sampler", spec), REGISTRY.make("schedule", schedule)
    found, said = exactness.distances_of(sampler, made, steps, WORLD), rows_of_the_page()[spec, schedule]
    assert [exactness.shown(d) for d in found.distances.values()] == [exactness.shown(said.distances[n]) for n in steps]
    assert found.exact_one_at_a_time == said.exact_one_at_a_time


def test_no_built_in_sampler_is_left_out():
    own = [n for n in REGISTRY.names("sampler") if REGISTRY.origin("sampler", n).distribution == "mist-bench"]
    assert {spec.partition("[")[0] for spec in (*exactness.SAMPLERS, *exactness.FREE)} == set(own)
    for group, uses in ((exactness.SAMPLERS, True), (exactness.FREE, False)):
        made = [REGISTRY.make("sampler", spec) for spec in group]
        assert [s.spec for s in made] == list(group) and {s.uses_steps for s in made} == {uses}


def test_who_declares_to_be_exact_is_and_nobody_else_who_keeps_to_steps():
    for (spec, _), row in rows_of_the_page().items():
        if None not in row.distances.values():
            far = [d for n, d in row.distances.items() if n >= L]
            assert (max(far) == 0) == row.exact_one_at_a_time, spec


# ---- `random`: laws by coins in numpy, with chances from alpha written here


def distance_by_coins(schedule, steps: int) -> float:
    alpha = np.array([float(schedule.alpha(np.array(1 - j / steps))) for j in range(steps + 1)])
    alpha[0], alpha[-1] = 0.0, 1.0
    return total_variation(by_coins([(b - a) / (1 - a) for a, b in zip(alpha, alpha[1:], strict=False)]), truth())


SCHEDULES = [LINEAR, CosineSchedule(), CosineSquaredSchedule(), CosineMd4Schedule(), PolynomialSchedule(),
             GeometricSchedule()]  # fmt: skip


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.spec)
def test_random_is_within_its_bound_at_any_number_of_steps(schedule):
    for steps in (1, 2, 3, 4, 6, 10, 16, 40, 64, 256):
        distance, most = distance_by_coins(schedule, steps), exactness.bound(schedule, steps, L)
        # some eight or nine times what happens here; from below too, so that a bound that says nothing fails
        assert most / 12 < distance < min(1.0, most)


def test_under_linear_the_bound_is_what_the_page_says():
    for steps in (1, 4, 16, 64, 256):
        for length in (2, 4, 64):
            assert exactness.bound(LINEAR, steps, length) == pytest.approx(length * (length - 1) / (2 * steps))


@pytest.mark.parametrize("schedule", SCHEDULES[:4], ids=lambda s: s.spec)
def test_the_error_of_random_is_of_first_order(schedule):
    distances = [distance_by_coins(schedule, steps) for steps in (64, 128, 256, 512)]
    np.testing.assert_allclose(np.divide(distances[:-1], distances[1:]), 2, rtol=0.02)


def test_random_on_the_page_is_the_law_by_coins():
    for n, distance in rows_of_the_page()["random", "linear"].distances.items():
        assert exactness.shown(distance_by_coins(LINEAR, n)) == exactness.shown(distance)


# ---- those that look at the drawn token


@pytest.mark.parametrize("sampler", [ConfidenceSampler(), TopKSampler()], ids=lambda s: s.spec)
def test_more_steps_never_make_the_drawn_token_a_fair_choice(sampler):
    at_length = law_of(sampler, LINEAR, L)
    for steps in (16, 256):
        assert total_variation(law_of(sampler, LINEAR, steps), at_length) < 1e-6
    assert law_distance(sampler, LINEAR, 256, WORLD) > 0.5 > law_distance(sampler, LINEAR, 2, WORLD)


def test_what_is_shown():
    assert [exactness.shown(x) for x in (None, 0.0, 9e-7, 0.0030642, 0.52277, 1.5)] == [
        "-",
        "0",
        "0",
        "0.00306",
        "0.523",
        "1.5",
    ]

"""Exact laws on a small skewed chain against brute force in numpy, which shares no code with samplers or laws."""

from itertools import product

import numpy as np
import pytest
from mist_bench_plugins.corpus_markov import MarkovCorpus
from mist_bench_plugins.sampler_autoregressive import AutoregressiveSampler
from mist_bench_plugins.sampler_confidence import ConfidenceSampler
from mist_bench_plugins.sampler_entropy import EntropySampler
from mist_bench_plugins.sampler_first_hitting import FirstHittingSampler
from mist_bench_plugins.sampler_margin import MarginSampler
from mist_bench_plugins.sampler_random import RandomSampler
from mist_bench_plugins.sampler_top_k import TopKSampler
from mist_bench_plugins.schedule_cosine import CosineSchedule
from mist_bench_plugins.schedule_geometric import GeometricSchedule

from harness.chain import LINEAR, WORLD, S, brute_force, by_coins, law_of, truth
from harness.rules import L
from mist_bench import Count, ScoreSampler, UserError
from mist_bench.measure.sampler_law import law_distance, total_variation


def by_drawn_probability(counts):
    """MaskGIT and LLaDA: draw all, keep the `counts[step]` with the highest p(x̂), the leftmost of equals."""

    def outcomes(step, masked, p):
        for values in product(range(S), repeat=len(masked)):
            x = dict(zip(masked, values, strict=True))
            score = {i: p[i, x[i]] for i in masked}
            gaps = [abs(score[i] - score[j]) for i in masked for j in masked]
            # what float32 could order otherwise would make the law ill-defined; exact ties are exact there too
            assert all(gap < 1e-13 or gap > 1e-5 for gap in gaps)
            order = sorted(masked, key=lambda i: (-round(score[i], 12), i))
            yield {i: x[i] for i in order[: counts[step]]}, np.prod(list(score.values()))

    return outcomes


EXACT = [
    FirstHittingSampler(),
    AutoregressiveSampler(),
    MarginSampler(),
    EntropySampler(),
    ConfidenceSampler(score="max"),
]


@pytest.mark.parametrize("sampler", EXACT, ids=lambda s: s.spec)
def test_one_position_a_step_chosen_before_the_draw_is_exact(sampler):
    assert sampler.exact_one_at_a_time
    law = law_of(sampler, LINEAR, L)
    assert np.abs(law - truth()).max() < 1e-6
    assert total_variation(law, truth()) < 1e-5


@pytest.mark.parametrize("sampler", EXACT[2:], ids=lambda s: s.spec)
def test_two_positions_a_step_are_not_exact(sampler):
    assert law_distance(sampler, LINEAR, L // 2, WORLD) > 0.1


@pytest.mark.parametrize(
    ("sampler", "steps", "counts"),
    [
        (ConfidenceSampler(), 4, [1, 1, 1, 1]),
        (ConfidenceSampler(), 2, [2, 2]),
        (TopKSampler(), 4, [1, 1, 1, 1]),
        (TopKSampler(), 3, [2, 1, 1]),
        (TopKSampler(), 9, [1, 1, 1, 1]),
    ],
    ids=lambda x: getattr(x, "spec", None),
)
def test_ordering_by_the_drawn_token_has_its_own_law_and_it_is_not_the_truth(sampler, steps, counts):
    own = brute_force(len(counts), by_drawn_probability(counts))
    assert not sampler.exact_one_at_a_time
    assert total_variation(law_of(sampler, LINEAR, steps), own) < 1e-5
    assert total_variation(own, truth()) > 0.35


def test_law_distance_is_the_total_variation_to_the_truth():
    own = brute_force(4, by_drawn_probability([1, 1, 1, 1]))
    distance = law_distance(ConfidenceSampler(), LINEAR, 4, WORLD)
    assert distance == pytest.approx(total_variation(own, truth()), abs=1e-5)
    assert distance == pytest.approx(0.5228, abs=1e-4)


def test_random_is_exact_only_in_the_limit():
    distances = []
    for steps in (4, 16, 64):
        own = by_coins([1 / (steps - j) for j in range(steps)])
        law = law_of(RandomSampler(), LINEAR, steps)
        assert total_variation(law, own) < 1e-5
        distances.append(total_variation(law, truth()))
        assert distances[-1] < L * (L - 1) / (2 * steps)
    # the error is of first order in 1 / steps: four times the steps, a quarter of it
    assert distances[0] > 0.15
    np.testing.assert_allclose([distances[0] / distances[1], distances[1] / distances[2]], 4, rtol=0.05)


def test_random_under_another_schedule():
    steps = 4
    alpha = [np.cos(np.pi / 2 * (1 - j / steps)) for j in range(steps + 1)]
    alpha[0], alpha[-1] = 0.0, 1.0
    chances = [(alpha[j + 1] - alpha[j]) / (1 - alpha[j]) for j in range(steps)]
    law = law_of(RandomSampler(), CosineSchedule(), steps)
    assert total_variation(law, by_coins(chances)) < 1e-5
    assert total_variation(law, truth()) < L * (L - 1) / 2 * np.sum(np.diff(alpha) ** 2)


def test_a_schedule_that_does_not_reach_all_is_brought_to_its_ends():
    half = np.exp(-np.sqrt(1e-4 * 20))  # alpha(1/2)
    assert total_variation(law_of(RandomSampler(), GeometricSchedule(), 2), by_coins([half, 1.0])) < 1e-5


@pytest.mark.parametrize("temperature", [0.5, 0.0])
def test_temperature_is_applied_to_the_proposal(temperature):
    def next_token(step, masked, p):
        i = masked[0]
        q = p[i] ** (1 / temperature) if temperature else (np.arange(S) == p[i].argmax()) * 1.0
        return [({i: a}, q[a] / q.sum()) for a in range(S)]

    law = law_of(AutoregressiveSampler(), LINEAR, 1, temperature=temperature)
    assert total_variation(law, brute_force(L, next_token)) < 1e-5
    assert total_variation(law, truth()) > 0.1


class Remembers(MarginSampler):
    def initial_state(self, batch, length):
        return {"seen": object()}


def test_what_is_too_large_or_continuous_or_remembers_has_no_law():
    assert law_distance(ConfidenceSampler(noise=1.0), LINEAR, 4, WORLD) is None
    assert law_distance(MarginSampler(), LINEAR, 4, MarkovCorpus(length=12).oracle()) is None
    assert law_distance(Remembers(), LINEAR, 4, WORLD) is None


class Nothing(Count):
    def of(self, view, score):
        return view.to_fill.zeros_like()


class RevealsNothing(ScoreSampler):
    name = "reveals-nothing"
    count = Nothing()

    def scores(self, view):
        return view.margin


def test_masks_that_stay_are_an_error():
    with pytest.raises(UserError, match="'reveals-nothing' leaves positions masked after its last step"):
        law_distance(RevealsNothing(), LINEAR, 1, WORLD)


def test_total_variation():
    assert total_variation(np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.25, 0.5])) == pytest.approx(0.5)

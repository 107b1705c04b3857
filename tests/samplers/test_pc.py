"""`pc` and the token frequencies that it needs: one-step and whole laws, far positions, and the frequency table."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from mist_bench_plugins.sampler_pc import PcSampler

from harness.brute_force import BATCH, assert_counts_follow
from harness.chain import LINEAR, WORLD, S, brute_force, law_of, truth
from harness.experiments import bench_of, experiment
from harness.rules import MASK, L, V, assert_same_law, best, ids, scheduled, situation
from harness.runs import FREQUENCIES, SMALL
from mist_bench.host.presets import load_preset, override
from mist_bench.host.registry import Registry
from mist_bench.inference.generate import SamplerGraph
from mist_bench.measure.sampler_law import law_distance, sampler_law, total_variation
from mist_bench.measure.start import Start, view_of


def score(sampler, i, p, x):
    """As the paper writes it."""
    return round(np.exp(-sampler.strength * i) * min(-p * np.log(FREQUENCIES[x]), sampler.alpha), 12)


def rule(sampler):
    def revealed(places, p, x, numbers):
        own = {i: score(sampler, i, p[i, x[i]], x[i]) for i in places}
        return [(best(places, own, scheduled(len(places), numbers)), 1.0)]

    return revealed


SAMPLERS = [PcSampler(), PcSampler(strength=0.0), PcSampler(strength=1.0, alpha=0.5), PcSampler(strength=0.0, alpha=0.3)]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=ids)
@pytest.mark.parametrize(("step", "steps", "last"), [(0, 3, False), (1, 3, False), (2, 3, True)])
def test_one_step_law_is_the_rule(sampler, step, steps, last):
    start, numbers = situation(step, steps, last=last)
    assert_same_law(sampler, rule(sampler), replace(start, frequencies=FREQUENCIES), numbers)


def test_far_positions_are_told_apart():
    """exp(-0.25 * 500) is 0 in float32; the position before counts 1.28 times as much, not twice."""
    length, places = 512, [500, 501]
    tokens = np.zeros((2, length), dtype=int)
    tokens[:, places] = MASK
    p = np.full((2, length, V), 0.25)
    p[0, places, 1], p[1, places, 1] = [0.4, 0.8], [0.4, 0.45]
    start = Start(
        tokens=tokens, free=tokens == MASK, log_probabilities=np.log(p), to_fill=np.array([2, 2]),
        target_masked=np.array([1, 1]), reveal_probability=np.ones(2), alpha_t=np.zeros(2), alpha_s=np.ones(2), step=0,
        steps=2, last=False, frequencies=FREQUENCIES,
    )  # fmt: skip
    view = view_of(PcSampler(), start, np.arange(2), np.ones((2, length), dtype=int), np.full((2, length), 0.5))
    after = PcSampler().step(view, {})[0].numpy()
    assert after[:, places].tolist() == [[MASK, 1], [1, MASK]]


def counts_of(steps):
    left = [int(np.floor(L * (1 - j / steps) + 0.5 + 1e-9)) for j in range(steps + 1)]
    return [a - b for a, b in zip(left, left[1:], strict=False)]


@pytest.mark.parametrize("steps", [4, 2])
def test_the_law_of_a_whole_run(steps):
    sampler, counts = PcSampler(strength=0.5), counts_of(steps)

    def outcomes(step, masked, p):
        for values in product(range(S), repeat=len(masked)):
            x = dict(zip(masked, values, strict=True))
            own = {i: score(sampler, i, p[i, x[i]], x[i]) for i in masked}
            yield {i: x[i] for i in best(masked, own, counts[step])}, np.prod([p[i, x[i]] for i in masked])

    own = brute_force(steps, outcomes)
    law = law_of(sampler, LINEAR, steps, frequencies=FREQUENCIES)
    assert total_variation(law, own) < 1e-5 < total_variation(own, truth())
    distance = law_distance(sampler, LINEAR, steps, WORLD, frequencies=FREQUENCIES)
    assert distance == pytest.approx(total_variation(own, truth()), abs=1e-5)


def test_what_the_device_draws_follows_the_law_of_its_own():
    sampler = PcSampler()
    law = law_of(sampler, LINEAR, 2, frequencies=FREQUENCIES)
    assert_counts_follow(SMALL.counts(sampler, 8192, steps=2), law)


def test_without_frequencies_it_has_no_law_and_no_graph():
    assert sampler_law(PcSampler(), LINEAR, 2, WORLD.log_posterior, L, V) is None
    with pytest.raises(TypeError, match="'pc' needs the frequencies of tokens"):
        SamplerGraph(PcSampler(), BATCH, L, MASK)


def test_the_frequencies_are_those_of_the_train_split_of_each_corpus(tmp_path):
    registry = Registry.discover()
    tables = []
    for corpus in ("markov", "markov[skew=0.5]"):
        config = override(load_preset("smoke"), corpus=corpus, tokenizer="word", families="oracle", samplers="pc,margin")
        bench = bench_of(experiment(config), tmp_path)
        train = np.asarray(bench.dataset.train.tokens)
        expected = [((train == v).sum() + 1) / (train.size + V) for v in range(V)]
        table = bench.sampler_graph(PcSampler()).log_frequency.numpy().ravel()
        np.testing.assert_allclose(table, np.log(expected), rtol=1e-6)
        assert bench.sampler_graph(registry.make("sampler", "margin")).log_frequency is None
        tables.append(table)
    assert not np.array_equal(*tables)


@pytest.mark.parametrize("wrong", [{"strength": -0.1}, {"strength": float("inf")}, {"alpha": 0.0}, {"alpha": float("nan")}])
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} is "):
        PcSampler(**wrong)

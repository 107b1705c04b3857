"""The loop around samplers: fixed tokens, batches, the last step, and the law of a whole run on the device."""


import numpy as np
import pytest
from mist_bench_plugins.corpus_markov import world
from mist_bench_plugins.family_oracle import OracleModel
from mist_bench_plugins.sampler_random import RandomSampler
from mist_bench_plugins.schedule_cosine import CosineSchedule
from mist_bench_plugins.schedule_geometric import GeometricSchedule
from mist_bench_plugins.schedule_linear import LinearSchedule

from harness.brute_force import BATCH, WORLD, L
from harness.chain import truth
from harness.runs import SMALL
from mist_bench.engine.graph import captured as captured_graphs
from mist_bench.host.registry import Registry
from mist_bench.inference.generate import SamplerGraph, generate
from mist_bench.inference.masked import MaskedEvaluator
from mist_bench.inference.timetable import timetable

MASK = SMALL.mask
SAMPLERS = [
    "random", "first-hitting", "confidence", "confidence[score=max]", "confidence[noise=1.0]", "top-k", "margin",
    "entropy", "autoregressive",
]  # fmt: skip


@pytest.mark.parametrize("spec", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 3, 4, 9])
def test_nothing_stays_masked(spec, steps):
    made, nfe = SMALL(spec, steps=steps)
    assert (made < 3).all()
    assert (nfe == SMALL.graph(spec).sampler.nfe(steps, L)).all()


@pytest.mark.parametrize("spec", SAMPLERS)
def test_fixed_tokens_are_kept_anywhere(spec):
    rng = np.random.default_rng(0)
    text, fixed = WORLD.sample(BATCH, rng), rng.random((BATCH, L)) < 0.5
    made, _ = SMALL(spec, np.where(fixed, text, MASK).astype(np.int32))
    assert np.array_equal(made[fixed], text[fixed])
    assert (made < 3).all()


@pytest.mark.parametrize("spec", SAMPLERS)
def test_a_sequence_is_the_same_in_any_batch(spec):
    shuffled = np.random.default_rng(0).permutation(BATCH)
    first, second = SMALL(spec, seed=5)[0], SMALL(spec, seed=5, ids=shuffled)[0]
    assert np.array_equal(first[shuffled], second)
    assert not np.array_equal(first, SMALL(spec, seed=6)[0])


def test_first_hitting_samples_the_truth():
    """A chi-square over all 81 texts from 8192 samples of an exact sampler."""
    counts = SMALL.counts("first-hitting", 8192)
    expected = truth() * counts.sum()
    large = expected > 5
    chi_square = ((counts - expected)[large] ** 2 / expected[large]).sum()
    freedom = large.sum()
    assert chi_square < freedom + 4.5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("schedule", [LinearSchedule(), CosineSchedule(), GeometricSchedule()])
def test_timetable_reveals_all_at_the_last_step(schedule):
    plan = timetable(RandomSampler(), schedule, 5, np.array([4, 3]), np.full((2, 4), 0.5))
    reveal, alpha_t, alpha_s, stay = plan.reveal_probability, plan.alpha_t, plan.alpha_s, plan.target_masked
    assert len(plan) == 5 and {x.shape for x in (plan.t, reveal, alpha_t, alpha_s, stay)} == {(5, 2)}
    assert (alpha_t[0] == 0).all() and (alpha_s[-1] == 1).all() and (reveal[-1] == 1).all()
    assert (stay[-1] == 0).all() and (np.diff(stay, axis=0) <= 0).all()
    inside = (alpha_s - alpha_t)[:-1] / (1 - alpha_t[:-1])
    np.testing.assert_allclose(reveal[:-1], inside, atol=1e-12)


def test_timetable_counts_are_rounded_half_up():
    plan = timetable(RandomSampler(), LinearSchedule(), 5, np.array([4, 3, 8]), np.full((3, 8), 0.5))
    # m(s) = 0.8, 0.6, 0.4, 0.2, 0
    assert plan.target_masked.T.tolist() == [[3, 2, 2, 1, 0], [2, 2, 1, 1, 0], [6, 5, 3, 2, 0]]
    halves = timetable(RandomSampler(), LinearSchedule(), 2, np.array([1, 3, 5, 7]), np.full((4, 8), 0.5))
    assert halves.target_masked[0].tolist() == [1, 2, 3, 4]


def test_one_graph_serves_every_step_count():
    before = len(captured_graphs)
    SMALL("random", steps=2)
    captured = len(captured_graphs)
    for steps in (3, 7, 20):
        SMALL("random", steps=steps, schedule=CosineSchedule(), temperature=0.7)
    assert len(captured_graphs) == captured <= before + 2
    assert SMALL.graph("random").graph.kernels > 0


def test_watch_sees_each_step():
    seen = []
    SMALL("confidence", watch=lambda step, tokens, guesses: seen.append((step, (tokens == MASK).mean())))
    assert seen == [(0, 1.0), (1, 0.75), (2, 0.5), (3, 0.25)]


@pytest.mark.parametrize("spec", ["random", "first-hitting", "remdm", "threshold"])
def test_replays_over_standing_buffers_change_no_token(spec, monkeypatch):
    """Two networks with one sampler, in turn: the same as when tinygrad checks every input of every call."""
    found = []
    for looks in (True, False):
        with monkeypatch.context() as patch:
            if looks:
                patch.setattr("mist_bench.engine.replay.replay", lambda captured, inputs: None)
            graph = SamplerGraph(Registry.discover().make("sampler", spec), BATCH, L, MASK)
            first, second = (MaskedEvaluator("oracle", OracleModel(world(3, 4, c)), BATCH) for c in (1.2, 0.3))
            made = [generate(asked, graph, LinearSchedule(), 4, SMALL.empty, seed=seed, sequences=np.arange(BATCH),
                             temperature=1.0) for seed in (1, 2) for asked in (first, second)]  # fmt: skip
            assert {known is None for known in graph.graph._replays.values()} == {looks}
            assert len(graph.graph._replays) == 2
        found.append(made)
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])
    assert (found[0][0][0] != found[0][1][0]).any() and (found[0][0][0] != found[0][2][0]).any()

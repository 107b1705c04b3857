"""The transformer and its families: what each may see, equal parameters, the cache, one bound for all conditions."""

from functools import cache

import numpy as np
import pytest
from mist_bench_plugins.family_autoregressive import AutoregressiveFamily, matched_feed_forward
from mist_bench_plugins.family_mdlm import MdlmFamily
from mist_bench_plugins.sampler_autoregressive import AutoregressiveSampler
from tinygrad import Tensor

from mist_bench import NetworkSize
from mist_bench.config import load_preset, preset_names
from mist_bench.evaluation import CausalEvaluator, MaskedEvaluator

SIZE = NetworkSize(dim=16, layers=1, heads=2, feed_forward=32, conditioning_dim=16)
V, L, B = 5, 6, 4
TOKENS = np.random.default_rng(0).integers(0, V, (B, L)).astype(np.int32)
MASKED = np.array([[1, 0, 1, 0, 1, 1], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1], [0, 1, 0, 0, 0, 0]], dtype=bool)


def shaken(model):
    """A fresh network says the same everywhere through its zero-started norms; shake all parameters."""
    rng = np.random.default_rng(1)
    for tensor in model.parameters.values():
        tensor.assign(Tensor(rng.normal(size=tensor.shape).astype(np.float32) * 0.3)).realize()
    return model


@cache
def masked_model(conditioning="fraction", self_conditioning=False):
    family = MdlmFamily(conditioning=conditioning, self_conditioning=self_conditioning)
    return shaken(family.create(SIZE, V, L, 0, None))


@cache
def causal():
    return CausalEvaluator(
        "test", shaken(AutoregressiveFamily().create(SIZE, V, L, 0, None)), B, AutoregressiveSampler()
    )


def answers(model, tokens, t=0.5):
    return model.log_probabilities(Tensor(tokens), Tensor(np.full(len(tokens), t, dtype=np.float32))).numpy()


def test_subs_parameterization():
    seen = np.where(MASKED, V, TOKENS).astype(np.int32)
    p = np.exp(answers(masked_model(), seen))
    assert p.shape == (B, L, V)
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(p[~MASKED], np.eye(V)[TOKENS[~MASKED]])


@pytest.mark.parametrize(("conditioning", "changes"), [("fraction", False), ("none", False), ("time", True)])
def test_only_time_conditioning_looks_at_t(conditioning, changes):
    seen = np.where(MASKED, V, TOKENS).astype(np.int32)
    first, second = (answers(masked_model(conditioning), seen, t) for t in (0.2, 0.9))
    assert (np.abs(first - second).max() > 1e-4) == changes


def test_a_causal_model_sees_only_what_came_before():
    changed = TOKENS.copy()
    changed[:, 3:] = (changed[:, 3:] + 1) % V
    model = causal().model
    first, second = (model.log_probabilities(Tensor(x)).numpy() for x in (TOKENS, changed))
    np.testing.assert_allclose(first[:, :4], second[:, :4], atol=1e-6)
    assert np.abs(first[:, 4:] - second[:, 4:]).max() > 1e-3


def test_the_cached_likelihood_is_the_parallel_one():
    model = causal().model
    parallel = model.log_probabilities(Tensor(TOKENS)).numpy()
    expected = np.take_along_axis(parallel, TOKENS[:, :, None], axis=2)[:, :, 0]
    np.testing.assert_allclose(causal().log_probability(TOKENS), expected, atol=1e-5)
    cache = model.new_cache(B)
    for i in range(L):
        place = causal().place.bind(i)
        cached = model.next_log_probabilities(Tensor(TOKENS), place, cache).numpy()[:, 0]
        np.testing.assert_allclose(cached, parallel[:, i], atol=1e-5)


def test_causal_generation_keeps_fixed_tokens_and_follows_the_chain():
    prompt = np.full((B, L), V, dtype=np.int32)
    prompt[:, :2] = TOKENS[:, :2]
    greedy = causal().generate(prompt, 0, np.arange(B), 0.0)
    assert np.array_equal(greedy[:, :2], TOKENS[:, :2])
    expected = prompt.copy()
    for i in range(2, L):
        known = np.where(expected == V, 0, expected).astype(np.int32)
        expected[:, i] = causal().model.log_probabilities(Tensor(known)).numpy()[:, i].argmax(-1)
    assert np.array_equal(greedy, expected)


def test_causal_samples_belong_to_their_number():
    empty = np.full((B, L), V, dtype=np.int32)
    first = causal().generate(empty, 7, np.array([0, 1, 2, 3]), 1.0)
    second = causal().generate(empty, 7, np.array([3, 9, 0, 5]), 1.0)
    assert np.array_equal(first[[0, 3]], second[[2, 0]])
    assert not np.array_equal(first, causal().generate(empty, 8, np.array([0, 1, 2, 3]), 1.0))


@pytest.mark.parametrize("preset", preset_names())
def test_families_have_equal_parameters(preset):
    size = load_preset(preset).model.size()
    d, c, n = size.dim, size.conditioning_dim, size.layers
    mdlm = n * (4 * d * d + 2 * d * size.feed_forward) + 64 * c + c * c + (2 * n + 1) * c * 2 * d
    baseline = n * (4 * d * d + 2 * d * matched_feed_forward(size)) + (2 * n + 1) * d
    assert abs(baseline / mdlm - 1) < 0.01


def test_counted_parameters_are_the_formula():
    d, c, n = SIZE.dim, SIZE.conditioning_dim, SIZE.layers
    expected = n * (4 * d * d + 2 * d * SIZE.feed_forward) + 64 * c + c * c + (2 * n + 1) * c * 2 * d
    assert masked_model().parameter_count() == expected
    assert abs(causal().model.parameter_count() / expected - 1) < 0.01


def test_self_conditioning_is_told_its_last_answer():
    model = masked_model("fraction", True)
    evaluator = MaskedEvaluator("test", model, B)
    seen = np.where(MASKED, V, TOKENS).astype(np.int32)
    given = Tensor(seen)
    empty = evaluator.no_condition()[0]
    first = model.log_probabilities(given, Tensor.zeros(B), empty).numpy()
    np.testing.assert_allclose(first, model.log_probabilities(given, Tensor.zeros(B)).numpy(), atol=1e-5)
    told = model.condition(Tensor(first))
    second = model.log_probabilities(given, Tensor.zeros(B), told).numpy()
    assert np.abs(first - second)[MASKED].max() > 1e-3

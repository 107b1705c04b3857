"""The transformer against itself written again in float64 numpy; what each family may see; equal parameters."""

from dataclasses import replace

import numpy as np
import pytest
from mist_bench_plugins.family_autoregressive import AutoregressiveFamily
from mist_bench_plugins.family_mdlm import CONDITIONING, MdlmFamily
from tinygrad import Tensor, dtypes

from harness.answers import answers
from harness.brute_force import (
    BATCH,
    MASKS,
    SIZE,
    TEXTS,
    L,
    S,
    carried,
    causal,
    causal_answer,
    masked,
    masked_answer,
    network,
    of_tokens,
    placed,
    put,
    told_last,
)
from mist_bench import NetworkSize
from mist_bench.host.presets import load_preset, preset_names
from mist_bench.inference.causal import CausalEvaluator
from mist_bench.inference.masked import MaskedEvaluator
from mist_bench.inference.step import on_device
from mist_bench.network import initial
from mist_bench.network import transformer as network_module
from mist_bench.network.activations import ACTIVATIONS
from mist_bench.network.width import body_parameters

RNG = np.random.default_rng(0)
CLEAN = TEXTS[RNG.integers(0, len(TEXTS), BATCH)]
HIDDEN = MASKS[np.arange(BATCH) % len(MASKS)]
SEEN = np.where(HIDDEN, S, CLEAN)
TIMES = RNG.integers(1, 64, BATCH) / 64  # so that 1000 t, the largest angle, is exact in float32
PROPOSAL, WHOLE, CONDITION = "proposal", "log_probabilities", "condition"


def answer(evaluator, tokens, t, previous=None) -> dict[str, np.ndarray]:
    """Everything that the graph gives; (B, L) tokens with masks."""
    return answers(evaluator, tokens, CLEAN, t=t, previous=previous)


def assert_same(found, values, seen, t=None, extra=0.0) -> None:
    truth = carried(masked_answer(values, seen, t, extra), seen)
    # 1000 t times a rounded frequency: the angle is that much off
    np.testing.assert_allclose(found, truth, rtol=0, atol=1e-5 if t is None else 5e-5)


def test_the_masked_network_is_the_formula():
    evaluator, values = masked()
    assert_same(answer(evaluator, SEEN, TIMES)[WHOLE], values, SEEN)


def test_subs_the_mask_is_never_predicted_and_seen_tokens_carry_over():
    p = np.exp(answer(masked()[0], SEEN, TIMES)[WHOLE].astype(np.float64))
    assert p.shape == (BATCH, L, S)  # no column for the mask
    np.testing.assert_allclose(p.sum(axis=-1), 1, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(p[~HIDDEN], np.eye(S)[CLEAN[~HIDDEN]])
    assert (p[HIDDEN] > 0).all()


def test_proposals_carry_over_what_is_seen():
    proposal = answer(masked()[0], SEEN, TIMES)[PROPOSAL]
    np.testing.assert_array_equal(proposal[~HIDDEN], CLEAN[~HIDDEN])
    assert set(proposal[HIDDEN]) == set(range(S))


def test_the_masked_fraction_is_what_the_default_is_told_and_not_t():
    evaluator, values = masked()
    first, second = (answer(evaluator, SEEN, t)[WHOLE] for t in (TIMES, 1 - TIMES))
    np.testing.assert_array_equal(first, second)
    # were it told t, the formula would give something else
    assert np.abs(masked_answer(values, SEEN) - masked_answer(values, SEEN, TIMES))[HIDDEN].max() > 0.01


def test_time_conditioning_is_told_t():
    evaluator, values = told_last()
    for t in (TIMES, 1 - TIMES):
        assert_same(answer(evaluator, SEEN, t)[WHOLE], values, SEEN, t)
    assert np.abs(masked_answer(values, SEEN, TIMES) - masked_answer(values, SEEN, 1 - TIMES))[HIDDEN].max() > 0.01


def test_no_conditioning_is_told_nothing():
    model, values = network(MdlmFamily(conditioning="none"))
    assert not any(name.startswith("time") for name in values)
    few = slice(0, 16)
    found = model.log_probabilities(Tensor(SEEN[few].astype(np.int32)), Tensor(TIMES[few].astype(np.float32))).numpy()
    assert_same(found, values, SEEN[few])


def test_a_masked_model_does_not_see_what_is_hidden():
    evaluator, _ = masked()
    other = np.where(HIDDEN, (CLEAN + 1) % S, CLEAN)
    # the whole answer at the tokens of both texts, when only the hidden ones differ
    own, whole = answer(evaluator, SEEN, TIMES)["target"], answer(evaluator, SEEN, TIMES)[WHOLE]
    for text in (CLEAN, other):
        found = evaluator.target_log_probability(text, HIDDEN, TIMES)
        np.testing.assert_array_equal(found, np.where(HIDDEN, of_tokens(whole, text), 0.0))
    np.testing.assert_array_equal(own, of_tokens(whole, CLEAN))
    # and a seen token does matter
    changed = np.where(HIDDEN, SEEN, (SEEN + 1) % S)
    some = HIDDEN.any(axis=1) & ~HIDDEN.all(axis=1)
    assert np.abs(answer(evaluator, changed, TIMES)[WHOLE] - whole)[some[:, None] & HIDDEN].max() > 0.01


def test_self_conditioning_is_told_its_last_answer():
    evaluator, values = told_last()
    first = answer(evaluator, SEEN, TIMES)
    truth = carried(masked_answer(values, SEEN, TIMES), SEEN)
    told = np.exp(truth) @ values["tokens"][:S]
    np.testing.assert_allclose(first[CONDITION], told, rtol=0, atol=1e-5)
    second = answer(evaluator, SEEN, TIMES, first[CONDITION])
    assert_same(second[WHOLE], values, SEEN, TIMES, told @ values["condition"])
    assert np.abs(second[WHOLE] - first[WHOLE])[HIDDEN].max() > 0.01


def test_the_bound_of_a_self_conditioned_model_is_taken_with_the_empty_condition():
    evaluator, values = told_last()
    answer(evaluator, SEEN, TIMES, np.ones((BATCH, L, SIZE.dim)))  # must not leave anything behind
    found = evaluator.target_log_probability(CLEAN, HIDDEN, TIMES)
    truth = of_tokens(masked_answer(values, SEEN, TIMES), CLEAN)
    np.testing.assert_allclose(found, np.where(HIDDEN, truth, 0.0), rtol=0, atol=1e-5)


# ---- causal


def test_the_causal_network_is_the_formula():
    evaluator, values = causal()
    truth = of_tokens(causal_answer(values, CLEAN), CLEAN)
    np.testing.assert_allclose(evaluator.log_probability(CLEAN), truth, rtol=0, atol=1e-5)


def cached_answer(tokens) -> np.ndarray:
    """(B, L, V) through the key-value cache of the graph that generates: the drawn token's law at each place."""
    evaluator, _ = causal()
    model = evaluator.model
    cache, now = model.new_cache(len(tokens)), on_device(tokens, np.int32)
    places = [evaluator.position.bind(i) for i in range(L)]
    return np.concatenate([model.next_log_probabilities(now, place, cache).numpy() for place in places], axis=1)


def test_the_cached_law_is_the_parallel_one():
    np.testing.assert_allclose(cached_answer(CLEAN), causal_answer(causal()[1], CLEAN), rtol=0, atol=1e-5)


def test_a_causal_model_sees_only_what_came_before():
    evaluator, values = causal()
    changed = CLEAN.copy()
    changed[:, 2:] = (changed[:, 2:] + 1) % S
    first, second = evaluator.log_probability(CLEAN), evaluator.log_probability(changed)
    np.testing.assert_array_equal(first[:, :2], second[:, :2])
    # also at the changed place: what differs there is only the token that is asked for
    truth = of_tokens(causal_answer(values, CLEAN), changed)
    np.testing.assert_allclose(second[:, 2], truth[:, 2], rtol=0, atol=1e-5)
    assert np.abs(second[:, 3] - truth[:, 3]).max() > 0.01


def test_greedy_causal_generation_follows_the_cached_law_and_keeps_fixed_tokens():
    evaluator, values = causal()
    prompt = np.where(np.arange(L) < 1, CLEAN, S)
    prompt[:100, 2] = CLEAN[:100, 2]  # also fixed: one in the middle, which generation must read
    expected = prompt.copy()
    for i in range(L):
        law = causal_answer(values, np.where(expected == S, 0, expected))[:, i]
        expected[:, i] = np.where(prompt[:, i] == S, law.argmax(axis=1), prompt[:, i])
    made, used = evaluator.generate(prompt, 0, np.arange(BATCH), 0.0)
    np.testing.assert_array_equal(made, expected)
    assert (used == L).all(), "a single token is no cheaper to read before"


def test_causal_samples_belong_to_their_number():
    evaluator, _ = causal()
    empty, shuffled = np.full((BATCH, L), S), RNG.permutation(BATCH)
    first, _ = evaluator.generate(empty, 7, np.arange(BATCH), 1.0)
    np.testing.assert_array_equal(evaluator.generate(empty, 7, shuffled, 1.0)[0], first[shuffled])
    assert not np.array_equal(first, evaluator.generate(empty, 8, np.arange(BATCH), 1.0)[0])


def one_by_one(evaluator, prompt):
    """Texts and caches of a prompt that is read token by token."""
    evaluator.model.fills_cache = False
    try:
        made, used = evaluator.generate(prompt, 7, np.arange(BATCH), 1.0)
    finally:
        evaluator.model.fills_cache = True
    assert (used == L).all()
    return made, evaluator.cache.numpy()


def test_a_prompt_is_read_in_one_evaluation_and_its_text_goes_on_as_before():
    """Prompts of every length, by one graph; some rows have more given than others."""
    evaluator, _ = causal()
    captured = None
    for given in (2, L - 1):
        prompt = np.where(np.arange(L) < given, CLEAN, S)
        prompt[: BATCH // 2, given] = CLEAN[: BATCH // 2, given]
        expected, cache = one_by_one(evaluator, prompt)
        evaluator.cache.assign(evaluator.cache * 0 + 9.0).realize()  # what is not written is wrong
        made, used = evaluator.generate(prompt, 7, np.arange(BATCH), 1.0)
        np.testing.assert_array_equal(made, expected)
        assert (made[:, given:] != np.where(prompt == S, 0, prompt)[:, given:]).any()
        assert (used == 1 + L - given).all()
        np.testing.assert_allclose(evaluator.cache.numpy(), cache, rtol=0, atol=1e-5)
        captured = captured or evaluator.prompt._jit.captured
        assert evaluator.prompt._jit.captured is captured is not None


def test_to_capture_its_graphs_a_generation_calls_each_of_them():
    evaluator, _ = causal()
    evaluator.drop()
    prompt = np.where(np.arange(L) < 2, CLEAN, S)
    evaluator.generate(prompt, 7, np.arange(BATCH), 1.0, limit=2)
    assert evaluator.graph.kernels and evaluator.prompt.kernels
    made, used = evaluator.generate(prompt, 7, np.arange(BATCH), 1.0, stop=3)
    assert (made[:, :3] < S).all() and (made[:, 3:] == S).all() and (used == 2).all()


# ---- parameters


class Shape:
    """A stand-in for a tensor, to count the parameters of large presets without allocating them."""

    def __init__(self, values) -> None:
        self.shape = values.shape

    def numel(self) -> int:
        return int(np.prod(self.shape))

    def realize(self, *others):
        return self


@pytest.fixture
def only_shapes(monkeypatch):
    monkeypatch.setattr(network_module, "Tensor", Shape)
    monkeypatch.setattr(initial, "normal", lambda rng, shape, scale: np.broadcast_to(np.float32(0), shape))


SIZES = {name: load_preset(name).model.size() for name in preset_names()}
SIZES |= {
    "wide": NetworkSize(dim=512, layers=2, heads=8, feed_forward=512, conditioning_dim=512),
    "deep": NetworkSize(dim=24, layers=30, heads=3, feed_forward=100, conditioning_dim=4),
}


VARIANTS = [
    AutoregressiveFamily(),
    *(MdlmFamily(conditioning=told, self_conditioning=own) for told in CONDITIONING for own in (False, True)),
]


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("vocab_size", [28, 50_258])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_variant_has_equal_parameters(only_shapes, name, vocab_size, activation):
    size = replace(SIZES[name], activation=activation)
    reference = MdlmFamily().create(replace(size, activation="gelu"), vocab_size, 64, 0, None)
    assert reference.parameters["0.feed_forward.out"].shape[0] == size.feed_forward
    whole = sum(p.numel() for p in reference.parameters.values())
    assert reference.parameter_count() + reference.embedding_parameters() == whole
    tables = (2 * vocab_size + 1 + 64) * size.dim
    assert tables <= reference.embedding_parameters() <= tables + 128 * size.dim
    for family in VARIANTS:
        made = family.create(size, vocab_size, 64, 0, None)
        assert abs(made.parameter_count() / reference.parameter_count() - 1) < 0.01, family.spec
        assert made.embedding_parameters() == reference.embedding_parameters() and made.vocab_size == vocab_size


def test_without_another_width_the_variants_would_differ(only_shapes):
    size = SIZES["quick"]
    widths = {family.spec: family.create(size, 28, 64, 0, None).parameters["0.feed_forward.out"].shape[0] for family in VARIANTS}
    reference = body_parameters(size, size.feed_forward, conditioned=True)
    assert widths["mdlm"] == size.feed_forward
    for name, more in ("autoregressive", True), ("mdlm[conditioning=none]", True), ("mdlm[self_conditioning=true]", False):
        assert (widths[name] > size.feed_forward) is more
        assert abs(widths[name] - size.feed_forward) * 2 * size.dim * size.layers > 0.01 * reference


def test_counted_parameters_are_the_formula():
    d, c, n = SIZE.dim, SIZE.conditioning_dim, SIZE.layers
    expected = n * (4 * d * d + 2 * d + 2 * d * SIZE.feed_forward) + 64 * c + c * c + (6 * n + 2) * c * d
    assert masked()[0].model.parameter_count() == expected


def test_the_same_seed_makes_the_same_network():
    family = MdlmFamily()
    first, same, other = (family.create(SIZE, S, L, seed, None).parameters for seed in (1, 1, 2))
    for name, tensor in first.items():
        np.testing.assert_array_equal(tensor.numpy(), same[name].numpy())
    assert (first["head"].numpy() != other["head"].numpy()).any()


@pytest.mark.parametrize("length", [4, 16])
def test_local_heads_begin_at_a_neighbour(length):
    """With the same token everywhere and no position table, the scores depend on the bias and the rotation alone."""
    size = replace(SIZE, heads=2, local_heads=1)
    values = {n: t.numpy().astype(np.float64) for n, t in
              MdlmFamily().create(size, S, length, 0, None).parameters.items()}  # fmt: skip
    bias = np.split(values["biases"], 2)
    q, k = (placed(np.tile(b, (1, length, 1)), size.heads)[0, :, : SIZE.dim // 2] for b in bias)
    scores = q @ k.T
    assert (scores.argmax(axis=1)[1:] == np.arange(length - 1)).all()  # the first local head looks one to the left


@pytest.mark.parametrize("family", [MdlmFamily(), AutoregressiveFamily()], ids=lambda family: family.name)
def test_bfloat16_reads_the_parameters_that_were_loaded_last(family):
    """Its matrices are copies: a stale one would be another network's."""
    tokens, given = Tensor(TEXTS.astype(np.int32)), []
    for seed in (1, 2):
        given.append({n: p.numpy() for n, p in family.create(SIZE, S, L, seed, None).parameters.items()})

    def answered(model) -> np.ndarray:
        t = (Tensor.zeros(len(TEXTS)),) if family.name == "mdlm" else ()
        return model.free_log_probabilities(tokens, *t).numpy() if t else model.log_probabilities(tokens).numpy()

    def fresh(values) -> np.ndarray:
        model = family.create(SIZE, S, L, 0, None)
        model.set_compute(dtypes.bfloat16)
        put(model, values)
        return answered(model)

    model = family.create(SIZE, S, L, 0, None)
    model.set_compute(dtypes.bfloat16)
    kind = MaskedEvaluator if family.name == "mdlm" else CausalEvaluator
    evaluator = kind("loaded", model, BATCH)
    for values in (*given, given[0]):
        evaluator.load(values)
        np.testing.assert_array_equal(answered(model), fresh(values))
    assert np.abs(fresh(given[0]) - fresh(given[1])).max() > 0.01

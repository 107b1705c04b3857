"""p of a visible token given all others: exact for oracles, and by the shadow row of a network."""

import numpy as np
import pytest
from mist_bench_plugins.corpus_tales import TalesCorpus
from mist_bench_plugins.family_mdlm import MdlmFamily
from tinygrad import Tensor

from harness.brute_force import BATCH, MASKS, SIZE, TEXTS, WORLD, L, S, shaken
from mist_bench import MaskedModel, NetworkSize, Oracle
from mist_bench.measure.one_step import sequences


def test_an_oracle_says_it_by_enumeration():
    oracle, texts = WORLD, sequences(L, 3)
    truth = np.exp(oracle.log_probability(texts))
    states = sequences(L, 4)
    mask, length = oracle.vocab_size, L
    found = oracle.log_left_out(Tensor(np.where(states == 3, mask, states).astype(np.int32))).numpy()
    for state, row in zip(states, found, strict=True):
        for i in range(length):
            others = np.array([j != i and state[j] < 3 for j in range(length)])
            weight = truth * ((texts == state) | ~others).all(axis=1)
            own = 0.0 if state[i] == 3 else np.log(weight[texts[:, i] == state[i]].sum() / weight.sum())
            assert row[i] == pytest.approx(own, abs=1e-5)


def test_the_slot_world_says_the_same_as_when_asked_for_every_text():
    oracle = TalesCorpus().oracle()
    rng = np.random.default_rng(0)
    tokens = oracle.sample(4, rng)
    hidden = rng.random(tokens.shape) < np.array([[0.0], [0.3], [0.6], [0.9]])
    seen = np.where(hidden, oracle.vocab_size, tokens)
    seen[2, np.flatnonzero(~hidden[2])[0]] = oracle.end  # one token that contradicts the others
    x = Tensor(seen.astype(np.int32)).realize()
    found, asked = oracle.log_left_out(x).numpy(), Oracle.log_left_out(oracle, x).numpy()
    assert ((np.exp(asked) < 0.99) & (asked > -1e8)).any() and (asked < -1e8).any()
    np.testing.assert_allclose(np.exp(found), np.exp(asked), rtol=0, atol=1e-5)


# ---- a network


def shadow(layers: int, **how):
    model = MdlmFamily(**how).create(
        NetworkSize(**{**vars(SIZE), "layers": layers}), S, L, 0, None
    )
    return model, shaken(model, 5)


CLEAN = TEXTS[np.random.default_rng(0).integers(0, len(TEXTS), BATCH)]
HIDDEN = MASKS[np.arange(BATCH) % len(MASKS)]
SEEN = np.where(HIDDEN, S, CLEAN)
T = Tensor(np.full(BATCH, 0.5, dtype=np.float32))


def said(model) -> tuple[np.ndarray, np.ndarray]:
    answer, own = model.left_out(Tensor(SEEN.astype(np.int32)), T)
    return answer.numpy(), own.numpy()


def test_one_layer_of_a_network_says_exactly_what_it_would_say_of_the_text_without_the_token():
    model, values = shadow(1, conditioning="none")
    answer, own = said(model)
    np.testing.assert_allclose(answer, model.log_probabilities(Tensor(SEEN.astype(np.int32)), T).numpy(), atol=1e-5)
    for i in range(L):
        without = SEEN.copy()
        without[:, i] = S
        whole = np.asarray(model.free_log_probabilities(Tensor(without.astype(np.int32)), T).numpy())
        expected = np.where(HIDDEN[:, i], 0.0, whole[np.arange(BATCH), i, CLEAN[:, i]])
        np.testing.assert_allclose(own[:, i], expected, atol=1e-5)


def test_the_text_does_not_see_the_shadow_row_and_a_shadow_not_its_token():
    model, _ = shadow(2)
    answer, own = said(model)
    np.testing.assert_allclose(answer, model.log_probabilities(Tensor(SEEN.astype(np.int32)), T).numpy(), atol=1e-5)
    assert (own[HIDDEN] == 0).all() and (own[~HIDDEN] < 0).all()
    one, values = shadow(1)
    other = np.where(np.arange(L) == 1, (SEEN + 1) % S, SEEN)  # another token at place 1, where one is shown
    shown = ~HIDDEN[:, 1]
    law = []
    for tokens in (SEEN, other):
        x = Tensor(tokens.astype(np.int32))
        masks = one.body.embed((x * 0 + S).cast("int"))
        told = one.body.modulation(Tensor(HIDDEN.mean(axis=1).astype(np.float32)))
        law.append(one.body.logits(one.body.embed(x).cat(masks, dim=1), told).numpy()[shown, L + 1])
    np.testing.assert_allclose(law[0], law[1], atol=1e-5)


def test_with_more_layers_it_is_near_what_the_text_without_the_token_gives_and_nearer_than_what_has_seen_it():
    model, _ = shadow(2, conditioning="none")
    exact = MaskedModel.left_out(model, Tensor(SEEN.astype(np.int32)), T)[1].numpy()
    plain = model.free_log_probabilities(Tensor(SEEN.astype(np.int32)), T).numpy()
    seen_it = np.take_along_axis(plain, CLEAN[..., None], axis=2)[..., 0]
    row, sight = (np.abs(np.exp(found) - np.exp(exact))[~HIDDEN].mean() for found in (said(model)[1], seen_it))
    assert 1e-4 < row < sight / 2

"""p of a visible token given all others: exact for oracles, by the shadow row of a network, and as `wino` uses it."""


import numpy as np
import pytest
from mist_bench_plugins.corpus_tales import TalesCorpus
from mist_bench_plugins.family_mdlm import MdlmFamily
from mist_bench_plugins.sampler_wino import FEWEST, MOST, WinoSampler
from tinygrad import Tensor

from harness.brute_force import BATCH, MASKS, SIZE, TEXTS, WORLD, L, S, shaken
from harness.rules import assert_law_of_draws
from harness.runs import LONG
from mist_bench import MaskedModel, NetworkSize, Oracle, UserError
from mist_bench.host.registry import Registry
from mist_bench.measure.one_step import sequences
from mist_bench.measure.start import Start


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


# ---- wino: one step against the rule in numpy

V, MASK = 3, 3


def situation(revealed) -> tuple[Start, dict]:
    m = MASK
    tokens = np.array([[m, m, m, m], [2, m, 0, m], [1, 1, m, 0], [0, 1, 2, 2], [2, m, 1, m], [m, 1, m, 1], [m, m, 1, 0]])
    free = np.ones((7, L), dtype=bool)
    free[4, 0] = False
    rng = np.random.default_rng(7)
    p = rng.dirichlet(np.full(V, 0.4), size=(7, L))
    p[5] = [0.8, 0.1, 0.1]  # ties
    left_out = np.where(tokens == m, 1.0, rng.uniform(0.3, 1.0, (7, L)))
    left_out[5] = np.where(tokens[5] == m, 1.0, 0.5)
    left_out[1, 0], left_out[1, 2] = 0.91, 0.61  # just above the bars
    every = np.ones(7)
    start = Start(
        tokens=tokens, free=free, log_probabilities=np.log(p), to_fill=free.sum(axis=1),
        target_masked=free.sum(axis=1), reveal_probability=every / 3, alpha_t=every / 4, alpha_s=every / 2, step=0,
        steps=4, last=False, left_out_log_probability=np.log(left_out),
    )  # fmt: skip
    return start, {"revealed": np.full(7, revealed, dtype=np.int32)}


def after_one_step(tokens, free, x, p, back, sampler, revealed) -> tuple[int, ...]:
    masked = [i for i in range(L) if tokens[i] == MASK and free[i]]
    conf = {i: p[i, x[i]] for i in masked}
    most = min(max(len(masked) * 7 // 10, FEWEST), MOST)
    best = sorted(masked, key=lambda i: (-round(conf[i], 9), i))
    many = max(1, min(most, sum(conf[i] > sampler.tau for i in masked)))
    now = list(tokens)
    for i in best[:many]:
        now[i] = x[i]
    doubted = [i for i in range(L) if tokens[i] != MASK and free[i] and back[i] < sampler.tau_back]
    doubted.sort(key=lambda i: (round(back[i], 9), i))
    for i in doubted[: max(0, revealed - 1) if many > 1 else 0]:
        now[i] = MASK
    return tuple(int(a) for a in now)


def assert_same_law(sampler, start, state) -> None:
    back = np.exp(start.left_out_log_probability)

    def after(b, x):
        p, revealed = np.exp(start.log_probabilities[b]), int(state["revealed"][b])
        return after_one_step(start.tokens[b], start.free[b], x, p, back[b], sampler, revealed)

    assert_law_of_draws(sampler, start, after, state=state)


@pytest.mark.parametrize("revealed", [0, 1, 2, 4])
@pytest.mark.parametrize("sampler", [WinoSampler(), WinoSampler(tau=0.3, tau_back=0.6), WinoSampler(tau=0.0, tau_back=1.0)],
                         ids=lambda s: s.spec)  # fmt: skip
def test_one_step_law_is_the_rule(sampler, revealed):
    assert_same_law(sampler, *situation(revealed))


class OneMoreBack(WinoSampler):
    def step(self, view, state):
        return super().step(view, {"revealed": state["revealed"] + 1})


class AnotherBar(WinoSampler):
    def step(self, view, state):
        return WinoSampler(tau=self.tau * 1.05, tau_back=self.tau_back).step(view, state)


@pytest.mark.parametrize("wrong", [OneMoreBack(), AnotherBar()], ids=lambda s: type(s).__name__)
def test_a_slightly_wrong_sampler_is_caught(wrong):
    start, state = situation(2)
    wide = np.exp(start.log_probabilities)
    wide[0, :, 0], wide[0, :, 1:] = 0.61, 0.195  # between the bars
    start.__dict__["log_probabilities"] = np.log(wide)
    assert_same_law(WinoSampler(), start, state)
    with pytest.raises(AssertionError, match="a probability is off by"):
        assert_same_law(wrong, start, state)


def test_never_more_than_its_limits_are_revealed():
    length = 40
    start, _ = situation(0)
    p = np.full((1, length, V), 0.05)
    p[..., 0] = 0.9
    one = np.ones(1)
    start = Start(
        tokens=np.full((1, length), MASK), free=np.ones((1, length), dtype=bool),
        log_probabilities=np.log(p), to_fill=one.astype(int), target_masked=one.astype(int), reveal_probability=one,
        alpha_t=one, alpha_s=one, step=0, steps=1, last=False,
    )  # fmt: skip
    from mist_bench.measure.start import view_of

    for hidden, most in ((40, 20), (20, 14), (6, 5), (3, 3)):
        start.free[:, hidden:] = False
        proposal, half = np.zeros((1, length), dtype=int), np.full((1, length), 0.5)
        view = view_of(WinoSampler(), start, np.array([0]), proposal, half)
        after, state = WinoSampler().step(view, {"revealed": Tensor([0])})
        assert (after.numpy() == 0).sum() == most == state["revealed"].numpy()[0]


# ---- wino: whole runs

@pytest.mark.parametrize(("spec", "again"), [("wino", True), ("wino[tau_back=0]", False)])
def test_each_text_ends_by_itself_and_counts_two_a_step(spec, again):
    seen: list = []
    made, nfe = LONG(spec, steps=3, seed=2, watch=lambda step, now, guesses: seen.append(now))
    states, mask = np.array([*seen, made]), LONG.mask
    left = (states == mask).any(axis=2)
    assert np.array_equal(nfe, 2 * left.sum(axis=0)) and len(np.unique(nfe)) > 1
    done = ~left[:-1]
    assert (states[1:][done] == states[:-1][done]).all()  # not masked again while others go on
    assert ((states[:-1] != mask) & (states[1:] == mask)).any() == again
    assert (nfe <= 2 * LONG.length).all()


def test_wrong_parameters_are_refused():
    with pytest.raises(UserError, match="tau is at least 0 and below 1, not 1.0"):
        Registry.discover().make("sampler", "wino[tau=1]")
    with pytest.raises(UserError, match="tau_back is from 0 to 1, not 2.0"):
        Registry.discover().make("sampler", "wino[tau_back=2]")

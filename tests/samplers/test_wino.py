"""`wino`: its one-step law against its rule in numpy, its limits, and whole runs."""

import numpy as np
import pytest
from mist_bench_plugins.sampler_wino import FEWEST, MOST, WinoSampler
from tinygrad import Tensor

from harness.brute_force import L
from harness.rules import assert_law_of_draws
from harness.runs import MEDIUM
from mist_bench import UserError
from mist_bench.host.registry import Registry
from mist_bench.measure.start import Start, view_of

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
    length, hidden, most = 40, np.array([40, 20, 6, 3]), [20, 14, 5, 3]
    p, one = np.full((4, length, V), 0.05), np.ones(4)
    p[..., 0] = 0.9
    start = Start(
        tokens=np.full((4, length), MASK), free=np.arange(length) < hidden[:, None], log_probabilities=np.log(p),
        to_fill=hidden, target_masked=one.astype(int), reveal_probability=one, alpha_t=one, alpha_s=one, step=0, steps=1,
        last=False,
    )  # fmt: skip
    proposal, half = np.zeros((4, length), dtype=int), np.full((4, length), 0.5)
    view = view_of(WinoSampler(), start, np.arange(4), proposal, half)
    after, state = WinoSampler().step(view, {"revealed": Tensor([0] * 4)})
    assert (after.numpy() == 0).sum(axis=1).tolist() == most == state["revealed"].tolist()


# ---- whole runs

@pytest.mark.parametrize(("spec", "again"), [("wino", True), ("wino[tau_back=0]", False)])
def test_each_text_ends_by_itself_and_counts_two_a_step(spec, again):
    seen: list = []
    made, nfe = MEDIUM(spec, steps=3, seed=2, watch=lambda step, now, guesses: seen.append(now))
    states, mask = np.array([*seen, made]), MEDIUM.mask
    left = (states == mask).any(axis=2)
    assert np.array_equal(nfe, 2 * left.sum(axis=0)) and len(np.unique(nfe)) > 1
    done = ~left[:-1]
    assert (states[1:][done] == states[:-1][done]).all()  # not masked again while others go on
    assert ((states[:-1] != mask) & (states[1:] == mask)).any() == again
    assert (nfe <= 2 * MEDIUM.length).all()


def test_wrong_parameters_are_refused():
    with pytest.raises(UserError, match="tau is at least 0 and below 1, not 1.0"):
        Registry.discover().make("sampler", "wino[tau=1]")
    with pytest.raises(UserError, match="tau_back is from 0 to 1, not 2.0"):
        Registry.discover().make("sampler", "wino[tau_back=2]")

"""`klass` remembers: its one-step law from fixed (tokens, last answer, steps held), and whole runs step by step."""

from dataclasses import dataclass

import numpy as np
import pytest
from mist_bench_plugins.sampler_klass import KlassSampler

from harness.brute_force import BATCH
from harness.chain import LINEAR, WORLD, posterior
from harness.rules import MASK, L, V, assert_same_law, best, ids
from harness.runs import SMALL
from mist_bench.measure.sampler_law import law_distance
from mist_bench.measure.start import Start, view_of

IMPOSSIBLE = 1e-300


@dataclass(frozen=True)
class Remembered:
    """Inputs of the rule besides the answer: p of the step before, for how many steps each position held, counts."""

    last: np.ndarray
    held: np.ndarray
    step: int
    steps: int
    to_fill: int
    target_masked: int


def divergence(p, q):
    return sum(a * (np.log(a) - np.log(max(b, IMPOSSIBLE))) for a, b in zip(p, q, strict=True) if a > 0)


def holds(sampler, p, told):
    return [h + 1 if told.step > 0 and divergence(p[i], told.last[i]) < sampler.kappa else 0
            for i, h in enumerate(told.held)]  # fmt: skip


def rule(sampler):
    def revealed(places, p, x, told):
        held = holds(sampler, p, told)
        ready = [i for i in places if p[i, x[i]] > sampler.tau + 1e-9 and held[i] >= sampler.history]
        share = max(1, len(places) - told.target_masked, told.to_fill // told.steps)
        if told.step == told.steps - 1:
            return [(frozenset(places), 1.0)]
        return [(frozenset(ready) or best(places, {i: p[i, x[i]] for i in places}, share), 1.0)]

    return revealed


def near(p, distance, towards):
    """A law beside p."""
    return (1 - distance) * np.array(p) + distance * np.eye(V)[towards]


def corners(step, steps):
    """Rows of what is masked, p, p before, and steps held: ready or not, for each of the reasons."""
    m, rng = MASK, np.random.default_rng(3)
    high, even = np.array([0.9, 0.05, 0.03, 0.02]), np.full(V, 0.25)
    skewed = np.array([0.999, 0.0004, 0.0003, 0.0003])
    # KL(p || q) < 0.01 < KL(q || p), and the other way round: the direction matters
    small, heavy = np.array([0.9, 0.1, 0.0, 0.0]), np.array([0.897, 0.099, 0.002, 0.002])
    rows = [
        ([m, m, m, m], [high] * 4, [near(high, 0.001, 1)] * 4, [1, 2, 0, 5]),
        ([m, m, m, m], [high] * 4, [near(high, 0.2, 1), high, near(high, 0.001, 2), near(high, 0.2, 3)], [3, 3, 3, 3]),
        ([m, m, m, m], [even] * 4, [even] * 4, [4, 4, 4, 4]),  # stable, none sure; all ties
        ([m, 2, m, m], [high, high, skewed, even], [even, high, near(skewed, 0.3, 1), even], [4, 4, 4, 4]),
        ([m, m, m, m], [small, heavy, small, heavy], [heavy, small, small, heavy], [1, 1, 1, 1]),
        ([0, 1, m, 3], [even, even, high, even], [even] * 4, [0] * 4),
        ([0, 1, 2, 3], [even] * 4, [even] * 4, [9] * 4),
        ([m, m, m, m], list(rng.dirichlet(np.ones(V), L)), list(rng.dirichlet(np.ones(V), L)), [2, 2, 2, 2]),
        ([m, m, m, m], [high] * 4, [near(high, d, 3) for d in (0.025, 0.03, 0.025, 0.03)], [9] * 4),  # about kappa
        ([m, m, m, m], [skewed, high, skewed, high], [skewed, high, skewed, high], [7, 7, 7, 7]),
    ]
    tokens, p, last, held = (np.array([row[i] for row in rows]) for i in range(4))
    target = np.array([2, 3, 1, 0, 3, 0, 0, 1, 1, 2])
    free = np.ones(tokens.shape, dtype=bool)
    free[3, 1] = free[5, 0] = False
    free[9, 2] = False  # a mask of a later block
    count, to_fill = len(rows), np.array([4, 4, 4, 3, 4, 2, 4, 4, 4, 4])
    with np.errstate(divide="ignore"):
        answer, before = (np.maximum(np.log(x), -1e9) for x in (p, last))
    start = Start(
        tokens=tokens, free=free, log_probabilities=answer, to_fill=to_fill, target_masked=target,
        reveal_probability=np.full(count, 0.5), alpha_t=np.full(count, 0.2), alpha_s=np.full(count, 0.5), step=step,
        steps=steps, last=False, previous_log_probabilities=before,
    )  # fmt: skip
    told = [Remembered(last[b], held[b], step, steps, to_fill[b], target[b]) for b in range(count)]
    return start, told, {"held": held.astype(np.float32)}


SAMPLERS = [
    KlassSampler(), KlassSampler(tau=0.8), KlassSampler(tau=0.8, history=1), KlassSampler(tau=0.5, kappa=0.05),
    KlassSampler(tau=0.0, kappa=0.001, history=3),
]  # fmt: skip


@pytest.mark.parametrize("sampler", SAMPLERS, ids=ids)
@pytest.mark.parametrize(("step", "steps"), [(0, 2), (0, 4), (1, 4), (1, 2), (3, 4), (2, 9)])
def test_one_step_law_is_the_rule(sampler, step, steps):
    start, told, state = corners(step, steps)
    assert_same_law(sampler, rule(sampler), start, told, state=state)


@pytest.mark.parametrize("step", [0, 1])
def test_what_it_remembers(step):
    sampler = KlassSampler(kappa=0.005)
    start, told, state = corners(step, 4)
    from tinygrad import Tensor

    rows = np.arange(len(told))
    view = view_of(sampler, start, rows, np.zeros((len(told), L), dtype=int), np.full((len(told), L), 0.5))
    held = sampler.step(view, {name: Tensor(values) for name, values in state.items()})[1]["held"].numpy()
    for b, row in enumerate(told):
        assert held[b].tolist() == holds(sampler, np.exp(start.log_probabilities[b]), row)


def run(sampler, tokens, steps):
    states, guesses = [], []
    made, nfe = SMALL(sampler, tokens, steps=steps, seed=2,
                      watch=lambda step, now, drawn: (states.append(now), guesses.append(drawn)))  # fmt: skip
    return made, nfe, [*states, made], guesses


def given():
    rng = np.random.default_rng(0)
    tokens = np.where(rng.random((BATCH, L)) < 0.3, WORLD.sample(BATCH, rng), MASK).astype(np.int32)
    tokens[:64], tokens[64] = MASK, [0, 1, 2, 0]
    return tokens


@pytest.mark.parametrize("steps", [2, 3, 9])
def test_a_run_follows_the_rule_from_step_to_step(steps):
    """The chain's far ends hardly notice each other, so that laws hold still while something else is revealed."""
    sampler, tokens = KlassSampler(tau=0.55, kappa=0.08, history=1), given()
    made, nfe, states, guesses = run(sampler, tokens, steps)
    at_once, table = 0, {}
    for b in range(BATCH):
        held, last, to_fill = np.zeros(L), np.full((L, 3), 1.0), int((tokens[b] == MASK).sum())
        for step, x in enumerate(guesses):
            now = tuple(None if s == MASK else int(s) for s in states[step][b])
            p = table.setdefault(now, posterior(now))
            places = [i for i in range(L) if now[i] is None]
            stay = int(np.floor(to_fill * max(0.0, 1 - (step + 1) / steps) + 0.5 + 1e-9))
            told = Remembered(last, held, step, steps, to_fill, stay)
            [(chosen, _)] = rule(sampler)(places, p, x[b], told) if places else [((), 1)]
            expected = [x[b, i] if i in chosen else states[step][b, i] for i in range(L)]
            assert states[step + 1][b].tolist() == expected
            at_once += bool(places) and step < steps - 1 and len(chosen) > max(1, len(places) - told.target_masked)
            held, last = np.array(holds(sampler, p, told)), p
    masked = np.array([(state == MASK).any(axis=1) for state in states[:-1]])
    assert np.array_equal(nfe, masked.sum(axis=0)) and nfe.max() <= min(steps, L)
    assert (made < 3).all() and (made[tokens != MASK] == tokens[tokens != MASK]).all()
    assert at_once > 0 or steps == 2


def test_it_remembers_so_it_has_no_law():
    assert law_distance(KlassSampler(), LINEAR, 4, WORLD) is None


def test_declared_facts():
    sampler = KlassSampler()
    assert sampler.adaptive and sampler.uses_steps and sampler.needs == {"log_probabilities", "previous_log_probabilities"}
    assert (sampler.nfe(5, 12), sampler.nfe(20, 12)) == (5, 12) and not sampler.exact_one_at_a_time


@pytest.mark.parametrize("wrong", [{"tau": 1.0}, {"tau": -0.1}, {"kappa": 0.0}, {"kappa": float("nan")}, {"history": 0}])
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} is "):
        KlassSampler(**wrong)

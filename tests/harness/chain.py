"""Exact laws of samplers on a skewed chain of 3 letters and 4 positions, in numpy: no code of samplers or laws."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pytest
from mist_bench_plugins.schedule_linear import LinearSchedule

from harness.brute_force import WORLD, L, S
from mist_bench.measure.one_step import sequences
from mist_bench.measure.sampler_law import sampler_law

V = 4  # with the end token, which this world never says
LINEAR = LinearSchedule()
TEXTS = list(product(range(S), repeat=L))
TRUTH = {x: WORLD.initial[x[0]] * np.prod([WORLD.transition[x[i], x[i + 1]] for i in range(L - 1)]) for x in TEXTS}


def law_of(sampler, schedule, steps, **settings):
    """The law over the world's own texts; nothing may fall outside of them."""
    law = sampler_law(sampler, schedule, steps, WORLD.log_posterior, L, V, **settings)
    inside = (sequences(L, V) < S).all(axis=1)
    assert law[~inside].sum() == 0
    assert law.sum() == pytest.approx(1, abs=1e-9)
    return law[inside]


@cache
def posterior(state: tuple) -> np.ndarray:
    """(L, S) by enumeration, float64; None, or a token that is no letter, marks a masked position."""
    out = np.zeros((L, S))
    for x, p in TRUTH.items():
        if all(s is None or s >= S or s == a for s, a in zip(state, x, strict=True)):
            out[np.arange(L), list(x)] += p
    return out / out.sum(axis=1, keepdims=True)


def brute_force(steps: int, outcomes) -> np.ndarray:
    """`outcomes(step, masked, p)` gives (tokens by position, probability) of what one step may reveal."""
    law = {(None,) * L: 1.0}
    for step in range(steps):
        after: dict = {}
        for state, weight in law.items():
            masked = [i for i in range(L) if state[i] is None]
            for revealed, chance in outcomes(step, masked, posterior(state)):
                new = tuple(revealed.get(i, state[i]) for i in range(L))
                after[new] = after.get(new, 0.0) + weight * chance
        law = after
    assert not any(None in state for state in law)
    return np.array([law.get(x, 0.0) for x in TEXTS])


@cache
def coin_outcomes():
    """Every way to reveal some masked positions: from and to which state, how many, how many stay, product of p."""
    states = list(product([*range(S), None], repeat=L))
    rows = []
    for state in states:
        masked = [i for i in range(L) if state[i] is None]
        p = posterior(state)
        for values in product([*range(S), None], repeat=len(masked)):
            new = list(state)
            for i, value in zip(masked, values, strict=True):
                new[i] = value
            drawn = [p[i, x] for i, x in zip(masked, values, strict=True) if x is not None]
            rows.append((states.index(state), states.index(tuple(new)), len(drawn), values.count(None), np.prod(drawn)))
    return states, *map(np.array, zip(*rows, strict=True))


def by_coins(chances) -> np.ndarray:
    """Ancestral sampling: at each step each masked position is drawn with that step's chance, else stays masked."""
    states, origin, after, drawn, kept, p = coin_outcomes()
    law = np.zeros(len(states))
    law[-1] = 1.0
    for r in chances:
        law = np.bincount(after, law[origin] * p * r**drawn * (1 - r) ** kept, minlength=len(states))
    return np.array([law[states.index(x)] for x in TEXTS])


def truth() -> np.ndarray:
    return np.array(list(TRUTH.values()))

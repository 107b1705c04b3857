"""The rules of the samplers written again in numpy, and the situations in which both take one step.

A rule here sees one sequence: its masked positions, p (L, V) in float64, the proposal, and the step's numbers. It
gives the sets of positions that may be revealed, with their probabilities. No code is shared with the samplers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from harness.brute_force import assert_laws_agree, one_step_law
from mist_bench import Sampler
from mist_bench.measure.one_step import transitions
from mist_bench.measure.start import Start

V, L, MASK = 4, 4, 4


@dataclass(frozen=True)
class Numbers:
    target_masked: int
    to_fill: int
    reveal_probability: float
    step: int
    steps: int
    last: bool


def scheduled(n, numbers):
    return n if numbers.last else min(n, max(1, n - numbers.target_masked))


def best(places, score, count):
    """The `count` highest scores, the leftmost of equals first."""
    return frozenset(sorted(places, key=lambda i: (-score[i], i))[:count])


def rule_random(places, p, x, numbers):
    r = numbers.reveal_probability
    subsets = [frozenset(c) for k in range(len(places) + 1) for c in combinations(places, k)]
    return [(s, r ** len(s) * (1 - r) ** (len(places) - len(s))) for s in subsets]


def rule_first_hitting(places, p, x, numbers):
    return [(frozenset([i]), 1 / len(places)) for i in places] or [(frozenset(), 1.0)]


def rule_autoregressive(places, p, x, numbers):
    return [(frozenset(places[:1]), 1.0)]


def rule_confidence(places, p, x, numbers):
    return [(best(places, {i: p[i, x[i]] for i in places}, scheduled(len(places), numbers)), 1.0)]


def rule_confidence_max(places, p, x, numbers):
    return [(best(places, {i: max(p[i]) for i in places}, scheduled(len(places), numbers)), 1.0)]


def rule_margin(places, p, x, numbers):
    score = {i: sorted(p[i])[-1] - sorted(p[i])[-2] for i in places}
    return [(best(places, score, scheduled(len(places), numbers)), 1.0)]


def rule_entropy(places, p, x, numbers):
    score = {i: sum(q * np.log(q) for q in p[i]) for i in places}
    return [(best(places, score, scheduled(len(places), numbers)), 1.0)]


def rule_top_k(places, p, x, numbers):
    count = numbers.to_fill // numbers.steps + (1 if numbers.step < numbers.to_fill % numbers.steps else 0)
    return [(best(places, {i: p[i, x[i]] for i in places}, len(places) if numbers.last else count), 1.0)]


def situation(step: int, steps: int, *, last: bool) -> tuple[Start, list[Numbers]]:
    """Rows of masks, fixed tokens (kept from the start), masks that may not be revealed yet, and equal scores."""
    m = MASK
    tokens = np.array([[m, m, m, m], [2, m, m, m], [m, 1, m, 0], [m, m, 3, m], [0, 1, 2, 3], [m, m, m, m], [m, m, m, 2]])
    free = np.ones((7, L), dtype=bool)
    free[1, 0] = free[2, 3] = False
    free[3, 1] = free[6, 2] = False  # a mask that belongs to a later block; in row 6 one of the others stays too
    p = np.random.default_rng(7).dirichlet(np.ones(V), size=(7, L))
    p[5] = p[0, 2]  # the same law everywhere: all ties
    target, fill = np.array([2, 3, 1, 0, 0, 2, 1]), np.array([4, 3, 3, 2, 4, 4, 2])  # row 1: all stay, yet one must go
    r = np.array([0.3, 0.55, 0.9, 0.05, 0.4, 0.3, 0.7])
    if last:
        r = np.ones_like(r)  # the target stays: `last` alone must be enough to reveal all
    start = Start(
        tokens=tokens, free=free, log_probabilities=np.log(p), to_fill=fill, target_masked=target,
        reveal_probability=r, alpha_t=np.full(7, 0.2), alpha_s=np.full(7, 0.5), step=step, steps=steps, last=last,
    )  # fmt: skip
    return start, [Numbers(int(target[b]), int(fill[b]), r[b], step, steps, last) for b in range(7)]


def proposals(start: Start, b: int):
    """Every proposal for row b: a token for each masked position, and the probability of the draw."""
    places = [int(i) for i in np.flatnonzero(start.masked[b])]
    p = np.exp(start.log_probabilities[b])
    for values in product(range(p.shape[1]), repeat=len(places)):
        x = dict(zip(places, values, strict=True))
        yield x, np.prod([p[i, x[i]] for i in places])


def law_of_rule(rule, start: Start, numbers: list) -> dict:
    """`rule(places, p, x, numbers)` gives sets of positions to reveal, and their probabilities."""
    law: dict = {}
    for b, row in enumerate(start.tokens):
        p = np.exp(start.log_probabilities[b])
        for x, weight in proposals(start, b):
            for revealed, chance in rule(list(x), p, x, numbers[b]):
                key = (b, *(x[i] if i in revealed else int(token) for i, token in enumerate(row)))
                law[key] = law.get(key, 0.0) + weight * chance
    return law


def assert_law_of_draws(sampler: Sampler, start: Start, after, **settings) -> None:
    """The same for a rule that also masks again: `after(b, x)` is the text of row b once x was drawn."""
    law: dict = {}
    for b in range(len(start.tokens)):
        for x, weight in proposals(start, b):
            key = (b, *after(b, x))
            law[key] = law.get(key, 0.0) + weight
    assert_laws_agree(one_step_law(*transitions(sampler, start, **settings)), law)


def assert_same_law(sampler: Sampler, rule, start: Start, numbers: list[Numbers], **settings) -> None:
    assert_laws_agree(one_step_law(*transitions(sampler, start, **settings)), law_of_rule(rule, start, numbers))


def ids(value):
    return getattr(value, "spec", getattr(value, "__name__", None))

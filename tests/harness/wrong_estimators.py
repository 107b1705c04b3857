"""Estimators of the bound with a wrong weight or normaliser, and `weighted` with its schedule bound."""

from __future__ import annotations

import numpy as np
from mist_bench_plugins.schedule_cosine import CosineSchedule
from mist_bench_plugins.schedule_linear import LinearSchedule

from harness.rules import L
from mist_bench.measure import likelihood


def weighted_by(schedule):
    return lambda answer, *rest: likelihood.weighted(answer, schedule, *rest)


class WrongWeight(CosineSchedule):
    """Cosine's masks with the weight of `linear`."""

    name = "wrong-weight"

    def weight(self, t):
        return 1 / t


class MaskedMean(LinearSchedule):
    """Averages the loss over t without a weight."""

    name = "no-weight"

    def weight(self, t):
        return np.ones_like(t)


def masked_mean(answer, tokens, numbers, draw, draws):
    """The normaliser of a mean over masked positions: 1/k instead of L/k."""
    return likelihood.exact_k(answer, tokens, numbers, draw, draws) / L


def realized_count(answer, tokens, numbers, draw, draws):
    """Each position masked with probability t, but divided by the number of masked ones instead of t L."""
    count = []

    def counted(tokens, masked, t):
        count.append(masked.sum(axis=1))
        return answer(tokens, masked, t)

    total = likelihood.weighted(counted, MaskedMean(), tokens, numbers, draw, draws)
    return total * L / np.maximum(count[0], 1)

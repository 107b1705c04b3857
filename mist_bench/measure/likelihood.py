"""Likelihoods: two estimators of the bound of masked models, and the chain rules, in nats per sequence.

Compared models see the same sequences and the same masks, since noise belongs to the number of a sequence. Draws are
stratified within each sequence, so that they add no dependence: standard errors are over clusters of sequences.

A network that is told t is told the time of its own clock, the schedule that it was trained under: the time at which as
much is masked. So its bound, too, is one number, whichever estimator and weight take it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..api.component import FloatArray, IntArray
from ..api.schedules import Schedule
from ..engine import noise
from ..inference.causal import CausalEvaluator
from ..inference.masked import MaskedEvaluator
from .statistics import ratio

SEED = noise.seed_of(axis="likelihood")
SMALLEST_MASK = 1e-4
"""The weighted estimator drops mask probabilities below this: its variance under `linear` diverges with their
logarithm."""

LogProbability = Callable[[IntArray, npt.NDArray[np.bool_], FloatArray], FloatArray]
"""(B, L) clean tokens, (B, L) masked, (B,) t -> (B, L) log p(x_i | visible tokens), 0 where not masked."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A likelihood with its standard errors (NaN for one cluster), and a value per sequence for paired comparison."""

    per_sequence: FloatArray  # (N,) nats
    nats_per_token: float
    nats_per_token_se: float
    bits_per_byte: float
    bits_per_byte_se: float
    clusters: int


def exact_k(
    answer: LogProbability, tokens: IntArray, numbers: IntArray, draw: int, draws: int, block: int = 0,
    clock: Schedule | None = None,
) -> FloatArray:  # fmt: skip
    """A draw of the exact-k estimator: k random positions masked, weight L/k (LLaDA, eq. 6).

    (B, L) tokens, (B,) sequence numbers -> (B,) nats. k is uniform over 1..L and stratified over the draws of each
    sequence. Blocks are independent sets of draws.

    `clock`: the time told is that at which the k-th position is masked, if each is masked where the mask probability
    passes its noise: the k-th smallest of L uniform numbers, whatever their order. With u that mask probability,
    du/u u^k (1-u)^(L-k) is 1/k for each set of k positions times the law of the k-th smallest, Beta(k, L-k+1), so that
    the expectation is that of `weighted`. Without a clock k/L is told.
    """
    length = tokens.shape[1]
    u = noise.uniform_numpy(SEED, 2 * block, noise.TIMES, numbers, 1)[:, 0]  # step 1 belongs to `weighted`
    k = 1 + np.minimum((length * (draw + u) / draws).astype(np.int64), length - 1)
    places = noise.uniform_numpy(SEED, block * draws + draw, noise.MASKING, numbers, length)
    order = places.argsort(axis=1, kind="stable")
    masked = order.argsort(axis=1, kind="stable") < k[:, None]
    last = np.take_along_axis(places, np.take_along_axis(order, k[:, None] - 1, axis=1), axis=1)[:, 0]
    told = k / length if clock is None else clock.inverse(last)
    return np.asarray(-answer(tokens, masked, told).sum(axis=1) * length / k)


def weighted(
    answer: LogProbability, schedule: Schedule, tokens: IntArray, numbers: IntArray, draw: int, draws: int,
    clock: Schedule | None = None,
) -> FloatArray:  # fmt: skip
    """A draw of the weighted estimator: t uniform, stratified over the draws; the schedule's w(t) times the masked sum.

    (B, L) tokens, (B,) sequence numbers -> (B,) nats. `clock`: the time told is that at which it, and not `schedule`,
    has the mask probability of t.
    """
    u = noise.uniform_numpy(SEED, 1, noise.TIMES, numbers, 1)[:, 0]
    t = (draw + u) / draws
    m = schedule.mask_probability(t)
    masked = noise.uniform_numpy(SEED, draw, noise.CHOICE, numbers, tokens.shape[1]) < m[:, None]
    kept = m >= SMALLEST_MASK
    weight = np.where(kept, schedule.weight(np.where(kept, t, 0.5)), 0.0)
    told = t if clock is None else clock.inverse(m)
    return np.asarray(-answer(tokens, masked, told).sum(axis=1) * weight)


def masked_likelihood(
    evaluator: MaskedEvaluator, tokens: IntArray, draws: int, schedule: Schedule | None,
    report: Callable[[int, int], None] = lambda done, total: None, *, block: int = 0, clock: Schedule | None = None,
) -> FloatArray:  # fmt: skip
    """Bound of a masked model: (N, L) -> (N,) nats, averaged over the draws; exact-k, or weighted by a schedule.

    `clock`: the schedule of its training, by which a network that is told t is told it.
    """

    def one(part: IntArray, numbers: IntArray, draw: int) -> FloatArray:
        answer = evaluator.target_log_probability
        if schedule is None:
            return exact_k(answer, part, numbers, draw, draws, block, clock)
        return weighted(answer, schedule, part, numbers, draw, draws, clock)

    return in_batches(tokens, evaluator.batch, draws, one, report)


def causal_likelihood(
    evaluator: CausalEvaluator, tokens: IntArray, report: Callable[[int, int], None] = lambda done, total: None
) -> FloatArray:
    """Exact likelihood of a causal model by the chain rule: (N, L) -> (N,) nats."""

    def one(part: IntArray, numbers: IntArray, draw: int) -> FloatArray:
        return np.asarray(-evaluator.log_probability(part).sum(axis=1))

    return in_batches(tokens, evaluator.batch, 1, one, report)


def left_to_right(
    evaluator: MaskedEvaluator, tokens: IntArray, report: Callable[[int, int], None] = lambda done, total: None,
    *, clock: Schedule | None = None,
) -> FloatArray:  # fmt: skip
    """Likelihood of a masked model's left-to-right decoder: (N, L) -> (N,) sums of -log p(x_i | x_<i, rest masked).

    Its probabilities sum to 1 over all sequences. It takes L evaluations per sequence, in batches of (sequence,
    position) pairs, so that the graph of the bound is reused. The time told is that at which the `clock` has as large a
    share masked; without one, that share.
    """
    length = tokens.shape[1]

    def one(pairs: IntArray, numbers: IntArray, draw: int) -> FloatArray:
        row, place = np.divmod(pairs, length)
        masked = np.arange(length) >= place[:, None]
        share = (length - place) / length
        answer = evaluator.target_log_probability(tokens[row], masked, share if clock is None else clock.inverse(share))
        return np.asarray(-answer[np.arange(len(place)), place])

    each = in_batches(np.arange(tokens.size), evaluator.batch, 1, one, report)
    return np.asarray(each.reshape(tokens.shape).sum(axis=1))


def in_batches(
    tokens: IntArray, batch: int, draws: int, one: Callable[[IntArray, IntArray, int], FloatArray],
    report: Callable[[int, int], None],
) -> FloatArray:  # fmt: skip
    """Mean over draws of each sequence: (N, ...) -> (N,). `one(batch, numbers, draw)` gives (B,) values of a batch of
    constant size; the last batch is filled up with repeats, which are dropped."""
    total = np.zeros(len(tokens))
    rounds = -(-len(tokens) // batch) * draws
    for start in range(0, len(tokens), batch):
        numbers = np.arange(start, start + batch)
        part = np.asarray(tokens[numbers % len(tokens)])
        inside = numbers < len(tokens)
        for draw in range(draws):
            total[numbers[inside]] += one(part, numbers, draw)[inside]
            report(start // batch * draws + draw + 1, rounds)
    return total / draws


def estimate(per_sequence: FloatArray, length: int, text_bytes: IntArray, clusters: IntArray) -> Estimate:
    """Nats per token and bits per byte, with standard errors over clusters."""
    tokens_each = np.full(len(per_sequence), length, dtype=np.float64)
    nats, nats_se = ratio(per_sequence, tokens_each, clusters)
    bits, bits_se = ratio(per_sequence / np.log(2), np.asarray(text_bytes, dtype=np.float64), clusters)
    return Estimate(
        per_sequence=per_sequence, nats_per_token=nats, nats_per_token_se=nats_se, bits_per_byte=bits,
        bits_per_byte_se=bits_se, clusters=len(np.unique(clusters)),
    )  # fmt: skip

"""Proposals drawn from a model's log-probabilities, and the statistics of each: how certain the model is.

Proposals are drawn by inverse CDF, with one uniform for each position. Gumbel noise in float32 cannot reach the tails
and so lowers the effective temperature (arXiv 2409.02908); one uniform against a cumulative sum does not.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..api.log_probabilities import pick
from ..engine.device import on_cpu

if TYPE_CHECKING:
    from tinygrad import Tensor

IMPOSSIBLE = -1e9
"""log 0 as a finite number: its exp is exactly 0, and 0 log 0 is 0 rather than not-a-number."""


def draw(scores: Tensor, uniform: Tensor, temperature: Tensor, nucleus: float = 1.0) -> Tensor:
    """(B, L, V), (B, L) in (0, 1), (1,) -> (B, L) int32 drawn from p^(1/T), cut to the nucleus; T = 0 is the argmax.

    The first token with p > 0 whose cumulative sum exceeds u times the total, or the last token with p > 0. `scores`:
    log p, normalised or not.
    """
    blocks = _in_blocks(scores)
    p = ((blocks - _largest(blocks)) / temperature.maximum(1e-6)).exp()
    if nucleus < 1.0:
        p = (p >= _nucleus_threshold(p.contiguous(), nucleus)).where(p, 0.0)
    p = p.contiguous() if on_cpu() or nucleus < 1.0 else p
    return (temperature > 0).where(_inverse_cdf(p, uniform), _most_likely(blocks)[0]).int()


def _in_blocks(scores: Tensor) -> Tensor:
    """(…, V) -> (…, N, V/N) with N about sqrt(V). A search looks at all blocks first, then within one of them, so that
    it reads the row only once. Short sums are also faster, and round less."""
    count = int(scores.shape[-1])
    size = _block_size(count)
    blocks = -(-count // size)
    if blocks * size > count:
        scores = scores.pad((*[(0, 0)] * (scores.ndim - 1), (0, blocks * size - count)), value=IMPOSSIBLE)
    return scores.reshape(*scores.shape[:-1], blocks, size)


def _block_size(count: int) -> int:
    """A divisor near the root, so that nothing is padded; if possible a multiple of 4, to read four numbers at once."""
    root = math.isqrt(count - 1) + 1
    near = [size for size in range(max(1, root // 2), 2 * root + 1) if count % size == 0]
    return min(near, key=lambda size: (size % 4 != 0, abs(size - root)), default=root)


def _largest(blocks: Tensor) -> Tensor:
    """(…, N, S) -> (…, 1, 1)."""
    return blocks.max(axis=-1, keepdim=True).contiguous().max(axis=-2, keepdim=True).contiguous()


def _chosen(blocks: Tensor, block: Tensor) -> Tensor:
    """(…, N, S), (…, 1) number of a block -> (…, S) that block."""
    here = blocks.arange(blocks.shape[-2]) == block
    return here.unsqueeze(-1).where(blocks, 0.0).sum(axis=-2).contiguous()


def _most_likely(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """(…, N, S) -> (…) the first token with the highest score, and the second highest score."""
    tops = blocks.max(axis=-1).contiguous()
    block = tops.argmax(axis=-1, keepdim=True)
    inside = _chosen(blocks, block)
    place = inside.argmax(axis=-1, keepdim=True)
    elsewhere = (tops.arange(tops.shape[-1]) == block).where(2 * IMPOSSIBLE, tops).max(axis=-1)
    beside = (inside.arange(inside.shape[-1]) == place).where(2 * IMPOSSIBLE, inside).max(axis=-1)
    return (block * int(blocks.shape[-1]) + place).squeeze(-1), elsewhere.maximum(beside)


def _inverse_cdf(p: Tensor, uniform: Tensor) -> Tensor:
    """(B, L, N, S) weights, (B, L) -> (B, L): first the block, then the token within it."""
    mass = p.sum(axis=-1).contiguous()
    upto = mass.cumsum(axis=-1).contiguous()
    goal = uniform.unsqueeze(-1) * upto[..., -1:]
    block = _first_above(upto, mass, goal).contiguous()
    # the same sum that the goal was compared with: upto - mass would round, and could exceed the goal
    before = (mass.arange(mass.shape[-1]) == block - 1).where(upto, 0.0).sum(axis=-1, keepdim=True)
    inside = _chosen(p, block)
    upto = inside.cumsum(axis=-1).contiguous()
    return (block * int(p.shape[-1]) + _first_above(upto, inside, goal - before)).squeeze(-1)


def _first_above(upto: Tensor, mass: Tensor, goal: Tensor) -> Tensor:
    """(…, N) cumulative sums and their terms, (…, 1) -> (…, 1): the first index with mass whose sum is above the goal,
    or else the last index with mass. Indices without mass are excluded, because sums of floats may differ even where 0
    was added."""
    place = mass.arange(mass.shape[-1])
    first = ((upto > goal) & (mass > 0)).where(place, mass.shape[-1]).min(axis=-1, keepdim=True)
    return first.minimum((mass > 0).where(place, 0).max(axis=-1, keepdim=True))


def _nucleus_threshold(p: Tensor, nucleus: float) -> Tensor:
    """(…, N, S) unnormalised -> (…, 1, 1): the largest threshold above which there is enough mass.

    By bisection: 32 sums over V instead of a sort. The token that reaches the mass belongs to the nucleus, and so do
    ties.
    """
    goal = nucleus * p.sum(axis=(-2, -1), keepdim=True)
    high = p.max(axis=(-2, -1), keepdim=True)
    low = high * 0.0
    for _ in range(32):
        middle = ((low + high) / 2).contiguous()
        enough = (p >= middle).where(p, 0.0).sum(axis=(-2, -1), keepdim=True) >= goal
        low, high = enough.where(middle, low).contiguous(), enough.where(high, middle).contiguous()
    return low


def statistics(scores: Tensor, proposal: Tensor, *, normalised: bool = True) -> dict[str, Tensor]:
    """(B, L, V), (B, L) -> log_probability, max_log_probability, margin, entropy, each (B, L).

    `scores`: log p; if not `normalised`, up to a constant for each row. Normalised scores are not normalised again, so
    that equal probabilities stay equal to the last bit.
    """
    blocks = _in_blocks(scores)
    largest, e, total = _partition(blocks)
    best, log_total = largest.reshape(*scores.shape[:-1]), total.log()
    shift = best * 0.0 if normalised else best + log_total
    highest = best if normalised else -log_total  # best - shift, which would be a kernel that does not read best
    spread = (e * (blocks - largest)).sum(axis=-1).contiguous().sum(axis=-1)
    return {
        "log_probability": pick(scores, proposal) - shift,
        "max_log_probability": highest,
        "margin": highest.exp() - (_most_likely(blocks)[1] - shift).exp(),
        "entropy": log_total - spread / total,
    }


def log_normaliser(scores: Tensor) -> Tensor:
    """(…, V) -> (…): score minus this is log p."""
    largest, _, total = _partition(_in_blocks(scores))
    return largest.reshape(*scores.shape[:-1]) + total.log()


def _partition(blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(…, N, S) -> the largest score (…, 1, 1), exp(score - largest), and their sum (…)."""
    largest = _largest(blocks)
    e = (blocks - largest).exp()
    e = e.contiguous() if on_cpu() else e
    return largest, e, e.sum(axis=-1).contiguous().sum(axis=-1).contiguous()

"""From a model's log-probabilities to what a sampler may ask: a proposal for every position, and how sure it is.

Proposals are drawn by inverse CDF, one uniform a position. Gumbel noise in float32 cannot reach the tails and so lowers
the temperature in secret (arXiv 2409.02908); one uniform against a cumulative sum does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinygrad import Tensor

IMPOSSIBLE = -1e9
"""log 0 as a finite number: exp gives exactly 0, and 0 log 0 is 0 rather than not-a-number."""


def pick(log_probabilities: Tensor, tokens: Tensor) -> Tensor:
    """(B, L, V), (B, L) ids -> (B, L): the entry of each id; 0 for an id outside 0..V-1 (a mask)."""
    from tinygrad import Tensor

    vocabulary = Tensor.arange(log_probabilities.shape[-1])
    return (tokens.unsqueeze(-1) == vocabulary).where(log_probabilities, 0.0).sum(axis=-1)


def one_left_out(ask: Callable[[Tensor], Tensor], tokens: Tensor, mask: int) -> Tensor:
    """(B, L) -> (B, L): log p of each token that is seen given all others; 0 where masked.

    `ask`: (B L, L) tokens -> (B L, L, V) log-probabilities; row i of each text has position i masked.
    """
    from tinygrad import Tensor

    batch, length = (int(size) for size in tokens.shape)
    here = Tensor.eye(length).cast("bool")
    each = here.where(mask, tokens.unsqueeze(1)).cast(tokens.dtype).reshape(batch * length, length).contiguous()
    answer = ask(each).reshape(batch, length, length, -1)
    own = here.reshape(1, length, length, 1).where(answer, 0.0).sum(axis=2).contiguous()
    return pick(own, tokens)


def draw(log_probabilities: Tensor, uniform: Tensor, temperature: Tensor, nucleus: float = 1.0) -> Tensor:
    """(B, L, V), (B, L) in (0, 1), (1,) -> (B, L) int32 drawn from p^(1/T), cut to the nucleus; T = 0 is the argmax.

    The first token with p > 0 whose cumulative sum exceeds u times the total, or the last token with p > 0.
    """
    best = log_probabilities.max(axis=-1, keepdim=True)
    p = ((log_probabilities - best) / temperature.maximum(1e-6)).exp()
    if nucleus < 1.0:
        p = (p >= _nucleus_threshold(p, nucleus)).where(p, 0.0)
    return (temperature > 0).where(_inverse_cdf(p.contiguous(), uniform), log_probabilities.argmax(axis=-1)).int()


def _inverse_cdf(p: Tensor, uniform: Tensor) -> Tensor:
    """(B, L, V) weights, (B, L) -> (B, L): first the block of some sqrt(V) tokens, then the token within it.

    Two short cumulative sums cost far less than one over V, and round less.
    """
    size = math.isqrt(p.shape[-1] - 1) + 1
    blocks = -(-p.shape[-1] // size)
    p = p.pad(((0, 0), (0, 0), (0, blocks * size - p.shape[-1]))).reshape(*p.shape[:2], blocks, size)
    mass = p.sum(axis=-1).contiguous()
    upto = mass.cumsum(axis=-1).contiguous()
    goal = uniform.unsqueeze(-1) * upto[..., -1:]
    block = _first_above(upto, mass, goal)
    number = p.arange(blocks)
    # the very sum that the goal was compared with: upto - mass would round, and could exceed the goal
    before = (number == block - 1).where(upto, 0.0).sum(axis=-1, keepdim=True)
    inside = (number == block).unsqueeze(-1).where(p, 0.0).sum(axis=-2).contiguous()
    return (block * size + _first_above(inside.cumsum(axis=-1).contiguous(), inside, goal - before)).squeeze(-1)


def _first_above(upto: Tensor, mass: Tensor, goal: Tensor) -> Tensor:
    """(…, N) cumulative sums and their terms, (…, 1) -> (…, 1): the first index with mass that is above the goal, or
    the last with mass. Mass is asked for, because sums of floats may differ where nothing was added."""
    place = mass.arange(mass.shape[-1])
    first = ((upto > goal) & (mass > 0)).where(place, mass.shape[-1]).min(axis=-1, keepdim=True)
    return first.minimum((mass > 0).where(place, 0).max(axis=-1, keepdim=True))


def _nucleus_threshold(p: Tensor, nucleus: float) -> Tensor:
    """(..., V) unnormalised -> (..., 1): the largest threshold whose survivors hold the asked mass.

    By bisection: 32 sums over V rather than a sort. The token that crosses the mass is kept, and so are ties.
    """
    goal = nucleus * p.sum(axis=-1, keepdim=True)
    low, high = p.max(axis=-1, keepdim=True) * 0.0, p.max(axis=-1, keepdim=True)
    for _ in range(32):
        middle = ((low + high) / 2).contiguous()
        enough = (p >= middle).where(p, 0.0).sum(axis=-1, keepdim=True) >= goal
        low, high = enough.where(middle, low).contiguous(), enough.where(high, middle).contiguous()
    return low


def statistics(log_probabilities: Tensor, proposal: Tensor) -> dict[str, Tensor]:
    """(B, L, V), (B, L) -> log_probability, max_log_probability, margin, entropy, each (B, L)."""
    from tinygrad import Tensor

    vocabulary = Tensor.arange(log_probabilities.shape[-1])
    best = log_probabilities.max(axis=-1)
    is_best = vocabulary == log_probabilities.argmax(axis=-1, keepdim=True)
    second = is_best.where(2 * IMPOSSIBLE, log_probabilities).max(axis=-1)
    return {
        "log_probability": pick(log_probabilities, proposal),
        "max_log_probability": best,
        "margin": best.exp() - second.exp(),
        "entropy": -(log_probabilities.exp() * log_probabilities).sum(axis=-1),
    }

"""Equal parameters: the width of the feed-forward at which every variant of the transformer has as many numbers."""

from __future__ import annotations

from ..api.families import NetworkSize
from .activations import GATED
from .initial import FREQUENCIES, modulations

TOLERANCE = 0.009
"""A rounder width is taken where the parameters still agree this well (kernels like multiples of a power of two)."""


def body_parameters(size: NetworkSize, width: int, *, conditioned: bool, extra: int = 0) -> int:
    """Trained numbers outside the tables of token, position and output; `extra`: those that a family adds."""
    d, c, n = size.dim, size.conditioning_dim, size.layers
    told = 2 * FREQUENCIES * c + c * c + modulations(size) * c * d if conditioned else (4 * n + 1) * d
    return n * (4 * d * d + 2 * d + _each(size) * width) + told + extra


def matched_width(size: NetworkSize, *, conditioned: bool, extra: int = 0) -> int:
    """The inner width at which the parameters equal those of a conditioned transformer of this size, whose feed-forward
    has two matrices and is `size.feed_forward` wide."""
    target = body_parameters(size, 0, conditioned=True) + 2 * size.dim * size.layers * size.feed_forward
    exact = (target - body_parameters(size, 0, conditioned=conditioned, extra=extra)) / (_each(size) * size.layers)
    if exact == round(exact):
        return max(1, round(exact))
    for step in (64, 32, 16, 8, 4, 2, 1):
        width = max(step, round(exact / step) * step)
        if abs(width - exact) * _each(size) * size.layers <= TOLERANCE * target:
            return width
    return max(1, round(exact))


def _each(size: NetworkSize) -> int:
    """Numbers of a block's feed-forward for each unit of its width."""
    return (3 if size.activation in GATED else 2) * size.dim

"""Target error: how many mask draws a bound needs for a given standard error, and whether any number suffices.

The squared error of a bound has two parts: the differences between sequences (or their clusters), and the noise of the
masks, which shrinks with the number of draws. Draws come in blocks, each a complete stratified set of
`likelihood.mask_draws`. Block 0 is the set that a run without a target draws, and every model gets the same blocks in
the same order. Two pilot blocks separate the parts without bias: half the squared difference of a sequence's two values
estimates the mask variance of a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..api.component import FloatArray, IntArray
from .statistics import ratio

LARGEST_MULTIPLE = 16
"""Largest number of blocks."""
NEAR_THE_LIMIT = 1.05
"""If the sequences alone exceed the target, draw until the error is at most this times their part."""


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """The number of blocks for a target, estimated from two pilot blocks. Errors in nats per token."""

    blocks: int
    """Blocks to draw, including the two of the pilot."""
    needed: float
    """Blocks that the target needs; infinite if the sequences alone exceed it."""
    limit: float
    """The standard error at infinitely many masks; NaN for one cluster, which has no error."""


def pilot(first: FloatArray, second: FloatArray, target: float, length: int, clusters: IntArray) -> Pilot:
    """The number of blocks for a `target` (nats per token), from two blocks' nats per sequence (N,), (N,)."""
    tokens = len(first) * length
    of_masks = float(((first - second) ** 2 / 2).sum()) / tokens**2  # squared error that the masks of one block add
    _, error = ratio((first + second) / 2, np.full(len(first), float(length)), clusters)
    if not math.isfinite(error):
        return Pilot(blocks=2, needed=math.inf, limit=math.nan)
    of_sequences = max(0.0, error**2 - of_masks / 2)
    room = target**2 - of_sequences
    needed = of_masks / room if room > 0 else math.inf
    blocks_wanted = needed if room > 0 else of_masks / ((NEAR_THE_LIMIT**2 - 1) * of_sequences)
    blocks = max(2, min(LARGEST_MULTIPLE, math.ceil(blocks_wanted)))
    return Pilot(blocks=blocks, needed=needed, limit=math.sqrt(of_sequences))


def mean_of_blocks(
    block: Callable[[int, int], FloatArray], target: float, length: int, clusters: IntArray
) -> tuple[FloatArray, Pilot]:
    """(N,) nats per sequence, averaged over the blocks that the target needs, and the pilot that decided their number.

    `block(number, total)`: (N,) nats per sequence of one block; `total` is how many will be drawn, for progress.
    """
    values = [block(number, 2) for number in range(2)]
    decided = pilot(values[0], values[1], target, length, clusters)
    values += [block(number, decided.blocks) for number in range(2, decided.blocks)]
    return np.asarray(np.mean(values, axis=0)), decided


def shortfall(
    title: str, target: float, error: float | None, limit: float | None, draws: int, largest: int, sequences: int
) -> str:
    """A line that explains why the target was not reached; empty if it was, or was missed only by chance.

    `error` and `limit` (nats per token) are None where the sequences are one cluster.
    """
    start = f"target of ±{target:g} nats/token not reached: {title} has "
    if error is None or limit is None:
        return start + (
            f"no standard error: its {sequences} sequence{'s are' if sequences > 1 else ' is'} one independent unit, "
            "and two are needed (likelihood.sequences)"
        )
    start += f"±{error:.2g} at {draws} mask draws; "
    if limit >= target:
        enough = math.ceil(sequences * (limit / target) ** 2)
        return start + (
            f"its {sequences} sequences alone leave ±{limit:.2g} however many masks are drawn: "
            f"more than {enough} of them are needed (likelihood.sequences)"
        )
    if error > target and draws >= largest:
        return start + f"that is the most ({LARGEST_MULTIPLE} times likelihood.mask_draws): raise likelihood.mask_draws"
    return ""

"""How many mask draws a wanted standard error takes, and when no number of them is enough.

The squared error of a bound has two parts: what sequences (or chapters) differ by, and the noise of the masks, which
shrinks with their number. Draws come in blocks, each a whole stratified set of `likelihood.mask_draws`; block 0 is the
set that a run without a target draws, and every model gets the same blocks in the same order. Two pilot blocks tell the
parts apart without bias: half the squared difference of two blocks of one sequence is the mask variance of a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..api.component import FloatArray, IntArray
from .statistics import ratio

LARGEST_MULTIPLE = 16
"""Blocks drawn at most."""
NEAR_THE_LIMIT = 1.05
"""Where the sequences alone leave more than the target: draw until the error is at most this times what they leave."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What two pilot blocks say. Errors in nats per token."""

    blocks: int
    """Blocks to draw in all, the pilot's two included."""
    needed: float
    """Blocks that the target takes; infinite if the sequences alone leave more."""
    limit: float
    """The standard error that infinitely many masks would leave."""


def plan(first: FloatArray, second: FloatArray, target: float, length: int, clusters: IntArray) -> Plan:
    """(N,), (N,) nats per sequence of two blocks -> how many blocks give the `target` (nats per token)."""
    tokens = len(first) * length
    of_masks = float(((first - second) ** 2 / 2).sum()) / tokens**2  # squared error that the masks of one block add
    _, error = ratio((first + second) / 2, np.full(len(first), float(length)), clusters)
    of_sequences = max(0.0, error**2 - of_masks / 2)
    room = target**2 - of_sequences
    needed = of_masks / room if room > 0 else math.inf
    wanted = needed if room > 0 else of_masks / ((NEAR_THE_LIMIT**2 - 1) * of_sequences)
    blocks = max(2, min(LARGEST_MULTIPLE, math.ceil(wanted)))
    return Plan(blocks=blocks, needed=needed, limit=math.sqrt(of_sequences))


def draw(
    block: Callable[[int, int], FloatArray], target: float, length: int, clusters: IntArray
) -> tuple[FloatArray, Plan]:
    """(N,) nats per sequence over all blocks that the target takes. `block(number, of how many)` draws one."""
    made = [block(number, 2) for number in range(2)]
    found = plan(made[0], made[1], target, length, clusters)
    made += [block(number, found.blocks) for number in range(2, found.blocks)]
    return np.asarray(np.mean(made, axis=0)), found


def shortfall(title: str, target: float, error: float, limit: float, draws: int, largest: int, sequences: int) -> str:
    """One line where the target was not reached for a reason; nothing if it was, or was missed by luck alone."""
    start = f"target of ±{target:g} nats/token not reached: {title} has ±{error:.2g} at {draws} mask draws; "
    if limit >= target:
        enough = math.ceil(sequences * (limit / target) ** 2)
        return start + (
            f"its {sequences} sequences alone leave ±{limit:.2g} however many masks are drawn: "
            f"more than {enough} of them are needed (likelihood.sequences)"
        )
    if error > target and draws >= largest:
        return start + f"that is the most ({LARGEST_MULTIPLE} times likelihood.mask_draws): raise likelihood.mask_draws"
    return ""

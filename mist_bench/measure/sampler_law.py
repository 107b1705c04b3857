"""The exact law of a sampler on a world small enough to enumerate.

The law over the (V + 1)^L states is computed from step to step, each of which is enumerated by `one_step`. Nothing is
sampled: the only error is the float32 rounding of the posterior.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..api.component import FloatArray, IntArray, UserError
from ..api.corpora import Oracle
from ..api.samplers import Sampler, block_shares, most_steps
from ..api.schedules import Schedule
from ..inference.timetable import Timetable, timetable
from .one_step import CHUNK, sequences, transitions
from .start import BoolArray, Start

if TYPE_CHECKING:
    from tinygrad import Tensor

MOST_STATES, MOST_ROWS = 100_000, 1_000_000
OF_THE_TIMETABLE = ("reveal_probability", "alpha_t", "alpha_s", "target_masked")


def sampler_law(
    sampler: Sampler,
    schedule: Schedule,
    steps: int,
    log_posterior: Callable[[Tensor], Tensor],
    length: int,
    vocab_size: int,
    *,
    temperature: float = 1.0,
    frequencies: FloatArray | None = None,
) -> FloatArray | None:
    """The probability of each of `sequences(length, vocab_size)` when all L positions are sampled, (V^L,).

    `log_posterior`: (B, L) tokens with masks -> (B, L, V); `frequencies` (V,) for samplers that need them. None if
    the world is too large, the sampler has a state, its noise is continuous, or it needs frequencies that are missing.
    Raises `UserError` if something stays masked after the last step.
    """
    if not _enumerable(sampler, length, vocab_size) or ("log_frequency" in sampler.needs and frequencies is None):
        return None
    states = sequences(length, vocab_size + 1)
    masked = states == vocab_size
    answers = _answers(log_posterior, states)
    law = np.zeros(len(states))
    law[-1] = 1.0  # all masked
    for step, share, last, opened, table in _steps(sampler, schedule, steps, length):
        moving = (law > 0) & ((masked & opened).any(axis=1) | (sampler.remasks and not sampler.adaptive))
        alive = np.flatnonzero(moving)
        if not len(alive):
            continue
        place = min(step, len(table) - 1)
        one = {name: getattr(table, name)[place].repeat(len(alive)) for name in OF_THE_TIMETABLE}
        start = Start(
            tokens=states[alive],
            free=np.tile(opened, (len(alive), 1)),
            log_probabilities=answers[alive],
            to_fill=np.full(len(alive), opened.sum()),
            **one,
            step=step,
            steps=share,
            last=last,
            frequencies=frequencies,
        )
        heat = temperature * sampler.heat(min(step, share - 1), share)
        origin, after, weight = transitions(sampler, start, temperature=heat)
        number = after @ (vocab_size + 1) ** np.arange(length - 1, -1, -1)
        law = np.where(moving, 0.0, law) + np.bincount(number, law[alive][origin] * weight, minlength=len(states))
    if law[masked.any(axis=1)].any():
        raise UserError(f"sampler {sampler.spec!r} leaves positions masked after its last step")
    complete: FloatArray = law[~masked.any(axis=1)]
    return complete


def _steps(
    sampler: Sampler, schedule: Schedule, steps: int, length: int
) -> Iterator[tuple[int, int, bool, BoolArray, Timetable]]:
    """Each step of each block: its number, the block's steps, whether it is the last, the positions that are open (L,),
    and the block's timetable, for one text."""
    size = sampler.block_size or length
    for block, (share, many) in enumerate(block_shares(steps, length, size)):
        table = timetable(sampler, schedule, share, np.array([many]), np.full((1, length), 0.5))
        opened = np.arange(length) // size == block
        for step in range(most_steps(sampler, share, many)):
            yield step, share, not sampler.adaptive and step == len(table) - 1, opened, table


def _enumerable(sampler: Sampler, length: int, vocab_size: int) -> bool:
    rows = {
        "none": (vocab_size + 1) ** length,
        "bernoulli": (2 * vocab_size + 1) ** length,
        "order": math.factorial(length) * vocab_size**length,
        "coin": (4 * vocab_size) ** length,
    }
    small = (vocab_size + 1) ** length <= MOST_STATES and rows.get(sampler.choice, math.inf) <= MOST_ROWS
    return small and "previous_log_probabilities" not in sampler.needs and not sampler.initial_state(1, length)


def _answers(log_posterior: Callable[[Tensor], Tensor], states: IntArray) -> FloatArray:
    """(N, L) -> (N, L, V), in chunks of one shape."""
    from tinygrad import Tensor

    parts = []
    for low in range(0, len(states), CHUNK):
        some = np.minimum(np.arange(low, low + CHUNK), len(states) - 1)
        answer = log_posterior(Tensor(states[some].astype(np.int32))).numpy()
        parts.append(answer[: len(states) - low].astype(np.float64))
    return np.concatenate(parts)


def total_variation(p: FloatArray, q: FloatArray) -> float:
    """Half the sum of absolute differences."""
    return float(np.abs(p - q).sum() / 2)


def law_distance(
    sampler: Sampler, schedule: Schedule, steps: int, oracle: Oracle, *, temperature: float = 1.0,
    frequencies: FloatArray | None = None,
) -> float | None:  # fmt: skip
    """Total variation between the sampler's own law under the perfect denoiser and the truth; None as `sampler_law`."""
    length, vocab_size = oracle.length, oracle.vocab_size
    law = sampler_law(
        sampler, schedule, steps, oracle.log_posterior, length, vocab_size, temperature=temperature,
        frequencies=frequencies,
    )  # fmt: skip
    if law is None:
        return None
    return total_variation(law, np.exp(oracle.log_probability(sequences(length, vocab_size))))

"""The steps of a generation, planned on the host: no device is needed to make a plan or to go through it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..api.component import FloatArray, IntArray
from ..api.samplers import Sampler, block_shares, most_steps
from ..api.schedules import Schedule
from ..engine import noise
from ..engine.packed import Words
from .step import step_inputs
from .timetable import timetable

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Block:
    """The positions that are filled by one run of a sampler: all of a text, or some from left to right."""

    free: BoolArray
    """(B, L) the positions that it may fill."""
    texts: BoolArray
    """(B,) the texts that have such a block."""
    steps: int
    seed: int


def blocks(sampler: Sampler, free: BoolArray, steps: int, seed: int) -> Iterator[Block]:
    """The blocks of a batch, in order: (B, L) `free` positions, `block_size` of them at a time.

    Texts with the same number of blocks share a clock and are filled together. Each block has random times of its own;
    those of the first block are the times of a sampler without blocks.
    """
    if sampler.block_size is None:
        yield Block(free=free, texts=np.ones(len(free), dtype=np.bool_), steps=steps, seed=seed)
        return
    size = sampler.block_size
    block = np.where(free, free.cumsum(axis=1) - 1, -1) // size
    count = block.max(axis=1) + 1
    for many in np.unique(count[count > 0]):
        texts = count == many
        for i, (share, _) in enumerate(block_shares(steps, many * size, size)):
            own = noise.seed_of(axis="block", seed=seed, block=i) if i else seed
            yield Block(free=(block == i) & texts[:, None], texts=texts, steps=share, seed=own)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a sampler."""

    number: int
    words: Words
    """Its packed inputs."""
    most: int
    """No text has more masked positions before it."""


class StepPlan:
    """The steps of one block, in order, without those that are known to reveal nothing.

    `masked`: (B, L) masked positions, also those outside the block; `every_step`: no step may be skipped; `by_rows`:
    `Step.most` should be as small as possible; `limit`: stop after so many steps.

    Iterate over it once. The text decides when an adaptive sampler ends: assign `left` after each step of one.
    """

    def __init__(
        self, sampler: Sampler, schedule: Schedule, block: Block, masked: BoolArray, sequences: IntArray, *,
        temperature: float = 1.0, every_step: bool = False, by_rows: bool = False, limit: int | None = None,
    ) -> None:  # fmt: skip
        self.sampler, self.schedule, self.steps, self.seed = sampler, schedule, block.steps, block.seed
        self.temperature, self.limit, self.length = temperature, limit, masked.shape[1]
        self.to_fill: IntArray = block.free.sum(axis=1)
        self.left: IntArray = self.to_fill
        """(B,) positions of the block that are masked; read only if the sampler is adaptive."""
        uniform = noise.uniform_numpy(self.seed, 0, noise.TIMES, sequences, self.length)
        self.timetable = timetable(sampler, schedule, self.steps, self.to_fill, uniform)
        self.layout = step_inputs(len(masked))
        self._outside: IntArray = (masked & ~block.free).sum(axis=1)
        self._inside: IntArray | None = self.to_fill
        self.skips = sampler.skips_idle_steps and not every_step
        self._coins: Coins | None = None
        if self.skips or (by_rows and sampler.reveals == "chance"):
            self._coins = Coins(self.timetable.reveal_probability, block.free, self.seed, sequences)

    def __iter__(self) -> Iterator[Step]:
        planned = max((most_steps(self.sampler, self.steps, int(m)) for m in self.to_fill), default=0)
        taken = 0
        for number in range(max(planned, self.limit or 0)):
            if taken == self.limit or (self.sampler.adaptive and not self.left.any()):
                return
            most = self._most()
            idle = not self._advance(number)
            if not (self.skips and idle):
                taken += 1
                yield Step(number=number, words=self.inputs(number), most=most)

    @property
    def evaluations(self) -> IntArray:
        """(B,) network evaluations that each text needs, after the iteration; not for adaptive samplers."""
        if self.skips and self._coins is not None:
            return self._coins.used * self.sampler.evaluations
        # every step of the plan is evaluated, whatever is masked by then
        return np.array([self.sampler.nfe(self.steps, int(m)) for m in self.to_fill])

    def inputs(self, number: int) -> Words:
        """The packed inputs of this step."""
        table, adaptive = self.timetable, self.sampler.adaptive
        place = min(number, len(table) - 1)
        return self.layout.pack(
            t=_time_of(self.schedule, self.left, self.to_fill) if adaptive else table.t[place],
            reveal_probability=table.reveal_probability[place], alpha_t=table.alpha_t[place],
            alpha_s=table.alpha_s[place], to_fill=self.to_fill, target_masked=table.target_masked[place],
            temperature=[self.temperature * self.sampler.heat(min(number, self.steps - 1), self.steps)],
            step=[number], steps=[self.steps], last=[not adaptive and number == len(table) - 1],
            key=noise.key_words(self.seed, number),
        )  # fmt: skip

    def _most(self) -> int:
        """How many positions of a text are masked now, at most."""
        inside = self.left if self.sampler.adaptive else self._inside
        return self.length if inside is None else int((inside + self._outside).max())

    def _advance(self, number: int) -> bool:
        """Note what this step reveals, as far as the host knows; False if it reveals nothing."""
        if self._coins is not None:
            reveals = self._coins.reveal(number)
            self._inside = self._coins.masked.sum(axis=1)
            return reveals
        if self.sampler.reveals != "schedule":
            self._inside = None
        elif self._inside is not None:
            stay = self.timetable.target_masked[min(number, len(self.timetable) - 1)]
            self._inside = self.sampler.most_left(self._inside, stay, self.to_fill, number, self.steps)
        return True


class Coins:
    """Predict on the host which positions the coins reveal, so that steps that reveal none need no evaluation.

    The cache of MDLM uses an answer again until the text has changed. To evaluate only at steps that reveal something
    takes no more evaluations, and also works for a network that sees more than the text.
    """

    def __init__(self, reveal_probability: FloatArray, free: BoolArray, seed: int, sequences: IntArray) -> None:
        self.masked, self.seed, self.sequences = free.copy(), seed, sequences
        self.chance = reveal_probability.astype(np.float32)  # (n, B), as the device compares
        self.used: IntArray = np.zeros(len(free), dtype=np.int64)
        """(B,) steps so far that revealed something in each text."""

    def reveal(self, step: int) -> bool:
        """Whether any text reveals anything at this step. Call it for every step, in order."""
        uniform = noise.uniform_numpy(self.seed, step, noise.CHOICE, self.sequences, self.masked.shape[1])
        revealed = self.masked & (uniform < self.chance[min(step, len(self.chance) - 1)][:, None])
        self.masked &= ~revealed
        self.used += revealed.any(axis=1)
        return bool(revealed.any())


def _time_of(schedule: Schedule, left: IntArray, to_fill: IntArray) -> FloatArray:
    """(B,) the time at which so much is masked, for samplers whose text decides how many tokens a step reveals."""
    inside = schedule.inverse(left / np.maximum(to_fill, 1))
    return np.where(left == 0, 0.0, np.where(left == to_fill, 1.0, inside))

"""Generation: a sampler run over its steps, with the loop on the device and nothing fetched inside it.

A step is two captured graphs: the model's answer (one for all samplers) and the sampler's own step (a handful of
kernels). Noise belongs to the sequence's number, so a sequence comes out the same in any batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from tinygrad import Tensor

from ..api.component import FloatArray, IntArray
from ..api.log_probabilities import pick
from ..api.samplers import Sampler, block_shares, most_steps
from ..api.schedules import Schedule
from ..api.view import View
from ..engine import noise
from ..engine.graph import Graph, Inbox
from .masked import MaskedEvaluator
from .step import Needs, on_device, pack_step, unpack_step

BoolArray = npt.NDArray[np.bool_]
PREVIOUS = "previous_log_probabilities"
Watch = Callable[[int, IntArray, IntArray], None]
"""(step, tokens (B, L) with masks, guesses (B, L))."""


class SamplerGraph:
    """The captured step of one sampler: it serves every step, step count and schedule.

    `frequencies` (V,) of the train split are for samplers that need them.
    """

    def __init__(
        self, sampler: Sampler, batch: int, length: int, mask: int, frequencies: FloatArray | None = None
    ) -> None:
        if "log_frequency" in sampler.needs and frequencies is None:
            raise TypeError(f"sampler {sampler.spec!r} needs the frequencies of tokens")
        self.sampler, self.mask, self.batch, self.length = sampler, mask, batch, length
        self.asks = Needs.of(sampler).names
        self.initial = sampler.initial_state(batch, length)
        if PREVIOUS in sampler.needs:
            self.initial[PREVIOUS] = Tensor.zeros(batch, length, mask).contiguous()
        self.names = sorted(self.initial)
        for tensor in self.initial.values():
            tensor.realize()
        self.log_frequency: Tensor | None = None
        if "log_frequency" in sampler.needs and frequencies is not None:
            self.log_frequency = on_device(np.log(frequencies), np.float32).reshape(1, 1, mask)
        self.free, self.nfe = Inbox(batch, length, dtype="bool"), Inbox(batch)
        self.state = [self.initial[name].clone().realize() for name in self.names]
        self.graph = Graph(f"sampler {sampler.spec}", self._step)

    def begin(self, free: BoolArray) -> None:
        """The state as it is before the first step, and (B, L) what may be filled."""
        self.free(free)
        self.nfe(np.zeros(self.batch, dtype=np.int32))
        for name, now in zip(self.names, self.state, strict=True):
            now.assign(self.initial[name]).realize()

    def step(self, evaluator: MaskedEvaluator, told: dict[str, Tensor]) -> None:
        """One step from the evaluator's answer: it changes the evaluator's tokens where they lie."""
        answer = [told[name] for name in self.asks]
        self.graph(
            evaluator.tokens.tensor, self.free.tensor, answer, evaluator.told.tensor, evaluator.ids.tensor,
            self.nfe.tensor, self.state,
        )  # fmt: skip

    def _step(
        self, tokens: Tensor, free: Tensor, answer: list[Tensor], packed: Tensor, sequences: Tensor, nfe: Tensor,
        state: list[Tensor],
    ) -> Tensor:  # fmt: skip
        """`packed`: numbers (5, B) are reveal probability, alpha(t), alpha(s), M, round(m(s) M). `tokens`, `nfe` and
        `state` are read, and then written."""
        _, numbers, _, counts, key = unpack_step(packed, self.batch)
        remembered, told = dict(zip(self.names, state, strict=True)), dict(zip(self.asks, answer, strict=True))
        previous = remembered.pop(PREVIOUS, None)
        view = View.of(
            self.sampler.needs, tokens=tokens, mask=self.mask, free=free, previous_log_probabilities=previous,
            log_frequency=None if self.log_frequency is None else pick(self.log_frequency, answer[0]),
            uniform=noise.uniform(key, noise.CHOICE, sequences, self.length).contiguous(),
            step=counts[0:1], steps=counts[1:2], last=counts[2:3] > 0,
            reveal_probability=numbers[0], alpha_t=numbers[1], alpha_s=numbers[2],
            to_fill=numbers[3].int(), target_masked=numbers[4].int(),
            **told,
        )  # fmt: skip
        going = view.masked.max(axis=1)
        after, new_state = self.sampler.step(view, remembered)
        if previous is not None:
            new_state = {**new_state, PREVIOUS: told["log_probabilities"]}
        for name, old in zip(self.names, state, strict=True):
            new = new_state[name]
            if (old.shape, old.dtype) != (new.shape, new.dtype):
                raise TypeError(
                    f"state {name!r} begins as {old.shape} {old.dtype} and becomes {new.shape} {new.dtype}; give the "
                    "same shapes and types as initial_state"
                )
        # the steps of an adaptive sampler end for each sequence by itself, also if it would mask something again
        moves = free & going.unsqueeze(-1) if self.sampler.adaptive else free
        kept = moves.where(after, tokens).int().contiguous()
        used = (nfe + going.int() * self.sampler.evaluations).contiguous()
        # copies first: a sampler may remember an input itself, whose buffer is written here; an answer's is not
        rest = [new_state[name] if name == PREVIOUS else new_state[name].clone() for name in self.names]
        Tensor.realize(kept, used, *rest)
        Tensor.realize(*(old.assign(new) for old, new in zip([tokens, nfe, *state], [kept, used, *rest], strict=True)))
        return tokens


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The numbers of every step of a batch, host float64: (n, 5, B), times (n, B), and the steps asked for."""

    numbers: FloatArray
    times: FloatArray
    steps: int


def grid(sampler: Sampler, schedule: Schedule, steps: int, to_fill: IntArray, uniform: FloatArray) -> Grid:
    """What each step is told. alpha(0) = 1 and alpha(1) = 0 are enforced, so that the last step reveals all."""
    times = sampler.times(schedule, steps, to_fill, uniform)
    alpha = np.where(times <= 0, 1.0, np.where(times >= 1, 0.0, schedule.alpha(np.clip(times, 0.0, 1.0))))
    alpha_t, alpha_s = alpha[:, :-1], alpha[:, 1:]
    reveal = np.where(alpha_t < 1, (alpha_s - alpha_t) / np.maximum(1 - alpha_t, 1e-300), 1.0)
    reveal = np.where(alpha_s >= 1, 1.0, reveal)
    many = np.broadcast_to(to_fill[:, None], alpha_s.shape)
    # round half up, with room for the last bit of alpha: 3.5 stays masked as 4 on every machine
    stay = np.floor((1 - alpha_s) * many + 0.5 + 1e-9)
    numbers = np.stack([reveal, alpha_t, alpha_s, many, stay], axis=0).transpose(2, 0, 1)
    return Grid(numbers=numbers, times=times[:, :-1].T, steps=steps)


def generate(
    evaluator: MaskedEvaluator, graph: SamplerGraph, schedule: Schedule, steps: int, tokens: IntArray,
    *, seed: int, sequences: IntArray, temperature: float, watch: Watch | None = None, limit: int | None = None,
) -> tuple[IntArray, IntArray]:  # fmt: skip
    """(B, L) tokens with masks -> (B, L) filled, and (B,) network evaluations used.

    `sequences` (B,) are the numbers that noise belongs to; `limit` stops after so many evaluations (to capture graphs).
    """
    free = tokens == graph.mask
    how: dict[str, Any] = {"seed": seed, "sequences": sequences, "temperature": temperature, "limit": limit}
    if graph.sampler.block_size is None:
        return _run(evaluator, graph, schedule, steps, tokens, free, free, watch=watch, **how)
    return _in_blocks(evaluator, graph, schedule, steps, tokens, free, graph.sampler.block_size, watch=watch, **how)


def _in_blocks(
    evaluator: MaskedEvaluator, graph: SamplerGraph, schedule: Schedule, steps: int, tokens: IntArray, free: BoolArray,
    size: int, *, seed: int, sequences: IntArray, temperature: float, watch: Watch | None, limit: int | None,
) -> tuple[IntArray, IntArray]:  # fmt: skip
    """`generate`, one block of `size` positions to fill after another. Sequences of as many blocks share a clock, and
    are filled together; random times are others for each block, and the first block's those without blocks."""
    block = np.where(free, free.cumsum(axis=1) - 1, -1) // size
    count = block.max(axis=1) + 1
    used = np.zeros(len(tokens), dtype=np.int64)
    for many in np.unique(count[count > 0]):
        done = 0
        for i, (share, _) in enumerate(block_shares(steps, many * size, size)):
            opened = (block == i) & (count == many)[:, None]
            own = noise.seed_of(axis="block", seed=seed, block=i) if i else seed
            look = None if watch is None else _later(watch, done)
            tokens, nfe = _run(evaluator, graph, schedule, share, tokens, opened, free, seed=own, sequences=sequences,
                               temperature=temperature, watch=look, limit=limit)  # fmt: skip
            used += np.where(opened.any(axis=1), nfe, 0)
            done = int(used[count == many].max()) // graph.sampler.evaluations
            if limit is not None:
                return tokens, used
    return tokens, used


def _later(watch: Watch, done: int) -> Watch:
    """What looks on at a block, told the steps from the beginning of the text."""
    return lambda step, tokens, guesses: watch(done + step, tokens, guesses)


def _run(
    evaluator: MaskedEvaluator, graph: SamplerGraph, schedule: Schedule, steps: int, tokens: IntArray, free: BoolArray,
    unfixed: BoolArray, *, seed: int, sequences: IntArray, temperature: float, watch: Watch | None, limit: int | None,
) -> tuple[IntArray, IntArray]:  # fmt: skip
    """`generate` for the positions (B, L) that are `free`; the rest stays, masks too. `unfixed`: all but the prompt."""
    sampler, mask = graph.sampler, graph.mask
    if not evaluator.answers(Needs.of(sampler)):
        raise TypeError(f"sampler {sampler.spec!r} needs an evaluator with {Needs.of(sampler)}")
    to_fill = free.sum(axis=1)
    uniform = noise.uniform_numpy(seed, 0, noise.TIMES, sequences, tokens.shape[1])
    plan = grid(sampler, schedule, steps, to_fill, uniform)
    if limit is not None:
        words = pack_step(plan.times[0], plan.numbers[0], (0, steps, 0), noise.key_words(seed, 0))
        evaluator.capture(words, partial(graph.step, evaluator))
    evaluator.begin(tokens, unfixed, sequences)
    graph.begin(free)
    now = evaluator.tokens.tensor
    left, asked = to_fill, 0
    # a network that is told its last answer must be asked at every step
    skips = sampler.skips_idle_steps and not evaluator.model.self_conditioned
    by_chance = skips or (evaluator.rows is not None and sampler.reveals == "chance")
    chances = _Chances(plan, free, seed, sequences) if by_chance else None
    count = _MostMasked(sampler, plan, tokens == mask, free, chances)
    planned = max((most_steps(sampler, steps, int(m)) for m in to_fill), default=0)
    for step in range(max(planned, limit or 0)):
        if asked == limit or (sampler.adaptive and not left.any()):
            break
        most = count.before(step, left)
        if skips and count.idle:
            continue
        asked += 1
        place = min(step, len(plan.numbers) - 1)
        last = not sampler.adaptive and step == len(plan.numbers) - 1
        t = _time_of(schedule, left, to_fill) if sampler.adaptive else plan.times[place]
        heat = temperature * sampler.heat(min(step, steps - 1), steps)
        words = pack_step(t, plan.numbers[place], (step, steps, last), noise.key_words(seed, step), heat)
        told = evaluator.answer(words, most)
        if watch is not None:
            watch(step, now.numpy(), told["proposal"].numpy())
        graph.step(evaluator, told)
        if sampler.adaptive:
            left = ((now.numpy() == mask) & free).sum(axis=1)
    if evaluator.missed.tensor.numpy().any():
        raise TypeError(f"sampler {sampler.spec!r} leaves more masked than `most_left` or `reveals` says")
    if sampler.adaptive:
        return np.asarray(now.numpy()), graph.nfe.tensor.numpy()
    if skips and chances is not None:
        return np.asarray(now.numpy()), chances.used * sampler.evaluations
    # a sampler that keeps to its plan evaluates every step of it, whatever is masked by then
    return np.asarray(now.numpy()), np.array([sampler.nfe(steps, int(m)) for m in to_fill])


class _MostMasked:
    """How many positions of a sequence are masked at most before each step: as many need be asked about."""

    def __init__(
        self, sampler: Sampler, plan: Grid, masked: BoolArray, free: BoolArray, chances: _Chances | None
    ) -> None:
        self.sampler, self.plan, self.chances, self.length = sampler, plan, chances, masked.shape[1]
        self.outside = (masked & ~free).sum(axis=1)
        self.inside: IntArray | None = free.sum(axis=1)
        self.idle = False
        """Whether nothing is revealed at the step that was last asked for."""

    def before(self, step: int, left: IntArray) -> int:
        """Must be asked for every step, in order. `left` (B,): what an adaptive sampler has been seen to leave."""
        now = left if self.sampler.adaptive else self.inside
        if self.chances is not None:
            self.idle = not self.chances.reveal(step)
            self.inside = self.chances.masked.sum(axis=1)
        elif self.sampler.reveals != "schedule":
            self.inside = None
        elif self.inside is not None:
            many, stay = self.plan.numbers[min(step, len(self.plan.numbers) - 1), 3:].astype(np.int64)
            self.inside = self.sampler.most_left(self.inside, stay, many, step, self.plan.steps)
        return self.length if now is None else int((now + self.outside).max())


class _Chances:
    """What is revealed by chance, told from the noise alone. Asking where nothing is would change nothing.

    MDLM's cache takes an answer again until the text has changed. Asking where something is revealed, and only there,
    takes no more evaluations, and needs no network that sees the text alone.
    """

    def __init__(self, plan: Grid, free: BoolArray, seed: int, sequences: IntArray) -> None:
        self.masked, self.seed, self.sequences = free.copy(), seed, sequences
        self.chance = plan.numbers[:, 0].astype(np.float32)  # (n, B), as the device compares
        self.used: IntArray = np.zeros(len(free), dtype=np.int64)
        """Evaluations that each sequence has needed so far (B,)."""

    def reveal(self, step: int) -> bool:
        """Whether any sequence reveals anything at this step. Must be asked for every step, in order."""
        uniform = noise.uniform_numpy(self.seed, step, noise.CHOICE, self.sequences, self.masked.shape[1])
        revealed = self.masked & (uniform < self.chance[min(step, len(self.chance) - 1)][:, None])
        self.masked &= ~revealed
        self.used += revealed.any(axis=1)
        return bool(revealed.any())


def _time_of(schedule: Schedule, left: IntArray, to_fill: IntArray) -> FloatArray:
    """(B,) the time at which as much is masked as is left: what no plan can say where the text decides."""
    inside = schedule.inverse(left / np.maximum(to_fill, 1))
    return np.where(left == 0, 0.0, np.where(left == to_fill, 1.0, inside))

"""Generation: a sampler runs over its steps on the device, and nothing is fetched within the loop.

A step is two captured graphs: the answer of the model (one graph for all samplers) and the sampler's own step (a few
kernels). Noise belongs to the number of a sequence, so a sequence comes out the same in any batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np
from tinygrad import Tensor, dtypes

from ..api.component import FloatArray, IntArray, UserError
from ..api.log_probabilities import pick
from ..api.samplers import NOT_SCORED, Sampler
from ..api.schedules import Schedule
from ..api.view import State, View
from ..engine import noise
from ..engine.graph import Graph, Inbox
from .denoiser import Answer
from .masked import MaskedEvaluator
from .plan import Block, BoolArray, StepPlan, blocks
from .step import Needs, on_device, step_inputs
from .texts import DeviceTexts

PREVIOUS = "previous_log_probabilities"
Watch = Callable[[int, IntArray, IntArray], None]
"""(step, tokens (B, L) with masks, proposals (B, L))."""


class Told(Protocol):
    """Texts that a sampler is told in place of what it would draw (`replay`)."""

    texts: IntArray
    """(B, L)."""

    def instead(self, answer: Answer) -> Answer:
        """The answer as if the texts had been drawn."""

    def add(self, answer: Answer) -> None:
        """Called after the step that follows an answer."""


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
        self.layout, self.reads = step_inputs(batch), Needs.of(sampler).names
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
        """Reset the state to that before the first step; (B, L) `free` positions may be filled."""
        self.free(free)
        self.nfe(np.zeros(self.batch, dtype=np.int32))
        for name, now in zip(self.names, self.state, strict=True):
            now.assign(self.initial[name]).realize()

    def step(self, texts: DeviceTexts, answer: Answer) -> None:
        """Take one step from the denoiser's answer: the tokens change in their buffer."""
        parts = [answer[name] for name in self.reads]
        self.graph(
            texts.tokens.tensor, self.free.tensor, parts, texts.inputs.tensor, texts.sequences.tensor, self.nfe.tensor,
            self.state,
        )  # fmt: skip

    def _step(
        self, tokens: Tensor, free: Tensor, answer: list[Tensor], packed: Tensor, sequences: Tensor, nfe: Tensor,
        state: list[Tensor],
    ) -> Tensor:  # fmt: skip
        """Within the graph. `tokens`, `nfe` and `state` are read, and then written."""
        inputs = self.layout.unpack(packed)
        remembered, given = dict(zip(self.names, state, strict=True)), dict(zip(self.reads, answer, strict=True))
        previous = remembered.pop(PREVIOUS, None)
        view = View.of(
            self.sampler.needs, tokens=tokens, mask=self.mask, free=free, previous_log_probabilities=previous,
            log_frequency=None if self.log_frequency is None else pick(self.log_frequency, answer[0]),
            uniform=noise.uniform(inputs.key, noise.CHOICE, sequences, self.length).contiguous(),
            step=inputs.step, steps=inputs.steps, last=inputs.last > 0, reveal_probability=inputs.reveal_probability,
            alpha_t=inputs.alpha_t, alpha_s=inputs.alpha_s, to_fill=inputs.to_fill, target_masked=inputs.target_masked,
            **given,
        )  # fmt: skip
        going = view.masked.max(axis=1)
        after, new_state = self._stepped(view, remembered)
        if previous is not None:
            new_state = {**new_state, PREVIOUS: given["log_probabilities"]}
        for name, old in zip(self.names, state, strict=True):
            new = new_state[name]
            if (old.shape, old.dtype) != (new.shape, new.dtype):
                raise TypeError(
                    f"state {name!r} begins as {old.shape} {old.dtype} and becomes {new.shape} {new.dtype}; give the "
                    "same shapes and types as initial_state"
                )
        # an adaptive sampler ends for each sequence by itself, even if it would mask something again
        moves = free & going.unsqueeze(-1) if self.sampler.adaptive else free
        filled = moves.where(after, tokens).int().contiguous()
        used = (nfe + going.int() * self.sampler.evaluations).contiguous()
        # copies first: a sampler may remember an input itself, whose buffer is written here; an answer's is not
        rest = [new_state[name] if name == PREVIOUS else new_state[name].clone() for name in self.names]
        Tensor.realize(filled, used, *rest)
        buffers, values = [tokens, nfe, *state], [filled, used, *rest]
        Tensor.realize(*(old.assign(new) for old, new in zip(buffers, values, strict=True)))
        return tokens


    def _stepped(self, view: View, state: State) -> tuple[Tensor, State]:
        """What the sampler's step gives. Raises `UserError` for what would be broadcast, cut or lost."""
        made: Any = self.sampler.step(view, state)
        if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], dict)):
            raise UserError(f"sampler {self.sampler.spec!r}: step gives {type(made).__name__}; return tokens, state")
        after, new_state = made
        if not isinstance(after, Tensor) or after.shape != view.tokens.shape or not dtypes.is_int(after.dtype):
            found = f"{after.dtype} {after.shape}" if isinstance(after, Tensor) else type(after).__name__
            raise UserError(
                f"sampler {self.sampler.spec!r}: step gives tokens of {found}; give int {view.tokens.shape}, e.g. "
                "reveal.where(view.proposal, view.tokens)"
            )
        if lost := [name for name in self.names if name != PREVIOUS and name not in new_state]:
            raise UserError(f"sampler {self.sampler.spec!r}: step gives no state {lost[0]!r}, which initial_state has")
        return after, new_state


def generate(
    evaluator: MaskedEvaluator, graph: SamplerGraph, schedule: Schedule, steps: int, tokens: IntArray,
    *, seed: int, sequences: IntArray, temperature: float, watch: Watch | None = None, limit: int | None = None,
    told: Told | None = None,
) -> tuple[IntArray, IntArray]:  # fmt: skip
    """(B, L) tokens with masks -> (B, L) filled, and (B,) network evaluations used.

    `sequences` (B,) are the numbers that noise belongs to; `limit` stops after so many evaluations (to capture graphs);
    `told`: what stands in place of what is drawn.
    """
    sampler, needs = graph.sampler, Needs.of(graph.sampler)
    if not evaluator.answers(needs):
        raise TypeError(f"sampler {sampler.spec!r} needs an evaluator with {needs}")
    free, used = tokens == graph.mask, np.zeros(len(tokens), dtype=np.int64)
    for block in blocks(sampler, free, steps, seed):
        plan = StepPlan(
            sampler, schedule, block, tokens == graph.mask, sequences, temperature=temperature, limit=limit,
            every_step=evaluator.denoiser.every_step, by_rows=evaluator.denoiser.by_rows,
        )  # fmt: skip
        if limit is not None:
            _capture(evaluator, graph, plan)
        evaluator.texts.begin(tokens, free, sequences, None if told is None else told.texts)
        done = int(used[block.texts].max(initial=0)) // sampler.evaluations
        tokens, nfe = _fill(evaluator, graph, block, plan, None if watch is None else _later(watch, done), told)
        used[block.texts] += nfe[block.texts]
        if limit is not None:
            break
    _check_ids(tokens, graph)
    return tokens, used


def _check_ids(tokens: IntArray, graph: SamplerGraph) -> None:
    """Raise `UserError` for what is no token."""
    wrong = tokens[(tokens < 0) | (tokens > graph.mask)]
    if wrong.size:
        why = "its scores are not numbers" if (wrong == NOT_SCORED).any() else f"tokens are 0 to {graph.mask - 1}"
        raise UserError(f"sampler {graph.sampler.spec!r} gives {wrong[0]} as a token; {why}")


def _capture(evaluator: MaskedEvaluator, graph: SamplerGraph, plan: StepPlan) -> None:
    """Capture all graphs that the plan may need; the texts are not those of the plan."""
    evaluator.texts.give(plan.inputs(0))
    evaluator.denoiser.capture(evaluator.texts, partial(graph.step, evaluator.texts))


def _later(watch: Watch, done: int) -> Watch:
    """Watch a block, with steps counted from the beginning of the text."""
    return lambda step, tokens, proposals: watch(done + step, tokens, proposals)


def _fill(
    evaluator: MaskedEvaluator, graph: SamplerGraph, block: Block, plan: StepPlan, watch: Watch | None,
    told: Told | None,
) -> tuple[IntArray, IntArray]:  # fmt: skip
    """Fill the block in the texts on the device -> (B, L) tokens, and (B,) network evaluations."""
    texts, denoiser, sampler = evaluator.texts, evaluator.denoiser, graph.sampler
    now = texts.tokens.tensor
    denoiser.begin()
    graph.begin(block.free)
    for step in plan:
        texts.give(step.words)
        answer = denoiser.answer(texts, step.most)
        if watch is not None:
            watch(step.number, now.numpy(), answer["proposal"].numpy())
        graph.step(texts, answer if told is None else told.instead(answer))
        if told is not None:
            told.add(answer)
        if sampler.adaptive:
            plan.left = ((now.numpy() == graph.mask) & block.free).sum(axis=1)
    if denoiser.unanswered():
        raise TypeError(f"sampler {sampler.spec!r} leaves more masked than `most_left` or `reveals` says")
    return np.asarray(now.numpy()), graph.nfe.tensor.numpy() if sampler.adaptive else plan.evaluations

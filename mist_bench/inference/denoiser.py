"""A masked model behind captured graphs: proposals and their statistics for texts that lie on the device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
from tinygrad import Tensor

from ..api.families import MaskedModel
from ..api.log_probabilities import pick
from ..api.samplers import Sampler
from ..engine import noise
from ..engine.graph import Graph, Inbox
from .draw import draw, log_normaliser, statistics
from .step import Needs, StepInputs, step_inputs
from .texts import DeviceTexts

CERTAIN = {"log_probability": 0.0, "max_log_probability": 0.0, "margin": 1.0, "entropy": 0.0, "target": 0.0}
"""The statistics of a shown token: it stays."""
Answer = dict[str, Tensor]
"""(B, L) each, by name: `target`, `proposal`, the statistics of the proposal, and what `Needs` adds."""


def carried(answer: Answer, tokens: Tensor, mask: int) -> Answer:
    """(B, L) each: the answer where a position is masked; where a token is shown, that it stays."""
    masked = tokens == mask
    return {name: masked.where(value, tokens if name == "proposal" else CERTAIN[name])
            for name, value in answer.items()}  # fmt: skip


class Denoiser(ABC):
    """Answers for every position of the texts in `DeviceTexts`, which belong to the caller."""

    every_step = False
    """Whether it must be evaluated at every step, because its answer depends on the one before."""
    by_rows = False
    """Whether it evaluates only as many positions as may be masked."""

    def __init__(self, model: MaskedModel, batch: int, nucleus: float) -> None:
        self.model, self.batch, self.nucleus, self.layout = model, batch, nucleus, step_inputs(batch)

    @property
    @abstractmethod
    def graphs(self) -> list[Graph]:
        """All captured graphs."""

    @abstractmethod
    def answer(self, texts: DeviceTexts, most: int) -> Answer:
        """Evaluate the texts as they are. `most`: no text has more masked positions."""

    def first_answer(self, texts: DeviceTexts, most: int) -> Answer:
        """Evaluate texts that have nothing to do with those evaluated before, and remember nothing of them."""
        return self.answer(texts, most)

    def begin(self) -> None:  # noqa: B027 - most have nothing to forget
        """Forget everything about texts evaluated so far."""

    def capture(self, texts: DeviceTexts, then: Callable[[Answer], None]) -> None:  # noqa: B027 - or nothing to capture
        """Capture graphs that a generation may need later, and call `then` on the answer of each, so that nothing
        compiles while the clock runs. The texts change."""

    def unanswered(self) -> int:
        """How many masked positions got no answer since `begin`, because a text had more than `most`."""
        return 0

    def drop(self) -> None:
        """Free the memory of all graphs."""
        for graph in self.graphs:
            graph.drop()

    def uniform(self, inputs: StepInputs, sequences: Tensor) -> Tensor:
        """(B, L) the noise of the proposals."""
        return noise.uniform(inputs.key, noise.PROPOSAL, sequences, self.model.length).contiguous()

    def of_scores(self, scores: Tensor, targets: Tensor, uniform: Tensor, temperature: Tensor) -> Answer:
        """(B, K, V or more) scores, (B, K), (B, K) -> the answer for these positions if they are masked."""
        scores = scores.contiguous()
        proposal = draw(scores, uniform, temperature, self.nucleus).contiguous()
        target = pick(scores, targets) - log_normaliser(scores)
        return {"target": target, "proposal": proposal, **statistics(scores, proposal, normalised=False)}


class WholeDenoiser(Denoiser):
    """One graph that evaluates all positions; a self-conditioned model gets its last answer."""

    def __init__(self, name: str, model: MaskedModel, batch: int, nucleus: float, needs: Needs) -> None:
        super().__init__(model, batch, nucleus)
        self.needs, self.every_step = needs, model.self_conditioned
        self.graph = Graph(f"answer {name}", self._answer)
        self._carry = Graph(f"condition {name}", lambda old, new: old.assign(new).realize())
        self._last, self._nothing = self._conditions(), self._conditions()

    def _conditions(self) -> list[Inbox]:
        """An empty condition, for a self-conditioned model."""
        if not self.model.self_conditioned:
            return []
        return [Inbox(self.batch, self.model.length, int(self.model.parameters["tokens"].shape[1]), dtype="float32")]

    @property
    def graphs(self) -> list[Graph]:
        return [self.graph, self._carry]

    def begin(self) -> None:
        for condition in self._last:
            condition(np.zeros(condition.tensor.shape, dtype=np.float32))

    def answer(self, texts: DeviceTexts, most: int) -> Answer:
        answer = self._call(texts, self._last)
        for condition in self._last:
            self._carry(condition.tensor, answer["condition"])
        return answer

    def first_answer(self, texts: DeviceTexts, most: int) -> Answer:
        return self._call(texts, self._nothing)

    def _call(self, texts: DeviceTexts, conditions: list[Inbox]) -> Answer:
        answer: Answer = self.graph(*texts.tensors, texts.free.tensor, *(each.tensor for each in conditions))
        return answer

    # ---- within the graph

    def _answer(
        self, tokens: Tensor, targets: Tensor, packed: Tensor, sequences: Tensor, free: Tensor,
        previous: Tensor | None = None,
    ) -> Answer:  # fmt: skip
        inputs = self.layout.unpack(packed)
        uniform = self.uniform(inputs, sequences)
        plain = self.needs == Needs() and not self.model.self_conditioned
        hidden = self.model.hidden(tokens, inputs.t) if plain else None
        if hidden is None:
            whole, out = self._evaluate(tokens, inputs.t, free, previous)
            out |= self._of_log_probabilities(whole.contiguous(), targets, uniform, inputs.temperature)
        else:
            scored = self.of_scores(self.model.scores(hidden), targets, uniform, inputs.temperature)
            out = carried(scored, tokens, self.model.vocab_size)
        out = {name: value.contiguous() for name, value in out.items()}
        Tensor.realize(*out.values())
        return out

    def _of_log_probabilities(self, whole: Tensor, targets: Tensor, uniform: Tensor, temperature: Tensor) -> Answer:
        """The answer from all log-probabilities (B, L, V), in which shown tokens are carried over."""
        proposal = draw(whole, uniform, temperature, self.nucleus).contiguous()
        out = {"target": pick(whole, targets), "proposal": proposal, **statistics(whole, proposal)}
        if self.needs.whole:
            out["log_probabilities"] = whole
        if self.model.self_conditioned:
            out["condition"] = self.model.condition(whole)
        return out

    def _evaluate(self, tokens: Tensor, t: Tensor, free: Tensor, previous: Tensor | None) -> tuple[Tensor, Answer]:
        """All log-probabilities (B, L, V), and what is needed about shown tokens."""
        out: Answer = {}
        if self.needs.shown:  # the same expression as within `log_probabilities`, so the network still runs once
            own = self.model.free_log_probabilities(tokens, t, previous).contiguous()
            out["shown_log_probability"] = pick(own, tokens)
        if self.needs.left_out:
            whole, out["left_out_log_probability"] = self.model.left_out(tokens, t, previous)
            return whole, out
        if self.needs.asker is None:
            return self.model.log_probabilities(tokens, t, previous), out
        return self._by_sampler(self.needs.asker, tokens, t, free, previous), out

    def _by_sampler(
        self, sampler: Sampler, tokens: Tensor, t: Tensor, free: Tensor, previous: Tensor | None
    ) -> Tensor:
        """The result of `Sampler.evaluate`. Raises TypeError if it evaluates the network more or less often than
        declared."""
        calls: list[Tensor] = []

        def network(now: Tensor) -> Tensor:
            calls.append(self.model.log_probabilities(now, t, previous).contiguous())
            return calls[-1]

        whole = sampler.evaluate(network, tokens, free)
        if len(calls) != sampler.evaluations:
            raise TypeError(
                f"sampler {sampler.spec!r} evaluates the network {len(calls)} times a step and declares "
                f"{sampler.evaluations}"
            )
        return whole

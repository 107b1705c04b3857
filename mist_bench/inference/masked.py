"""A model behind one captured graph, for likelihood and generation alike.

A masked model answers for all positions at once: log-probabilities of given targets, a proposal and its statistics.
A causal model scores whole texts at once, and generates one position a call with its key-value cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import numpy.typing as npt
from tinygrad import Tensor

from ..api.component import FloatArray, IntArray
from ..api.families import MaskedModel
from ..api.log_probabilities import pick
from ..api.samplers import Sampler
from ..engine import noise
from ..engine.graph import Graph, Inbox
from .draw import draw, log_normaliser, statistics
from .masked_rows import MaskedRows, carried
from .step import Needs, Words, on_device, pack_step, unpack_step


class MaskedEvaluator:
    """One graph: (B, L) tokens with masks -> what samplers and estimators ask, by name."""

    def __init__(
        self, name: str, model: MaskedModel, batch: int, *, nucleus: float = 1.0, needs: Needs | None = None
    ) -> None:
        self.model, self.batch, self.nucleus, self.needs = model, batch, nucleus, needs or Needs()
        if self.needs.left_out and self.needs.asker:
            raise TypeError("a sampler that asks itself is not told what the others say of a shown token")
        self.told = Inbox(6 * batch + 1 + 3 + 2)
        self.tokens, self.targets = Inbox(batch, model.length), Inbox(batch, model.length)
        self.ids, self.free = Inbox(batch, dtype="uint32"), Inbox(batch, model.length, dtype="bool")
        self.missed = Inbox(1)
        model.keep_copies()
        self.graph = Graph(f"answer {name}", self._answer)
        self._carry = Graph(f"condition {name}", lambda old, new: old.assign(new).realize())
        self.rows: MaskedRows | None = None
        if self.plain and model.rows_pay:
            self.rows = MaskedRows(name, model, self._told_of, uniform=self._uniform,
                                   level=lambda packed: unpack_step(packed, batch).t)  # fmt: skip

    @property
    def graphs(self) -> list[Graph]:
        """All of them."""
        return [self.graph, self._carry, *(self.rows.graphs if self.rows else ())]

    def _answer(
        self, tokens: Tensor, targets: Tensor, packed: Tensor, sequences: Tensor, free: Tensor,
        previous: Tensor | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        told, uniform = unpack_step(packed, self.batch), self._uniform(packed, sequences)
        hidden = self.model.hidden(tokens, told.t) if self.plain else None
        if hidden is None:
            given, out = self._asked(tokens, told.t, free, previous)
            out |= self._told_of_all(given.contiguous(), targets, uniform, told.temperature)
        else:
            found = self._told_of(self.model.scores(hidden), targets, uniform, packed)
            out = carried(found, tokens, self.model.vocab_size)
        out = {name: value.contiguous() for name, value in out.items()}
        Tensor.realize(*out.values())
        return out

    @property
    def plain(self) -> bool:
        """Whether nothing is asked but proposals and their statistics."""
        return self.needs == Needs() and not self.model.self_conditioned

    def _uniform(self, packed: Tensor, sequences: Tensor) -> Tensor:
        key = unpack_step(packed, self.batch).key
        return noise.uniform(key, noise.PROPOSAL, sequences, self.model.length).contiguous()

    def _told_of(self, scores: Tensor, targets: Tensor, uniform: Tensor, packed: Tensor) -> dict[str, Tensor]:
        """(B, K, V or more) scores, (B, K), (B, K) -> all that is asked of these positions if they are masked."""
        scores = scores.contiguous()
        proposal = draw(scores, uniform, unpack_step(packed, self.batch).temperature, self.nucleus).contiguous()
        target = pick(scores, targets) - log_normaliser(scores)
        return {"target": target, "proposal": proposal, **statistics(scores, proposal, normalised=False)}

    def _told_of_all(self, given: Tensor, targets: Tensor, uniform: Tensor, temperature: Tensor) -> dict[str, Tensor]:
        """From the answer (B, L, V), what is seen carried over."""
        proposal = draw(given, uniform, temperature, self.nucleus).contiguous()
        out = {"target": pick(given, targets), "proposal": proposal, **statistics(given, proposal)}
        if self.needs.whole:
            out["log_probabilities"] = given
        if self.model.self_conditioned:
            out["condition"] = self.model.condition(given)
        return out

    def _asked(
        self, tokens: Tensor, t: Tensor, free: Tensor, previous: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The answer (B, L, V), and what of the tokens seen is asked."""
        out: dict[str, Tensor] = {}
        if self.needs.shown:  # the same expression as within `log_probabilities`, so the network runs once all the same
            own = self.model.free_log_probabilities(tokens, t, previous).contiguous()
            out["shown_log_probability"] = pick(own, tokens)
        if self.needs.left_out:
            given, out["left_out_log_probability"] = self.model.left_out(tokens, t, previous)
            return given, out
        if self.needs.asker is None:
            return self.model.log_probabilities(tokens, t, previous), out
        return self._guided(self.needs.asker, tokens, t, free, previous), out

    def _guided(self, asker: Sampler, tokens: Tensor, t: Tensor, free: Tensor, previous: Tensor | None) -> Tensor:
        """What the sampler makes of its own questions. Raises TypeError if it asks more or less often than it says."""
        asked: list[Tensor] = []

        def network(now: Tensor) -> Tensor:
            asked.append(self.model.log_probabilities(now, t, previous).contiguous())
            return asked[-1]

        answer = asker.evaluate(network, tokens, free)
        if len(asked) != asker.evaluations:
            raise TypeError(f"sampler {asker.spec!r} asks {len(asked)} times a step and says {asker.evaluations}")
        return answer

    def drop(self) -> None:
        """Gives its memory back; it is of no use afterwards."""
        self.graph.drop()
        if self.rows is not None:
            self.rows.drop()

    def answers(self, needs: Needs) -> bool:
        """Whether all that is needed is in the answer."""
        return set(needs.names) <= set(self.needs.names) and needs.asker == self.needs.asker

    def begin(self, tokens: IntArray, free: npt.NDArray[np.bool_], sequences: IntArray) -> None:
        """(B, L) texts with masks, (B, L) what is no prompt, (B,) numbers: what `answer` is asked of, until a sampler
        changes `tokens` where they lie."""
        self.tokens(tokens.astype(np.int32))
        self.targets(np.zeros(tokens.shape, dtype=np.int32))
        self.free(free)
        self.ids(sequences.astype(np.uint32))
        self.missed(np.zeros(1, dtype=np.int32))
        for condition in self._condition:
            condition(np.zeros(condition.tensor.shape, dtype=np.float32))

    @property
    def texts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens, targets, what the step is told and numbers of sequences, where they lie."""
        return self.tokens.tensor, self.targets.tensor, self.told.tensor, self.ids.tensor

    def answer(self, words: Words, most: int = 0) -> dict[str, Tensor]:
        """What the model says of the texts as they are; a self-conditioned one is told what it said last.

        `most`: how many positions of a text are masked at most, for `rows`.
        """
        self.told(words)
        if self.rows is not None:
            return self.rows(self.texts, self.missed.tensor, most)
        told: dict[str, Tensor] = self.graph(*self.texts, self.free.tensor, *(c.tensor for c in self._condition))
        for condition in self._condition:
            self._carry(condition.tensor, told["condition"])
        return told

    def capture(self, words: Words, then: Callable[[dict[str, Tensor]], None]) -> None:
        """All that `answer` may need, with these words, and `then` what is done with it: what is timed afterwards
        compiles nothing. What `begin` was told is lost: the graphs for few positions are shown any text."""
        if self.rows is not None:
            self.told(words)
            self.rows.capture(self.texts, self.missed.tensor, then)

    @cached_property
    def _condition(self) -> list[Inbox]:
        """Where a self-conditioned model finds its last answer."""
        return [self._empty_condition()] if self.model.self_conditioned else []

    def no_condition(self) -> list[Tensor]:
        """The empty condition of a self-conditioned model, as the graph's last input."""
        return [self._empty_condition().tensor] if self.model.self_conditioned else []

    def _empty_condition(self) -> Inbox:
        embedding = int(self.model.parameters["tokens"].shape[1])
        return Inbox(self.batch, self.model.length, embedding, dtype="float32")

    def target_log_probability(self, tokens: IntArray, masked: npt.NDArray[np.bool_], t: FloatArray) -> FloatArray:
        """(B, L) clean, (B, L) bool, (B,) -> (B, L) float64 log p(x_i | what is seen); 0 where not masked."""
        self.tokens(np.where(masked, self.model.vocab_size, tokens).astype(np.int32))
        self.targets(tokens.astype(np.int32))
        self.told(pack_step(t, np.zeros((5, self.batch)), (0, 1, 0), (0, 0)))
        sequences, *others = self._still
        texts = (*self.texts[:3], sequences)
        if self.rows is None:
            result = self.graph(*texts, *others)["target"]
        else:
            result = self.rows(texts, self.missed.tensor, int(masked.sum(axis=1).max()))["target"]
        return np.where(masked, result.numpy().astype(np.float64), 0.0)

    @cached_property
    def _still(self) -> list[Tensor]:
        """Inputs that likelihoods do not use: sequence numbers, what is free, and the empty condition."""
        free = on_device(np.ones((self.batch, self.model.length)), np.bool_)
        return [on_device(np.zeros(self.batch), np.uint32), free, *self.no_condition()]

"""A sampler's own steps on a given text: what it would have drawn is replaced by the text, whose probability is summed.

Where the order of a sampler depends on what is shown alone, every state on the way to a text is certain, and the
positions of one step are drawn independently. So the probability that the sampler gives to the text is the product,
over steps and over the positions that a step reveals, of the network's own at that step (arXiv 2603.01367). Where the
order is noise, one such product is that of a text and an order, and the mean of -log of it over orders is a bound
(Jensen).
"""

from __future__ import annotations

import numpy as np
from tinygrad import Tensor

from ..api.component import FloatArray, IntArray
from ..api.log_probabilities import pick
from ..api.schedules import Schedule
from ..engine.graph import Graph, Inbox
from .denoiser import Answer
from .draw import log_normaliser
from .generate import SamplerGraph, generate
from .masked import MaskedEvaluator


class Replay:
    """The captured sum over the steps of a sampler. `tempered`: at other temperatures than 1, from all probabilities.
    """

    def __init__(self, evaluator: MaskedEvaluator, tempered: bool) -> None:
        if tempered and not evaluator.needs.whole:
            raise TypeError("a replay at another temperature needs an evaluator with all log-probabilities")
        self.place, self.tempered, self.mask = evaluator.texts, tempered, evaluator.model.vocab_size
        shape = (evaluator.batch, evaluator.model.length)
        self.shown, self.nats = Inbox(*shape, dtype="bool"), Inbox(evaluator.batch, dtype="float32")
        self.texts: IntArray = np.zeros(shape, dtype=np.int32)
        self.graph = Graph("replay", self._sum)

    def begin(self, texts: IntArray, tokens: IntArray) -> None:
        """Nothing is summed. (B, L) the texts, and `tokens`: what of them is shown from the beginning, else masks."""
        self.texts = texts
        self.shown(tokens != self.mask)
        self.nats(np.zeros(len(tokens), dtype=np.float32))

    def instead(self, answer: Answer) -> Answer:
        """The answer as if the text had been drawn."""
        return {**answer, "proposal": self.place.targets.tensor, "log_probability": answer["target"]}

    def add(self, answer: Answer) -> None:
        """Add what the step after this answer has revealed."""
        given = answer["log_probabilities" if self.tempered else "target"]
        self.graph(self.place.tokens.tensor, self.place.targets.tensor, self.place.inputs.tensor, given,
                   self.shown.tensor, self.nats.tensor)  # fmt: skip

    def _sum(
        self, tokens: Tensor, targets: Tensor, packed: Tensor, given: Tensor, shown: Tensor, nats: Tensor
    ) -> Tensor:
        """Within the graph. `shown` and `nats` are read, and then written."""
        if self.tempered:
            scores = (given / self.place.layout.unpack(packed).temperature).contiguous()
            given = pick(scores, targets) - log_normaliser(scores)
        now = tokens != self.mask
        total = (nats - (now & shown.logical_not()).where(given, 0.0).sum(axis=-1)).contiguous()
        now = now.contiguous()
        Tensor.realize(now, total)
        Tensor.realize(shown.assign(now), nats.assign(total))
        return nats


def replayed(
    evaluator: MaskedEvaluator, graph: SamplerGraph, replay: Replay, schedule: Schedule, steps: int, texts: IntArray, *,
    seed: int, sequences: IntArray, temperature: float = 1.0,
) -> FloatArray:  # fmt: skip
    """(B, L) texts -> (B,) nats of each, and of its order where that is noise (by `seed`, `sequences`)."""
    tokens = np.full_like(texts, graph.mask)
    replay.begin(texts, tokens)
    generate(evaluator, graph, schedule, steps, tokens, seed=seed, sequences=sequences, temperature=temperature,
             told=replay)  # fmt: skip
    return replay.nats.tensor.numpy().astype(np.float64)

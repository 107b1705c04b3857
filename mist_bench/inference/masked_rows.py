"""What a masked model says where something is masked, and only there.

With a vocabulary of tens of thousands the output table, and what is asked of its scores, cost more than the rest of a
network; and over a generation, or a likelihood, half of the positions are seen. So one graph ends at what the table
reads, and the scores of as many positions of each sequence as may be masked are another, captured for a few counts.
(A training is one graph, and takes the masked positions of a whole batch: `layers.cross_entropy`.)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from tinygrad import Tensor

from ..api.families import MaskedModel
from ..api.schedules import Schedule
from ..engine.graph import Graph

MULTIPLE = 8
SHARES = (0.125, 0.25, 0.5, 0.75, 1.0)
"""Of the length: the counts of positions for which there are graphs."""
CERTAIN = {"log_probability": 0.0, "max_log_probability": 0.0, "margin": 1.0, "entropy": 0.0, "target": 0.0}
"""What there is to say of a token that is seen: it stays."""
Answer = dict[str, Tensor]
Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


def full_sequences(schedule: Schedule, batch: int, length: int) -> int:
    """How many of the sequences of a training batch the masked positions of all together fill at most.

    Times are spread evenly, so their mean mask probability hardly moves: at most it is that of the times 1/B ... B/B.
    To that the masks of N positions add chance, more than 4 sqrt(N) in one batch of 10^13 (Hoeffding: exp(-32)).
    """
    times = np.arange(1, batch + 1) / batch
    expected = float(np.sum(schedule.mask_probability(times))) * length
    return min(batch, math.ceil((expected + 4 * math.sqrt(batch * length)) / length))


def carried(answer: Answer, tokens: Tensor, mask: int) -> Answer:
    """(B, L) each: the answer where something is masked, and where a token is seen that it stays."""
    masked = tokens == mask
    return {name: masked.where(value, tokens if name == "proposal" else CERTAIN[name])
            for name, value in answer.items()}  # fmt: skip


class MaskedRows:
    """`asked`: (B, K, V) scores, (B, K) targets, (B, K) uniforms and what the step is told -> (B, K) each, by name."""

    def __init__(
        self, name: str, model: MaskedModel, asked: Callable[[Tensor, Tensor, Tensor, Tensor], Answer],
        *, level: Callable[[Tensor], Tensor], uniform: Callable[[Tensor, Tensor], Tensor],
    ) -> None:  # fmt: skip
        self.model, self.asked, self.level, self.uniform = model, asked, level, uniform
        self.body = Graph(f"body {name}", self._body)
        counts = (-(-max(1, int(share * model.length)) // MULTIPLE) * MULTIPLE for share in SHARES)
        self.counts = sorted({min(model.length, count) for count in counts})
        self.heads = {count: Graph(f"{count} positions {name}", self._head(count)) for count in self.counts}

    def __call__(self, inputs: Inputs, missed: Tensor, most: int) -> Answer:
        """`inputs`: (B, L) tokens of which at most `most` of a sequence are masked, (B, L) targets, the packed step,
        (B,) sequence numbers. To `missed` (1,) are added the positions that were masked all the same; it is in the
        answer too.
        """
        count = next(count for count in self.counts if count >= min(most, self.model.length))
        tokens, targets, packed, sequences = inputs
        hidden = self.body(tokens, packed)
        found: Answer = self.heads[count](hidden, tokens, targets, packed, sequences, missed)
        return found

    def drop(self) -> None:
        """Gives the memory of all graphs back."""
        for graph in self.graphs:
            graph.drop()

    def capture(self, inputs: Inputs, missed: Tensor, then: Callable[[Answer], None]) -> None:
        """All graphs, whatever is masked, and `then` what is done with the answer of each: a graph that reads it knows
        its buffers after two calls."""
        for count in self.counts:
            for _ in range(2):
                then(self(inputs, missed, count))

    @property
    def graphs(self) -> list[Graph]:
        """All of them."""
        return [self.body, *self.heads.values()]

    def _body(self, tokens: Tensor, packed: Tensor) -> Tensor:
        hidden = self.model.hidden(tokens, self.level(packed))
        assert hidden is not None
        return hidden.contiguous().realize()

    def _head(self, count: int) -> Callable[..., Answer]:
        def head(
            hidden: Tensor, tokens: Tensor, targets: Tensor, packed: Tensor, sequences: Tensor, missed: Tensor
        ) -> Answer:
            batch, length = (int(size) for size in tokens.shape)
            masked = tokens == self.model.vocab_size
            rank = masked.int().cumsum(axis=1).contiguous()  # 1: the first that is masked
            here = masked.unsqueeze(1) & (rank.unsqueeze(1) == Tensor.arange(1, count + 1).reshape(1, count, 1))
            row = Tensor.arange(batch).reshape(batch, 1)
            place = (here.where(Tensor.arange(length), 0).sum(axis=2).int() + row * length).contiguous()
            back = ((rank - 1).clip(0, count - 1) + row * count).contiguous()

            def at(x: Tensor) -> Tensor:
                """(B, L, …) -> (B, K, …), the masked positions of each sequence, then its first position again."""
                return x.reshape(batch * length, *x.shape[2:])[place].contiguous()

            uniform = at(self.uniform(packed, sequences))
            found = self.asked(self.model.scores(at(hidden)), at(targets), uniform, packed)
            spread = {name: value.contiguous().reshape(batch * count)[back] for name, value in found.items()}
            out = {name: value.contiguous() for name, value in carried(spread, tokens, self.model.vocab_size).items()}
            out["missed"] = (missed + (rank[:, -1] - count).maximum(0).sum()).int().contiguous()
            Tensor.realize(*out.values())
            missed.assign(out["missed"]).realize()
            return out

        return head

"""Evaluation of masked positions only, for models whose output table costs more than the rest of the network.

With a vocabulary of tens of thousands of tokens that is so, and on average half of the positions of a generation or a
likelihood are masked. So one graph ends where the output table begins, and the scores of as many positions of each
sequence as may be masked are another graph, captured for a few counts of positions.
(A training is one graph, and takes the masked positions of a whole batch: `layers.cross_entropy`.)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tinygrad import Tensor

from ..api.families import MaskedModel
from ..engine.graph import Graph, Inbox
from .denoiser import Answer, Denoiser, carried
from .texts import DeviceTexts

MULTIPLE = 8
SHARES = (0.125, 0.25, 0.5, 0.75, 1.0)
"""Shares of the length: the counts of positions for which there are graphs."""


class RowsDenoiser(Denoiser):
    """A graph up to the output table, then one for the smallest captured count of positions that is enough."""

    by_rows = True

    def __init__(self, name: str, model: MaskedModel, batch: int, nucleus: float) -> None:
        super().__init__(model, batch, nucleus)
        self.missed = Inbox(1)
        self.body = Graph(f"body {name}", self._body)
        counts = (-(-max(1, int(share * model.length)) // MULTIPLE) * MULTIPLE for share in SHARES)
        self.counts = sorted({min(model.length, count) for count in counts})
        self.heads = {count: Graph(f"{count} positions {name}", self._head(count)) for count in self.counts}

    @property
    def graphs(self) -> list[Graph]:
        return [self.body, *self.heads.values()]

    def begin(self) -> None:
        self.missed(np.zeros(1, dtype=np.int32))

    def answer(self, texts: DeviceTexts, most: int) -> Answer:
        count = next(count for count in self.counts if count >= min(most, self.model.length))
        tokens, targets, packed, sequences = texts.tensors
        hidden = self.body(tokens, packed)
        answer: Answer = self.heads[count](hidden, tokens, targets, packed, sequences, self.missed.tensor)
        return answer

    def capture(self, texts: DeviceTexts, then: Callable[[Answer], None]) -> None:
        for count in self.counts:
            for _ in range(2):  # a graph that reads the answer knows its buffers after two calls
                then(self.answer(texts, count))

    def unanswered(self) -> int:
        return int(self.missed.tensor.item())

    # ---- within the graphs

    def _body(self, tokens: Tensor, packed: Tensor) -> Tensor:
        hidden = self.model.hidden(tokens, self.layout.unpack(packed).t)
        assert hidden is not None
        return hidden.contiguous().realize()

    def _head(self, count: int) -> Callable[..., Answer]:
        def head(
            hidden: Tensor, tokens: Tensor, targets: Tensor, packed: Tensor, sequences: Tensor, missed: Tensor
        ) -> Answer:
            batch, length = (int(size) for size in tokens.shape)
            inputs, masked = self.layout.unpack(packed), tokens == self.model.vocab_size
            rank = masked.int().cumsum(axis=1).contiguous()  # 1 at the first masked position
            here = masked.unsqueeze(1) & (rank.unsqueeze(1) == Tensor.arange(1, count + 1).reshape(1, count, 1))
            row = Tensor.arange(batch).reshape(batch, 1)
            place = (here.where(Tensor.arange(length), 0).sum(axis=2).int() + row * length).contiguous()
            back = ((rank - 1).clip(0, count - 1) + row * count).contiguous()

            def at(x: Tensor) -> Tensor:
                """(B, L, …) -> (B, K, …), the masked positions of each sequence, then its first position again."""
                return x.reshape(batch * length, *x.shape[2:])[place].contiguous()

            uniform, scores = at(self.uniform(inputs, sequences)), self.model.scores(at(hidden))
            answer = self.of_scores(scores, at(targets), uniform, inputs.temperature)
            wide = {name: value.contiguous().reshape(batch * count)[back] for name, value in answer.items()}
            out = {name: value.contiguous() for name, value in carried(wide, tokens, self.model.vocab_size).items()}
            out["missed"] = (missed + (rank[:, -1] - count).maximum(0).sum()).int().contiguous()
            Tensor.realize(*out.values())
            missed.assign(out["missed"]).realize()
            return out

        return head

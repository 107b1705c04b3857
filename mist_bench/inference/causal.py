"""The evaluator of a causal model: the likelihood of whole texts, and generation with its key-value cache."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tinygrad import Tensor, UOp

from ..api.component import FloatArray, IntArray
from ..api.families import CausalModel
from ..api.log_probabilities import pick
from ..engine import noise
from ..engine.graph import Graph, Inbox
from .draw import draw, log_normaliser
from .evaluator import Evaluator


class CausalEvaluator(Evaluator[CausalModel]):
    """Three graphs, each captured when it is first used: one for the likelihood of whole texts, one that reads a prompt
    into the key-value cache, and one that draws the next token with the help of the cache."""

    def __init__(self, name: str, model: CausalModel, batch: int, *, nucleus: float = 1.0) -> None:
        super().__init__(model, batch, nucleus)
        self.cache = model.new_cache(batch)
        self.position, self.key = UOp.variable("position", 0, model.length - 1), Inbox(2)
        self.tokens, self.sequences = Inbox(batch, model.length), Inbox(batch, dtype="uint32")
        self.temperature = Inbox(1, dtype="float32")
        self.graph = Graph(f"next token {name}", self._next)
        self.prompt = Graph(f"prompt {name}", self._read)
        self.likelihood = Graph(f"likelihood {name}", self._likelihood)

    @property
    def graphs(self) -> list[Graph]:
        return [self.graph, self.prompt]

    def drop(self) -> None:
        self.graph.drop()
        self.prompt.drop()
        self.likelihood.drop()

    def _likelihood(self, tokens: Tensor) -> Tensor:
        scores = self.model.scores(tokens)
        if scores is None:
            return pick(self.model.log_probabilities(tokens).contiguous(), tokens).contiguous().realize()
        return (pick(scores, tokens) - log_normaliser(scores)).contiguous().realize()

    def _read(self, tokens: Tensor) -> Tensor:
        """Fill the cache from whole rows, so that one graph serves prompts of every length. What it holds of positions
        after the prompt is overwritten as these are drawn."""
        return self.model.fill_cache(tokens, self.cache).realize()

    def _next(self, tokens: Tensor, position: UOp, key: Tensor, sequences: Tensor, temperature: Tensor) -> Tensor:
        """Fill this position of the tokens (B, L) in their buffer, if it is masked."""
        length = self.model.length
        given = self.model.next_scores(tokens, position, self.cache)
        if given is None:
            given = self.model.next_log_probabilities(tokens, position, self.cache).contiguous()
        uniform = noise.uniform(key.bitcast("uint32"), noise.PROPOSAL, sequences, length).contiguous()
        here = Tensor.arange(length) == Tensor(position)
        u = here.where(uniform, 0.0).sum(axis=1, keepdim=True)
        drawn = draw(given, u, temperature, self.nucleus)
        masked = (tokens == self.model.vocab_size) & here
        return tokens.assign(masked.where(drawn, tokens).int().contiguous().realize()).realize()

    def log_probability(self, tokens: IntArray) -> FloatArray:
        """(B, L) -> (B, L) float64 log p(x_i | x_<i)."""
        return np.asarray(self.likelihood(self.tokens(tokens.astype(np.int32))).numpy().astype(np.float64))

    def generate(
        self, tokens: IntArray, seed: int, sequences: IntArray, temperature: float, *, stop: int | None = None,
        watch: Callable[[int, IntArray], None] | None = None, limit: int | None = None,
    ) -> tuple[IntArray, IntArray]:  # fmt: skip
        """(B, L) with masks -> (B, L) filled, left to right, and (B,) network evaluations used; fixed tokens stay.

        What is given at the beginning of all rows, two tokens or more, is read in one evaluation if the model can.
        `stop`: the position before which to end; `watch`: called with each position and the tokens after it; `limit`:
        call each graph so many times at most (to capture it).
        """
        now, numbers = self.tokens(tokens.astype(np.int32)), self.sequences(sequences.astype(np.uint32))
        heat = self.temperature(np.array([temperature], dtype=np.float32))
        end, masked = self.model.length if stop is None else stop, tokens == self.model.vocab_size
        given = min(end, int(masked.any(axis=0).argmax())) if masked.any() else end
        first = given if self.model.fills_cache and given > 1 else 0
        for _ in range((limit or 1) if first else 0):
            self.prompt(now)
        places = range(first, end) if limit is None else [min(first + i, end - 1) for i in range(limit)]
        for i in places if first < end else ():
            key = self.key(np.array(noise.key_words(seed, i), dtype=np.uint32).view(np.int32))
            self.graph(now, self.position.bind(i), key, numbers, heat)
            if watch is not None:
                watch(i, now.numpy())
        return np.asarray(now.numpy()), np.full(len(tokens), end - first + (first > 0))

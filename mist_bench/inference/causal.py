"""A causal model behind captured graphs: the likelihood of whole texts, and generation with its key-value cache."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tinygrad import Tensor, UOp

from ..api.component import FloatArray, IntArray
from ..api.families import CausalModel
from ..api.log_probabilities import pick
from ..api.samplers import Sampler
from ..api.view import View
from ..engine import noise
from ..engine.graph import Graph, Inbox
from .draw import draw, log_normaliser, statistics


class CausalEvaluator:
    """Two graphs: the likelihood of whole texts at once, and the next position read through the cache and drawn."""

    def __init__(self, name: str, model: CausalModel, batch: int, sampler: Sampler, *, nucleus: float = 1.0) -> None:
        self.model, self.batch, self.sampler, self.nucleus = model, batch, sampler, nucleus
        model.keep_copies()
        self.cache = model.new_cache(batch)
        self.place, self.key = UOp.variable("position", 0, model.length - 1), Inbox(2)
        self.tokens, self.ids = Inbox(batch, model.length), Inbox(batch, dtype="uint32")
        self.heat = Inbox(1, dtype="float32")
        self.graph = Graph(f"next token {name}", self._next)
        self.likelihood = Graph(f"likelihood {name}", self._likelihood)

    @property
    def graphs(self) -> list[Graph]:
        """Those of a generation."""
        return [self.graph]

    def _likelihood(self, tokens: Tensor) -> Tensor:
        scores = self.model.scores(tokens)
        if scores is None:
            return pick(self.model.log_probabilities(tokens).contiguous(), tokens).contiguous().realize()
        return (pick(scores, tokens) - log_normaliser(scores)).contiguous().realize()

    def _next(
        self, tokens: Tensor, place: UOp, key: Tensor, sequences: Tensor, temperature: Tensor
    ) -> Tensor:
        """Fills this place of the tokens (B, L), where they lie, if it was masked."""
        length, key = self.model.length, key.bitcast("uint32")
        given = self.model.next_scores(tokens, place, self.cache)
        normalised = given is None
        if given is None:
            given = self.model.next_log_probabilities(tokens, place, self.cache).contiguous()
        uniform = noise.uniform(key, noise.PROPOSAL, sequences, length).contiguous()
        here = Tensor.arange(length) == Tensor(place)
        u = here.where(uniform, 0.0).sum(axis=1, keepdim=True)
        proposal = draw(given, u, temperature, self.nucleus)
        known = statistics(given, proposal, normalised=normalised)
        told = {name: x.expand(*tokens.shape) for name, x in known.items()}
        masked = (tokens == self.model.vocab_size) & here
        one = Tensor.ones(1)
        view = View.of(
            self.sampler.needs, tokens=tokens, mask=self.model.vocab_size, free=masked,
            proposal=proposal.expand(*tokens.shape),
            uniform=uniform, step=Tensor(place).reshape(1), steps=(one * length).int(), last=one < 0,
            to_fill=masked.sum(axis=1).int(), target_masked=masked.sum(axis=1).int() * 0, reveal_probability=one,
            alpha_t=one, alpha_s=one, **told,
        )  # fmt: skip
        filled = self.sampler.step(view, {})[0].int().contiguous().realize()
        return tokens.assign(filled).realize()

    def drop(self) -> None:
        """Gives its memory back; it is of no use afterwards."""
        self.graph.drop()
        self.likelihood.drop()

    def log_probability(self, tokens: IntArray) -> FloatArray:
        """(B, L) -> (B, L) float64 log p(x_i | x_<i)."""
        return np.asarray(self.likelihood(self.tokens(tokens.astype(np.int32))).numpy().astype(np.float64))

    def generate(
        self, tokens: IntArray, seed: int, sequences: IntArray, temperature: float, *, limit: int | None = None,
        watch: Callable[[int, IntArray], None] | None = None,
    ) -> IntArray:  # fmt: skip
        """(B, L) with masks -> (B, L) filled, left to right; fixed tokens are read and kept."""
        now, ids = self.tokens(tokens.astype(np.int32)), self.ids(sequences.astype(np.uint32))
        heat = self.heat(np.array([temperature], dtype=np.float32))
        for i in range(self.model.length if limit is None else limit):
            key = self.key(np.array(noise.key_words(seed, i), dtype=np.uint32).view(np.int32))
            self.graph(now, self.place.bind(i), key, ids, heat)
            if watch is not None:
                watch(i, now.numpy())
        return np.asarray(now.numpy())

"""The baseline: the same transformer, causal, with as many parameters as the masked model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mist_bench import CausalModel, Family, NetworkSize, Oracle, TrainingBatch, hookimpl

if TYPE_CHECKING:
    from tinygrad import Tensor

    from mist_bench import Transformer


class CausalTransformer(CausalModel):
    """Reads a first token (the mask's row of the table), then the text; entry i is the law of token i."""

    fills_cache = True

    def __init__(self, body: Transformer) -> None:
        self.body = body
        self.vocab_size, self.length, self.parameters = body.vocab_size, body.length, body.parameters

    def embedding_parameters(self) -> int:
        return self.body.table_parameters

    def forward_flops(self) -> float:
        return self.body.forward_flops()

    def set_compute(self, dtype: Any) -> None:
        self.body.compute = dtype

    def keep_copies(self) -> None:
        self.body.keep_copies()

    def log_probabilities(self, tokens: Tensor) -> Tensor:
        return self.body.logits(self._embed(tokens)).log_softmax(-1)

    def scores(self, tokens: Tensor) -> Tensor:
        return self.body.scores(self.body.hidden(self._embed(tokens)))

    def loss(self, tokens: Tensor) -> Tensor:
        """The mean of -log p(x_i | x_<i)."""
        weights = (tokens * 0 + 1).float() / int(tokens.numel())
        return self.body.loss(self._embed(tokens), None, tokens, weights)

    def _embed(self, tokens: Tensor) -> Tensor:
        return self.body.embed(tokens[:, :-1].pad(((0, 0), (1, 0)), value=self.vocab_size))

    def new_cache(self, batch: int) -> Tensor:
        return self.body.new_cache(batch)

    def fill_cache(self, tokens: Tensor, cache: Tensor) -> Tensor:
        return self.body.fill_cache(self._embed(tokens), cache)

    def next_log_probabilities(self, tokens: Tensor, position: Any, cache: Tensor) -> Tensor:
        return self.body.next_logits(self._read(tokens, position), position, cache).log_softmax(-1)

    def next_scores(self, tokens: Tensor, position: Any, cache: Tensor) -> Tensor:
        return self.body.next_scores(self._read(tokens, position), position, cache)

    def _read(self, tokens: Tensor, position: Any) -> Tensor:
        """(B, L) -> (B, 1), the token before this position."""
        begun = tokens.pad(((0, 0), (1, 0)), value=self.vocab_size).contiguous()
        return begun[:, position : position + 1]


@dataclass(frozen=True, kw_only=True)
class AutoregressiveFamily(Family):
    """Left to right, one token at a time; its likelihood is exact, by the chain rule.

    Parameters outside the tables equal those of `mdlm` within 1 %: in place of its conditioning the feed-forward layers
    are wider. It generates with a key-value cache.
    """

    name = "autoregressive"
    source = "GPT-2 (Radford et al. 2019), with mist's transformer"
    likelihood_kind = "exact"
    judges = True

    def create(
        self, size: NetworkSize, vocab_size: int, length: int, seed: int, oracle: Oracle | None
    ) -> CausalTransformer:
        from mist_bench import Transformer

        body = Transformer(size, vocab_size, length, seed=seed, causal=True, conditioned=False)
        return CausalTransformer(body)

    def loss(self, model: CausalTransformer, batch: TrainingBatch) -> Tensor:
        return model.loss(batch.tokens)


@hookimpl
def mist_bench_families() -> Iterator[type[Family]]:
    yield AutoregressiveFamily

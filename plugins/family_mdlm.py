"""Masked diffusion: a bidirectional transformer trained on the continuous-time bound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mist_bench import (
    Family,
    FloatArray,
    MaskedModel,
    NetworkSize,
    Oracle,
    Schedule,
    TrainingBatch,
    bell_times,
    hookimpl,
    parameter,
)

if TYPE_CHECKING:
    from tinygrad import Tensor

    from mist_bench import Transformer

CONDITIONING = ("fraction", "time", "none")
WEIGHTS = ("bound", "schedule", "none")


class MaskedTransformer(MaskedModel):
    """The bidirectional transformer with SUBS: the mask token has no probability, seen tokens are carried over."""

    def __init__(self, body: Transformer, conditioning: str, self_conditioned: bool) -> None:
        self.body, self.conditioning, self.self_conditioned = body, conditioning, self_conditioned
        self.vocab_size, self.length, self.parameters = body.vocab_size, body.length, body.parameters
        if self_conditioned:
            body.add_zeros("condition", (body.size.dim, body.size.dim))

    def embedding_parameters(self) -> int:
        return self.body.table_parameters

    def forward_flops(self) -> float:
        return self.body.forward_flops()

    def set_compute(self, dtype: Any) -> None:
        self.body.compute = dtype

    def keep_copies(self) -> None:
        self.body.keep_copies()

    def free_log_probabilities(self, tokens: Tensor, t: Tensor, previous: Tensor | None = None) -> Tensor:
        """(B, L, V) before the carry-over: what the loss needs, since it looks at masked positions only."""
        return self.body.logits(self._embed(tokens, previous), self._told(tokens, t)).log_softmax(-1)

    @property
    def rows_pay(self) -> bool:  # type: ignore[override]
        return self.body.rows_pay

    def hidden(self, tokens: Tensor, t: Tensor) -> Tensor:
        return self.body.hidden(self._embed(tokens, None), self._told(tokens, t))

    def scores(self, hidden: Tensor) -> Tensor:
        return self.body.scores(hidden)

    def loss(
        self, tokens: Tensor, t: Tensor, previous: Tensor | None, targets: Tensor, weights: Tensor, full: int | None
    ) -> Tensor:
        """The sum over all positions of weight times -log p(target); those with a weight fill `full` sequences."""
        return self.body.loss(self._embed(tokens, previous), self._told(tokens, t), targets, weights, full)

    def _told(self, tokens: Tensor, t: Tensor) -> Tensor | None:
        if self.conditioning == "none":
            return None
        fraction = (tokens == self.vocab_size).float().mean(axis=-1)
        return self.body.modulation(fraction if self.conditioning == "fraction" else t)

    def _embed(self, tokens: Tensor, previous: Tensor | None) -> Tensor:
        x = self.body.embed(tokens)
        return x if previous is None else x + self.body.linear(previous, "condition")

    def _carried(self, tokens: Tensor, answer: Tensor) -> Tensor:
        vocabulary = tokens.arange(self.vocab_size)
        itself = (tokens.unsqueeze(-1) == vocabulary).where(0.0, -1e9)
        return (tokens == self.vocab_size).unsqueeze(-1).where(answer, itself)

    def log_probabilities(self, tokens: Tensor, t: Tensor, previous: Tensor | None = None) -> Tensor:
        return self._carried(tokens, self.free_log_probabilities(tokens, t, previous))

    def left_out(self, tokens: Tensor, t: Tensor, previous: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From a row of masks after the text: one pass of twice the length. Exact with one layer without conditioning;
        with more layers, the tokens that a mask sees have seen the token it replaces, and the masked fraction is that
        of the text as it is, with one mask fewer."""
        # without the last answer, which would reveal the token
        masks = self.body.embed((tokens * 0 + self.vocab_size).cast(tokens.dtype))
        x = self._embed(tokens, previous).cat(masks, dim=1)
        answer = self.body.logits(x, self._told(tokens, t)).log_softmax(-1).contiguous()
        left_out = answer[:, self.length :]
        own = (tokens.unsqueeze(-1) == tokens.arange(self.vocab_size)).where(left_out, 0.0).sum(axis=-1)
        return self._carried(tokens, answer[:, : self.length]), own

    def condition(self, log_probabilities: Tensor) -> Tensor:
        """The mean embedding of the last answer (B, L, D)."""
        return self.body.mean_embedding(log_probabilities.exp())


@dataclass(frozen=True, kw_only=True)
class MdlmFamily(Family):
    """Masked diffusion language model with the SUBS parameterization and mist's transformer.

    The loss is the bound itself: w(t) times the cross-entropy of the masked positions, over L. By default the adaptive
    layer norms are conditioned on the masked fraction of x_t itself, so that no schedule enters; with `time`, on t of
    the schedule of its training. With self-conditioning the bound is computed with the empty condition.

    `weight` and `bell` change the training alone; what is measured is the bound. `weight=none` is the training loss of
    arXiv 2602.15014 (`low_var` in its code): -log p of the masked positions over all L. `bell` draws more middle times,
    the idea of arXiv 2605.13026; the form of the bell is ours. With `weight=bound` w(t) is divided by the density of t,
    importance sampling of the same bound; with `weight=schedule` it is not, and middle times count for more.
    """

    name = "mdlm"
    source = "MDLM, arXiv 2406.07524; self-conditioning: 2208.04202; weight=none: 2602.15014; bell: 2605.13026"
    likelihood_kind = "bound"
    uses_schedule = True
    conditioning: str = parameter("fraction", "input of the layer norms: fraction (masked, of L), time, or none")
    self_conditioning: bool = parameter(False, "give the network its last answer (trained on half of the sequences)")
    weight: str = parameter("bound", "of t in the loss: bound, schedule (w(t), whatever t's law), none (cross-entropy)")
    bell: float = parameter(0.0, "standard deviation of the times of training around 1/2; 0: uniform times")

    def __post_init__(self) -> None:
        if self.conditioning not in CONDITIONING:
            raise ValueError(f"conditioning is one of {', '.join(CONDITIONING)}, not {self.conditioning!r}")
        if self.weight not in WEIGHTS:
            raise ValueError(f"weight is one of {', '.join(WEIGHTS)}, not {self.weight!r}")
        if self.bell:
            bell_times(np.empty(0), self.bell)  # raises for a width that is out of range

    def create(
        self, size: NetworkSize, vocab_size: int, length: int, seed: int, oracle: Oracle | None
    ) -> MaskedTransformer:
        from mist_bench import Transformer

        conditioned = self.conditioning != "none"
        extra = size.dim * size.dim if self.self_conditioning else 0
        body = Transformer(size, vocab_size, length, seed=seed, causal=False, conditioned=conditioned, extra=extra)
        return MaskedTransformer(body, self.conditioning, self.self_conditioning)

    def times(self, uniform: FloatArray, schedule: Schedule) -> tuple[FloatArray, FloatArray]:
        t, density = bell_times(uniform, self.bell) if self.bell else (uniform, np.ones_like(uniform))
        if self.weight == "none":
            return t, np.ones_like(t)
        return t, schedule.weight(t) / (density if self.weight == "bound" else 1.0)

    def loss(self, model: MaskedTransformer, batch: TrainingBatch) -> Tensor:
        masked = batch.uniform < batch.mask_probability.reshape(-1, 1)
        seen = masked.where(model.vocab_size, batch.tokens)
        previous = None
        if self.self_conditioning:
            first = model.condition(model.free_log_probabilities(seen, batch.t)).detach()
            previous = (batch.coin < 0.5).reshape(-1, 1, 1).where(first, 0.0)
        weights = masked.where(batch.weight.unsqueeze(-1), 0.0) / int(seen.numel())
        return model.loss(seen, batch.t, previous, batch.tokens, weights, batch.full)


@hookimpl
def mist_bench_families() -> Iterator[type[Family]]:
    yield MdlmFamily

"""The evaluator of a masked model, for likelihood and generation alike: it answers for all positions at once."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..api.component import FloatArray, IntArray
from ..api.families import MaskedModel
from ..engine.graph import Graph
from .denoiser import Denoiser, WholeDenoiser
from .evaluator import Evaluator
from .masked_rows import RowsDenoiser
from .step import Needs
from .texts import DeviceTexts


class MaskedEvaluator(Evaluator[MaskedModel]):
    """A masked model: log-probabilities of given targets, and a denoiser with texts for generation.

    `needs`: what a sampler asks for beyond proposals and their statistics, see `Needs.of`.
    """

    def __init__(
        self, name: str, model: MaskedModel, batch: int, *, nucleus: float = 1.0, needs: Needs | None = None
    ) -> None:
        super().__init__(model, batch, nucleus)
        self.needs = needs or Needs()
        if self.needs.left_out and self.needs.asker:
            raise TypeError("a sampler that evaluates the network in its own way gets no left_out_log_probability")
        self.texts = DeviceTexts(batch, model.length)
        self.denoiser: Denoiser
        if model.rows_pay and self.needs == Needs() and not model.self_conditioned:
            self.denoiser = RowsDenoiser(name, model, batch, nucleus)
        else:
            self.denoiser = WholeDenoiser(name, model, batch, nucleus, self.needs)

    @property
    def graphs(self) -> list[Graph]:
        return self.denoiser.graphs

    def drop(self) -> None:
        self.denoiser.drop()

    def answers(self, needs: Needs) -> bool:
        """Whether the answers contain everything that is needed."""
        return set(needs.names) <= set(self.needs.names) and needs.asker == self.needs.asker

    def target_log_probability(self, tokens: IntArray, masked: npt.NDArray[np.bool_], t: FloatArray) -> FloatArray:
        """(B, L) clean, (B, L) bool, (B,) -> (B, L) float64 log p(x_i | shown tokens); 0 where not masked."""
        texts, none = self._given, np.zeros(self.batch)
        texts.write(np.where(masked, self.model.vocab_size, tokens), tokens)
        texts.give(texts.layout.pack(
            t=t, reveal_probability=none, alpha_t=none, alpha_s=none, to_fill=none, target_masked=none,
            temperature=[1.0], step=[0], steps=[1], last=[0], key=(0, 0),
        ))  # fmt: skip
        answer = self.denoiser.first_answer(texts, int(masked.sum(axis=1).max()))
        return np.where(masked, answer["target"].numpy().astype(np.float64), 0.0)

    @cached_property
    def _given(self) -> DeviceTexts:
        """The texts of likelihoods, which need no noise: sequence numbers are 0, and all positions are free."""
        texts = DeviceTexts(self.batch, self.model.length)
        texts.free(np.ones((self.batch, self.model.length), dtype=np.bool_))
        return texts

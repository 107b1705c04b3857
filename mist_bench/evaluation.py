"""A model behind one captured graph, for likelihood and generation alike.

A masked model answers for all positions at once: log-probabilities of given targets, a proposal and its statistics.
A causal model scores whole texts at once, and generates one position a call with its key-value cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from tinygrad import Tensor, UOp

from . import noise
from .answer import draw, pick, statistics
from .graphs import Graph
from .interfaces import CausalModel, FloatArray, IntArray, MaskedModel
from .samplers import Sampler, View

STATISTICS = ("log_probability", "max_log_probability", "margin", "entropy")


def on_device(values: npt.NDArray[Any], dtype: Any) -> Tensor:
    """A realized copy of host numbers, as captured graphs want their inputs."""
    return Tensor(np.ascontiguousarray(values, dtype=dtype)).realize()


def key_tensor(seed: int, step: int) -> Tensor:
    return on_device(np.array(noise.key_words(seed, step)), np.uint32)


def pack_step(t: FloatArray, numbers: FloatArray, counts: tuple[int, int, int], key: tuple[int, int]) -> Tensor:
    """All that one step is told, as one array of 32-bit words: one transfer a step instead of four.

    (B,) t and (5, B) numbers as float32, then `counts` (step, steps, last) and the key.
    """
    floats = np.concatenate([t[None], numbers]).astype(np.float32).view(np.int32).ravel()
    words = np.array(key, dtype=np.uint32).view(np.int32)
    return Tensor(np.concatenate([floats, np.array(counts, dtype=np.int32), words])).realize()


def unpack_step(packed: Tensor, batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `pack_step` was given, within a graph: (B,) t, (5, B) numbers, (3,) counts, (2,) key."""
    floats = packed[: 6 * batch].contiguous().bitcast("float32").reshape(6, batch)
    counts, key = packed[6 * batch : 6 * batch + 3], packed[6 * batch + 3 :].contiguous().bitcast("uint32")
    return floats[0], floats[1:], counts, key


class MaskedEvaluator:
    """One graph: (B, L) tokens with masks -> what samplers and estimators ask.

    `whole`: with the answer (B, L, V); `shown`: with the network's own log p of the tokens that are seen (B, L).
    """

    def __init__(
        self, name: str, model: MaskedModel, batch: int, *, nucleus: float = 1.0, whole: bool = False,
        shown: bool = False,
    ) -> None:  # fmt: skip
        self.model, self.batch, self.nucleus, self.whole, self.shown = model, batch, nucleus, whole, shown
        self.graph = Graph(f"answer {name}", self._answer)

    def _answer(
        self, tokens: Tensor, targets: Tensor, packed: Tensor, sequences: Tensor, temperature: Tensor,
        previous: Tensor | None = None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        t, _, _, key = unpack_step(packed, self.batch)
        given = self.model.log_probabilities(tokens, t, previous).contiguous()
        uniform = noise.uniform(key, noise.PROPOSAL, sequences, self.model.length).contiguous()
        proposal = draw(given, uniform, temperature, self.nucleus).contiguous()
        told = statistics(given, proposal)
        out = [pick(given, targets), proposal, *(told[name] for name in STATISTICS)]
        if self.whole:
            out.append(given)
        if self.shown:  # the same expression as within `log_probabilities`, so the network runs once all the same
            out.append(pick(self.model.free_log_probabilities(tokens, t, previous).contiguous(), tokens))
        if self.model.self_conditioned:
            out.append(self.model.condition(given))
        out = [o.contiguous() for o in out]
        Tensor.realize(*out)
        return tuple(out)

    def no_condition(self) -> list[Tensor]:
        """The empty condition of a self-conditioned model, as the graph's last input."""
        if not self.model.self_conditioned:
            return []
        embedding = self.model.parameters["tokens"].shape[1]
        return [Tensor.zeros(self.batch, self.model.length, embedding).contiguous().realize()]

    def target_log_probability(self, tokens: IntArray, masked: npt.NDArray[np.bool_], t: FloatArray) -> FloatArray:
        """(B, L) clean, (B, L) bool, (B,) -> (B, L) float64 log p(x_i | what is seen); 0 where not masked."""
        seen = np.where(masked, self.model.vocab_size, tokens)
        packed = pack_step(t, np.zeros((5, self.batch)), (0, 1, 0), (0, 0))
        result = self.graph(on_device(seen, np.int32), on_device(tokens, np.int32), packed, *self._still)[0]
        return np.where(masked, result.numpy().astype(np.float64), 0.0)

    @cached_property
    def _still(self) -> list[Tensor]:
        """Inputs that likelihoods do not use: sequence numbers, temperature, and the empty condition."""
        still = [on_device(np.zeros(self.batch), np.uint32), on_device(np.ones(1), np.float32)]
        return still + self.no_condition()


class CausalEvaluator:
    """Two graphs: the likelihood of whole texts at once, and the next position read through the cache and drawn."""

    def __init__(self, name: str, model: CausalModel, batch: int, sampler: Sampler, *, nucleus: float = 1.0) -> None:
        self.model, self.batch, self.sampler, self.nucleus = model, batch, sampler, nucleus
        self.cache = model.new_cache(batch)
        self.place = UOp.variable("position", 0, model.length - 1)
        self.graph = Graph(f"next token {name}", self._next)
        self.likelihood = Graph(f"likelihood {name}", self._likelihood)

    def _likelihood(self, tokens: Tensor) -> Tensor:
        return pick(self.model.log_probabilities(tokens).contiguous(), tokens).contiguous().realize()

    def _next(
        self, tokens: Tensor, place: UOp, key: Tensor, sequences: Tensor, temperature: Tensor
    ) -> Tensor:
        """The tokens (B, L) with this place filled if it was masked."""
        length = self.model.length
        given = self.model.next_log_probabilities(tokens, place, self.cache).contiguous()
        uniform = noise.uniform(key, noise.PROPOSAL, sequences, length).contiguous()
        here = Tensor.arange(length) == Tensor(place)
        u = here.where(uniform, 0.0).sum(axis=1, keepdim=True)
        proposal = draw(given, u, temperature, self.nucleus)
        told = {name: x.expand(*tokens.shape) for name, x in statistics(given, proposal).items()}
        masked = (tokens == self.model.vocab_size) & here
        one = Tensor.ones(1)
        view = View(
            tokens=tokens, mask=self.model.vocab_size, masked=masked, free=masked, log_probabilities=None,
            proposal=proposal.expand(*tokens.shape),
            uniform=uniform, step=Tensor(place).reshape(1), steps=(one * length).int(), last=one < 0,
            to_fill=masked.sum(axis=1).int(), target_masked=masked.sum(axis=1).int() * 0, reveal_probability=one,
            alpha_t=one, alpha_s=one, **told,
        )  # fmt: skip
        return self.sampler.step(view, {})[0].int().contiguous().realize()

    def log_probability(self, tokens: IntArray) -> FloatArray:
        """(B, L) -> (B, L) float64 log p(x_i | x_<i)."""
        return np.asarray(self.likelihood(on_device(tokens, np.int32)).numpy().astype(np.float64))

    def generate(
        self, tokens: IntArray, seed: int, sequences: IntArray, temperature: float, *, limit: int | None = None,
        watch: Callable[[int, IntArray], None] | None = None,
    ) -> IntArray:  # fmt: skip
        """(B, L) with masks -> (B, L) filled, left to right; fixed tokens are read and kept."""
        now, ids = on_device(tokens, np.int32), on_device(sequences, np.uint32)
        heat = on_device(np.array([temperature]), np.float32)
        for i in range(self.model.length if limit is None else limit):
            now = self.graph(now, self.place.bind(i), key_tensor(seed, i), ids, heat)
            if watch is not None:
                watch(i, now.numpy())
        return np.asarray(now.numpy())

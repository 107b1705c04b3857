"""States before one step of a sampler, on the host, and the views that it has of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..api.component import FloatArray, IntArray
from ..api.samplers import Sampler
from ..api.view import View

if TYPE_CHECKING:
    from tinygrad import Tensor

BoolArray = npt.NDArray[np.bool_]
GIVEN = ("previous_log_probabilities", "shown_log_probability", "left_out_log_probability")
"""Costly fields of a view that a `Start` may hold."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """N states before one step, on the host: a `View` without the proposal and the noise."""

    tokens: IntArray  # (N, L); V where masked
    free: BoolArray  # (N, L)
    log_probabilities: FloatArray  # (N, L, V)
    to_fill: IntArray  # (N,)
    target_masked: IntArray  # (N,)
    reveal_probability: FloatArray  # (N,)
    alpha_t: FloatArray  # (N,)
    alpha_s: FloatArray  # (N,)
    step: int
    steps: int
    last: bool
    frequencies: FloatArray | None = None  # (V,) of the train split, for samplers that need them
    previous_log_probabilities: FloatArray | None = None  # (N, L, V), for samplers that need it; None: 0
    shown_log_probability: FloatArray | None = None  # (N, L), likewise
    left_out_log_probability: FloatArray | None = None  # (N, L), likewise

    @property
    def masked(self) -> BoolArray:
        """(N, L) what may be revealed."""
        return np.asarray((self.tokens == self.log_probabilities.shape[-1]) & self.free)


def view_of(sampler: Sampler, start: Start, origin: IntArray, proposal: IntArray, uniform: FloatArray) -> View:
    """The view of the sampler: rows `origin` (B,) of `start` with this proposal and noise (B, L)."""
    from tinygrad import Tensor

    def rows(values: npt.NDArray[np.generic], kind: type[np.generic]) -> Tensor:
        return Tensor(values[origin].astype(kind))

    optional = {name: rows(_given(start, name), np.float32) for name in GIVEN if name in sampler.needs}
    if start.frequencies is not None:
        optional["log_frequency"] = Tensor(np.log(start.frequencies)[proposal].astype(np.float32))
    answer, x = rows(start.log_probabilities, np.float32).realize(), Tensor(proposal.astype(np.int32)).realize()
    return View.of(
        sampler.needs,
        tokens=rows(start.tokens, np.int32),
        mask=start.log_probabilities.shape[-1],
        free=rows(start.free, np.bool_),
        proposal=x,
        log_probabilities=answer,
        uniform=Tensor(uniform.astype(np.float32)),
        step=Tensor(np.array([start.step], dtype=np.int32)),
        steps=Tensor(np.array([start.steps], dtype=np.int32)),
        last=Tensor(np.array([start.last])),
        to_fill=rows(start.to_fill, np.int32),
        target_masked=rows(start.target_masked, np.int32),
        reveal_probability=rows(start.reveal_probability, np.float32),
        alpha_t=rows(start.alpha_t, np.float32),
        alpha_s=rows(start.alpha_s, np.float32),
        **optional,
        **_statistics(len(origin), *start.log_probabilities.shape[1:])(answer, x),
    )


def _given(start: Start, name: str) -> FloatArray:
    """A costly field of the view; 0 if it is None, the log p of a shown token under a perfect denoiser."""
    value: FloatArray | None = getattr(start, name)
    whole = name == "previous_log_probabilities"
    return np.zeros(start.log_probabilities.shape if whole else start.tokens.shape) if value is None else value


@cache
def _statistics(batch: int, length: int, vocab_size: int) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    """`statistics` as one captured graph for each shape: building it each time would take most of the time."""
    from tinygrad import TinyJit

    from ..inference.draw import statistics

    return TinyJit(lambda answer, x: {name: v.contiguous().realize() for name, v in statistics(answer, x).items()})

"""The inputs of one step of a generation, and what is needed of a masked model at each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..api.samplers import Sampler
from ..engine.packed import Field, Packed

if TYPE_CHECKING:
    from tinygrad import Tensor

STATISTICS = ("log_probability", "max_log_probability", "margin", "entropy")


class StepInputs(NamedTuple):
    """The inputs of one step, read back from one buffer within a graph; most of them are fields of `View`."""

    t: Tensor  # (B,)
    reveal_probability: Tensor  # (B,)
    alpha_t: Tensor  # (B,)
    alpha_s: Tensor  # (B,)
    to_fill: Tensor  # (B,) int32
    target_masked: Tensor  # (B,) int32
    temperature: Tensor  # (1,)
    step: Tensor  # (1,) int32
    steps: Tensor  # (1,) int32
    last: Tensor  # (1,) int32, 0 or 1
    key: Tensor  # (2,) uint32, of `noise.key_words`


def step_inputs(batch: int) -> Packed[StepInputs]:
    """Layout of the inputs of a step for so many sequences."""
    each, count = Field("float32", (batch,)), Field("int32", (batch,))
    one = Field("int32", (1,))
    return Packed(
        StepInputs, t=each, reveal_probability=each, alpha_t=each, alpha_s=each, to_fill=count, target_masked=count,
        temperature=Field("float32", (1,)), step=one, steps=one, last=one, key=Field("uint32", (2,)),
    )  # fmt: skip


def on_device(values: npt.NDArray[Any], dtype: Any) -> Tensor:
    """A realized copy of host numbers, as captured graphs need their inputs."""
    from tinygrad import Tensor

    return Tensor(np.ascontiguousarray(values, dtype=dtype)).realize()


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What is needed of a masked model beyond proposals and their statistics. Each one makes evaluations slower."""

    whole: bool = False
    """All log-probabilities (B, L, V)."""
    shown: bool = False
    """The network's own log p of the tokens that are shown (B, L)."""
    left_out: bool = False
    """log p of each shown token given all other tokens (B, L)."""
    asker: Sampler | None = None
    """The sampler that evaluates the network in its own way (`Sampler.evaluate`)."""

    @classmethod
    def of(cls, sampler: Sampler) -> Needs:
        """The needs of this sampler."""
        return cls(
            whole=not sampler.needs.isdisjoint({"log_probabilities", "previous_log_probabilities"}),
            shown="shown_log_probability" in sampler.needs,
            left_out="left_out_log_probability" in sampler.needs,
            asker=sampler if sampler.asks_itself else None,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The parts of an answer that a sampler gets, by the names of `View`."""
        more = {"log_probabilities": self.whole, "shown_log_probability": self.shown,
                "left_out_log_probability": self.left_out}  # fmt: skip
        return ("proposal", *STATISTICS, *(name for name, wanted in more.items() if wanted))

"""What one step of a generation is told, as one array of 32-bit words: one transfer a step instead of five."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tinygrad import Tensor

from ..api.component import FloatArray
from ..api.samplers import Sampler

Words = npt.NDArray[np.int32]


class Told(NamedTuple):
    """What one step is told, within a graph."""

    t: Tensor  # (B,)
    numbers: Tensor  # (5, B)
    temperature: Tensor  # (1,)
    counts: Tensor  # (3,) step, steps, last
    key: Tensor  # (2,)


def pack_step(
    t: FloatArray, numbers: FloatArray, counts: tuple[int, int, int], key: tuple[int, int], temperature: float = 1.0
) -> Words:
    """(B,) t, (5, B) numbers and the temperature as float32, then `counts` (step, steps, last) and the key."""
    floats = np.append(np.concatenate([t[None], numbers]).ravel(), temperature).astype(np.float32).view(np.int32)
    words = np.array(key, dtype=np.uint32).view(np.int32)
    return np.concatenate([floats, np.array(counts, dtype=np.int32), words])


def unpack_step(packed: Tensor, batch: int) -> Told:
    """What `pack_step` was given."""
    many = 6 * batch + 1
    floats = packed[:many].contiguous().bitcast("float32")
    numbers = floats[: many - 1].reshape(6, batch)
    counts, key = packed[many : many + 3], packed[many + 3 :].contiguous().bitcast("uint32")
    return Told(numbers[0], numbers[1:], floats[many - 1 :], counts, key)

STATISTICS = ("log_probability", "max_log_probability", "margin", "entropy")


def on_device(values: npt.NDArray[Any], dtype: Any) -> Tensor:
    """A realized copy of host numbers, as captured graphs want their inputs."""
    return Tensor(np.ascontiguousarray(values, dtype=dtype)).realize()


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What is asked of a masked model beyond proposals and their statistics. Each adds to the cost of an evaluation."""

    whole: bool = False
    """The answer (B, L, V)."""
    shown: bool = False
    """The network's own log p of the tokens that are seen (B, L)."""
    left_out: bool = False
    """log p of each token that is seen given the others (B, L)."""
    asker: Sampler | None = None
    """Who asks the network its own way."""

    @classmethod
    def of(cls, sampler: Sampler) -> Needs:
        return cls(
            whole=not sampler.needs.isdisjoint({"log_probabilities", "previous_log_probabilities"}),
            shown="shown_log_probability" in sampler.needs,
            left_out="left_out_log_probability" in sampler.needs,
            asker=sampler if sampler.asks_itself else None,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """What of an evaluator's answer is passed on to a sampler, by the names of `View`."""
        more = {"log_probabilities": self.whole, "shown_log_probability": self.shown,
                "left_out_log_probability": self.left_out}  # fmt: skip
        return ("proposal", *STATISTICS, *(name for name, wanted in more.items() if wanted))

"""The inputs of one training step: on the host as `Batch`, within the captured graph as `BatchInputs`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from ..api.component import FloatArray, IntArray
from ..api.schedules import Schedule
from ..api.times import Times, uniform_times
from ..engine.packed import Field, Packed

if TYPE_CHECKING:
    from tinygrad import Tensor

Number = TypeVar("Number")


class Rates(NamedTuple, Generic[Number]):
    """The optimiser's numbers of one step: floats on the host, scalars within a graph."""

    learning_rate: Number
    first_correction: Number
    """1 - beta1^n at the n-th step."""
    second_correction: Number
    """1 - beta2^n."""
    average_decay: Number


class Batch(NamedTuple):
    """The inputs of one step of the optimiser, on the host."""

    tokens: IntArray
    """(B, L)."""
    numbers: FloatArray
    """(3, B) time, mask probability and weight of each sequence."""
    key: tuple[int, int]
    rates: Rates[float]
    slot: int
    """Place of the loss in the ring of losses."""

    def part(self, start: int, stop: int) -> dict[str, Any]:
        """The sequences from `start` to `stop`, as values of the fields of `batch_inputs`."""
        return {
            "tokens": self.tokens[start:stop], "numbers": self.numbers[:, start:stop], "key": self.key,
            "rates": np.array(self.rates), "start": start, "slot": self.slot,
        }  # fmt: skip


class BatchInputs(NamedTuple):
    """The inputs of a training graph, read back from one buffer."""

    tokens: Tensor  # (B, L) int32
    numbers: Tensor  # (3, B) time, mask probability and weight
    key: Tensor  # (2,) uint32
    rates: Tensor  # (4,) those of `Rates`, in order
    start: Tensor  # int32 scalar: place in the batch of the first sequence of this part
    slot: Tensor  # int32 scalar: place of the loss in the ring


def batch_inputs(sequences: int, length: int) -> Packed[BatchInputs]:
    """Layout of the inputs of a graph that reads so many sequences at once."""
    return Packed(
        BatchInputs, tokens=Field("int32", (sequences, length)), numbers=Field("float32", (3, sequences)),
        key=Field("uint32", (2,)), rates=Field("float32", (len(Rates._fields),)), start=Field("int32"),
        slot=Field("int32"),
    )  # fmt: skip


def full_sequences(schedule: Schedule, batch: int, length: int, times: Times = uniform_times) -> int:
    """How many sequences the masked positions of a training batch fill together at most.

    Times are made of numbers that are spread evenly, so their mean mask probability hardly varies: it is at most that
    of the numbers 1/B ... B/B. Chance adds more than 4 sqrt(N) of N positions in one batch of 10^13 (Hoeffding:
    exp(-32)).
    """
    latest, _ = times(np.arange(1, batch + 1) / batch, schedule)
    expected = float(np.sum(schedule.mask_probability(latest))) * length
    return min(batch, math.ceil((expected + 4 * math.sqrt(batch * length)) / length))

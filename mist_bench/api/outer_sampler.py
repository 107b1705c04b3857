"""A sampler around another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .component import FloatArray, IntArray
from .samplers import FACTS, Forwarded, Network, Sampler
from .schedules import Schedule
from .view import State, View

if TYPE_CHECKING:
    from tinygrad import Tensor


class OuterSampler(Sampler):
    """A sampler whose facts and rule are those of `inner`, except for what it overrides.

    Declare `inner: Sampler = part("confidence", "what it is")`, so that no plugin imports another.
    """

    inner: Sampler

    def most_left(
        self, masked: IntArray, target_masked: IntArray, to_fill: IntArray, step: int, steps: int
    ) -> IntArray:
        return self.inner.most_left(masked, target_masked, to_fill, step, steps)

    def evaluate(self, network: Network, tokens: Tensor, free: Tensor) -> Tensor:
        return self.inner.evaluate(network, tokens, free)

    def heat(self, step: int, steps: int) -> float:
        return self.inner.heat(step, steps)

    def coin(self, view: View, state: State) -> Tensor:
        return self.inner.coin(view, state)

    def nfe(self, steps: int, to_fill: int) -> int:
        return self.inner.nfe(steps, to_fill)

    def times(self, schedule: Schedule, steps: int, to_fill: IntArray, uniform: FloatArray) -> FloatArray:
        return self.inner.times(schedule, steps, to_fill, uniform)

    def initial_state(self, batch: int, length: int) -> State:
        return self.inner.initial_state(batch, length)

    def step(self, view: View, state: State) -> tuple[Tensor, State]:
        return self.inner.step(view, state)


for fact in FACTS:
    setattr(OuterSampler, fact, Forwarded("inner", fact))

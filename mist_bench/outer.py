"""A sampler around another: what most of such samplers would write again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from .interfaces import FloatArray, IntArray, Schedule
from .samplers import Choice, Network, Sampler, State, View

if TYPE_CHECKING:
    from tinygrad import Tensor


class _OfInner:
    """A fact that is the inner sampler's."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, sampler: Any, owner: type) -> Any:
        return getattr(Sampler if sampler is None else sampler.inner, self.name)


class OuterSampler(Sampler):
    """Its facts and its rule are those of `inner` wherever it does not say otherwise.

    Declare `inner: Sampler = part("confidence", "what it is")`, so that no plugin imports another.
    """

    inner: Sampler
    uses_steps: ClassVar[Any] = _OfInner()
    adaptive: ClassVar[Any] = _OfInner()
    remasks: ClassVar[Any] = _OfInner()
    left_to_right: ClassVar[Any] = _OfInner()
    needs_log_probabilities: ClassVar[Any] = _OfInner()
    needs_shown_log_probability: ClassVar[Any] = _OfInner()
    needs_left_out_log_probability: ClassVar[Any] = _OfInner()
    needs_frequencies: ClassVar[Any] = _OfInner()
    remembers_answer: ClassVar[Any] = _OfInner()
    needs_prompt: ClassVar[Any] = _OfInner()
    asks_itself: ClassVar[Any] = _OfInner()

    @property
    def skips_idle_steps(self) -> bool:
        return self.inner.skips_idle_steps

    @property
    def reveals_by_chance(self) -> bool:
        return self.inner.reveals_by_chance

    def most_left(
        self, masked: IntArray, target_masked: IntArray, to_fill: IntArray, step: int, steps: int
    ) -> IntArray | None:
        return self.inner.most_left(masked, target_masked, to_fill, step, steps)

    @property
    def block_size(self) -> int | None:
        return self.inner.block_size

    @property
    def choice(self) -> Choice:
        return self.inner.choice

    @property
    def exact_one_at_a_time(self) -> bool:
        return self.inner.exact_one_at_a_time

    @property
    def evaluations(self) -> int:
        return self.inner.evaluations

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

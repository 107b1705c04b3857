"""A sampler and a schedule for mist-bench."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mist_bench import FloatArray, Sampler, Schedule, ScoreSampler, View, hookimpl, parameter

if TYPE_CHECKING:
    from tinygrad import Tensor


class RightToLeftSampler(ScoreSampler):
    """Reveal the last masked positions first."""

    name = "right-to-left"
    source = "an example"

    def scores(self, view: View) -> Tensor:
        from tinygrad import Tensor

        batch, length = view.tokens.shape
        return Tensor.arange(length).float().reshape(1, length).expand(batch, length)


@dataclass(frozen=True, kw_only=True)
class FastStartSchedule(Schedule):
    """alpha(t) = (1 - t)^p: masks much from the start; p = 2 is "quadratic"."""

    name = "quadratic"
    source = "an example"
    power: float = parameter(2.0, "the exponent p, at least 1")

    def __post_init__(self) -> None:
        if self.power < 1:
            raise ValueError(f"power must be at least 1, given {self.power}")

    def alpha(self, t: FloatArray) -> FloatArray:
        return (1.0 - t) ** self.power

    def dalpha(self, t: FloatArray) -> FloatArray:
        return -self.power * (1.0 - t) ** (self.power - 1.0)


@hookimpl
def mist_bench_samplers() -> Iterator[type[Sampler]]:
    yield RightToLeftSampler


@hookimpl
def mist_bench_schedules() -> Iterator[type[Schedule]]:
    yield FastStartSchedule

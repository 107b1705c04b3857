"""Semi-autoregressive: any other sampler, inside blocks from left to right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mist_bench import (
    Choice,
    FloatArray,
    IntArray,
    Sampler,
    Schedule,
    State,
    View,
    block_shares,
    hookimpl,
    parameter,
    part,
)

if TYPE_CHECKING:
    from tinygrad import Tensor


class _OfInner:
    """A fact that is the inner sampler's."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, sampler: Any, owner: type) -> Any:
        return getattr(Sampler if sampler is None else sampler.inner, self.name)


@dataclass(frozen=True, kw_only=True)
class SemiAutoregressiveSampler(Sampler):
    """Fill blocks of `block` positions from left to right, each by the inner sampler; the rest is seen, not touched.

    A block is a run of its own: the inner sampler sees the masks, counts, steps and times of its block alone, and
    masks nothing again in an earlier one. Fixed tokens do not count: blocks are cut from the positions to fill, so that
    after a prompt they are LLaDA's. With n blocks each has steps // n steps, one more for the earliest, at least one;
    LLaDA's code wants steps that n divides. A network that is fed t is told the block's own t, from 1 to 0 in each. A
    self-conditioned one begins each block with the empty condition. Unlike in BD3-LM the network is no block model: it
    sees the masks of later blocks, and no cache is kept.
    """

    name = "semi-autoregressive"
    source = "LLaDA, arXiv 2502.09992; BD3-LM, arXiv 2503.09573"
    block: int = parameter(16, "positions of a block, 1 or more")
    inner: Sampler = part("top-k", "the sampler of a block")
    uses_steps: ClassVar[Any] = _OfInner()
    adaptive: ClassVar[Any] = _OfInner()
    remasks: ClassVar[Any] = _OfInner()
    left_to_right: ClassVar[Any] = _OfInner()
    needs_log_probabilities: ClassVar[Any] = _OfInner()
    needs_shown_log_probability: ClassVar[Any] = _OfInner()
    needs_frequencies: ClassVar[Any] = _OfInner()
    remembers_answer: ClassVar[Any] = _OfInner()

    def __post_init__(self) -> None:
        if self.block < 1:
            raise ValueError(f"block is 1 or more, not {self.block}")
        if self.inner.block_size is not None:
            raise ValueError(f"inner has blocks itself: {self.inner.spec}")

    @property
    def skips_idle_steps(self) -> bool:
        return self.inner.skips_idle_steps

    @property
    def block_size(self) -> int | None:
        return self.block

    @property
    def choice(self) -> Choice:
        return self.inner.choice

    @property
    def exact_one_at_a_time(self) -> bool:
        return self.inner.exact_one_at_a_time

    def coin(self, view: View, state: State) -> Tensor:
        return self.inner.coin(view, state)

    def nfe(self, steps: int, to_fill: int) -> int:
        return sum(self.inner.nfe(share, many) for share, many in block_shares(steps, to_fill, self.block))

    def times(self, schedule: Schedule, steps: int, to_fill: IntArray, uniform: FloatArray) -> FloatArray:
        return self.inner.times(schedule, steps, to_fill, uniform)

    def initial_state(self, batch: int, length: int) -> State:
        return self.inner.initial_state(batch, length)

    def step(self, view: View, state: State) -> tuple[Tensor, State]:
        return self.inner.step(view, state)


@hookimpl
def mist_bench_samplers() -> Iterator[type[Sampler]]:
    yield SemiAutoregressiveSampler

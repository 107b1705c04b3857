"""Semi-autoregressive: any other sampler within blocks, which are filled from left to right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mist_bench import OuterSampler, Sampler, block_shares, hookimpl, parameter, part


@dataclass(frozen=True, kw_only=True)
class SemiAutoregressiveSampler(OuterSampler):
    """Fill blocks of `block` positions from left to right, each by the inner sampler; the rest of the text is fixed.

    A block is a run of its own: the inner sampler sees the masks, counts, steps and times of its block alone, and does
    not mask anything again in earlier ones. Fixed tokens do not count: blocks are cut from the positions to fill, so
    that after a prompt they are LLaDA's. With n blocks each has steps // n steps, one more for the earliest, at least
    one; LLaDA's code requires that n divides the steps. A network conditioned on t gets the block's own t, from 1 to 0
    in each; a self-conditioned one begins each block with the empty condition. Unlike BD3-LM this needs no block model:
    the network sees the masks of later blocks, and there is no cache.
    """

    name = "semi-autoregressive"
    source = "LLaDA, arXiv 2502.09992; BD3-LM, arXiv 2503.09573"
    block: int = parameter(16, "positions of a block, 1 or more")
    inner: Sampler = part("top-k", "the sampler of a block")

    def __post_init__(self) -> None:
        if self.block < 1:
            raise ValueError(f"block is 1 or more, not {self.block}")
        if self.inner.block_size is not None:
            raise ValueError(f"inner has blocks itself: {self.inner.spec}")

    @property
    def block_size(self) -> int | None:
        return self.block

    def nfe(self, steps: int, to_fill: int) -> int:
        return sum(self.inner.nfe(share, many) for share, many in block_shares(steps, to_fill, self.block))


@hookimpl
def mist_bench_samplers() -> Iterator[type[Sampler]]:
    yield SemiAutoregressiveSampler

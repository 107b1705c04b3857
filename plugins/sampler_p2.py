"""P2, path planning by the network itself: at each step the least likely positions are masked, shown or not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mist_bench import Sampler, State, View, hookimpl, parameter, reveal_best

if TYPE_CHECKING:
    from tinygrad import Tensor


@dataclass(frozen=True, kw_only=True)
class P2Sampler(Sampler):
    """Mask the round(m(s) M) positions of lowest score, whether shown before or not; show the rest.

    The score of a masked position is log p(x̂); that of a shown one is eta times the network's own log p of its token,
    before seen tokens are carried over. So a token that has become unlikely is masked again: the larger eta, the more
    of them; none with eta = 0. A shown token wins ties, then the left one. A token that stays shown is not drawn again.

    The training of `mdlm` has no loss at positions that are seen: its answer there is generalisation. A family without
    such an answer (the oracle) gives log p = 0 to shown tokens, so that nothing is masked again at any eta.

    The published code scores a shown position by a token that is newly drawn there, not by the one that is shown; its
    log p is after Gumbel noise is added to the logits, it masks fewer where scores are equal, and truncates the count.
    Here the token shown is scored by the network's p, and the count is rounded, and the same where scores are equal.
    """

    name = "p2"
    source = "P2 self-planning, arXiv 2502.03540"
    remasks = True
    needs = frozenset({"shown_log_probability"})
    eta: float = parameter(1.0, "weight of the log p of shown tokens, 0 or more; 0 never masks again")

    def __post_init__(self) -> None:
        if not 0.0 <= self.eta < math.inf:
            raise ValueError(f"eta is a number of 0 or more, not {self.eta}")

    def nfe(self, steps: int, to_fill: int) -> int:
        return steps

    def step(self, view: View, state: State) -> tuple[Tensor, State]:
        from tinygrad import Tensor

        assert view.shown_log_probability is not None
        was_shown = view.free & (view.tokens != view.mask)
        # at eta = 0 above any log p, of which rounding may leave one above 0
        own = self.eta * view.shown_log_probability if self.eta else view.log_probability.zeros_like() + 1.0
        score = was_shown.where(own, view.log_probability)
        count = (was_shown | view.masked).sum(axis=-1).int() - view.last.where(0, view.target_masked)
        # what is shown in the first half and what is masked in the second: ties go to the left
        show = reveal_best(Tensor.cat(score, score, dim=1), Tensor.cat(was_shown, view.masked, dim=1), count)
        length = view.masked.shape[1]
        reveal, again = show[:, length:], was_shown & show[:, :length].logical_not()
        return reveal.where(view.proposal, again.where(view.mask, view.tokens)), state


@hookimpl
def mist_bench_samplers() -> Iterator[type[Sampler]]:
    yield P2Sampler

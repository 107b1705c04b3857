"""What a sampler sees at one step.

Shapes: B sequences, L positions, V tokens that can be predicted (the mask is not one of them: its id is V).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinygrad import Tensor

State = dict[str, "Tensor"]
"""What a sampler remembers from step to step, by name."""
NEEDS = frozenset({
    "log_probabilities", "previous_log_probabilities", "log_frequency", "shown_log_probability",
    "left_out_log_probability",
})  # fmt: skip
"""The fields of a `View` that cost more, and are there only for a sampler whose `needs` name them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """What a sampler sees at one step: tensors, so that one captured graph serves every step and every step count.

    All probabilities are the network's own (temperature 1); only the proposal follows temperature and nucleus. Fields
    that are None by default are there if the sampler's `needs` name them.
    """

    tokens: Tensor  # (B, L) int32; the mask's id where masked
    mask: int  # V, the mask's id: what a sampler writes to mask a position again
    masked: Tensor  # (B, L) bool; what may be revealed now
    free: Tensor  # (B, L) bool; False where the user fixed the token: never to be changed
    proposal: Tensor  # (B, L) int32; x̂ drawn from the network's p at every position
    log_probability: Tensor  # (B, L) log p(x̂)
    max_log_probability: Tensor  # (B, L) log of the largest p
    margin: Tensor  # (B, L) largest p minus the second largest
    entropy: Tensor  # (B, L) nats
    log_probabilities: Tensor | None = None  # (B, L, V) the whole answer
    previous_log_probabilities: Tensor | None = None  # (B, L, V) the whole answer of the step before; 0 at the first
    log_frequency: Tensor | None = None  # (B, L) log frequency of x̂ in the train split, counts plus one
    shown_log_probability: Tensor | None = None  # (B, L) the network's log p of the token shown; 0 where masked
    left_out_log_probability: Tensor | None = None  # (B, L) the same as if that token alone were masked as well
    uniform: Tensor  # (B, L) in (0, 1): independent noise for choices, keyed by (seed, sequence, step, position)
    step: Tensor  # (1,) int32; 0, 1, …
    steps: Tensor  # (1,) int32; denoising steps asked for
    last: Tensor  # (1,) bool; all must be revealed now
    to_fill: Tensor  # (B,) int32; M, the positions to fill when generation began
    target_masked: Tensor  # (B,) int32; round(m(s) M): how many would stay masked after this step
    reveal_probability: Tensor  # (B,) (alpha(s) - alpha(t)) / (1 - alpha(t)); 1 at the last step
    alpha_t: Tensor  # (B,)
    alpha_s: Tensor  # (B,)

    @classmethod
    def of(cls, needs: Collection[str], *, tokens: Tensor, mask: int, free: Tensor, **fields: Any) -> View:
        """The view of a sampler with these `needs`: of the costly `fields` it keeps only those, and `masked` is what is
        masked and free."""
        kept = {name: value for name, value in fields.items() if name not in NEEDS or name in needs}
        return cls(tokens=tokens, mask=mask, masked=(tokens == mask) & free, free=free, **kept)


def needs_problem(needs: Any) -> str:
    """Why this cannot be a sampler's `needs`; empty if it can."""
    if isinstance(needs, str) or not isinstance(needs, Collection):
        return f"needs is {needs!r}; write a set of names: frozenset({{'log_probabilities'}})"
    unknown = ", ".join(repr(name) for name in sorted(set(needs) - NEEDS, key=str))
    return f"needs names {unknown}; what can be asked for is {', '.join(sorted(NEEDS))}" if unknown else ""

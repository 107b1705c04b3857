"""Log-probabilities of given tokens, for models and oracles. tinygrad is imported when they are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinygrad import Tensor


def pick(log_probabilities: Tensor, tokens: Tensor) -> Tensor:
    """(B, L, V), (B, L) ids -> (B, L): the entry of each id; 0 for an id outside 0..V-1 (a mask)."""
    from tinygrad import Tensor

    vocabulary = Tensor.arange(log_probabilities.shape[-1])
    return (tokens.unsqueeze(-1) == vocabulary).where(log_probabilities, 0.0).sum(axis=-1)


def one_left_out(ask: Callable[[Tensor], Tensor], tokens: Tensor, mask: int) -> Tensor:
    """(B, L) -> (B, L): log p of each seen token given the other ones; 0 where masked.

    `ask`: (B L, L) tokens -> (B L, L, V) log-probabilities; row i of each text has position i masked.
    """
    from tinygrad import Tensor

    batch, length = (int(size) for size in tokens.shape)
    here = Tensor.eye(length).cast("bool")
    each = here.where(mask, tokens.unsqueeze(1)).cast(tokens.dtype).reshape(batch * length, length).contiguous()
    answer = ask(each).reshape(batch, length, length, -1)
    own = here.reshape(1, length, length, 1).where(answer, 0.0).sum(axis=2).contiguous()
    return pick(own, tokens)

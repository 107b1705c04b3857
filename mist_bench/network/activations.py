"""The activations of the feed-forward, each with a backward pass that stores one value.

Values are computed in float32 and stored in the compute type. `gated` ones take two inputs for each output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tinygrad import Tensor

from .layers import with_gradient

if TYPE_CHECKING:
    from tinygrad.dtype import DType

GATED = ("swiglu",)
SLOPE, CUBE = 2 * math.sqrt(2 / math.pi), 0.044715
"""The logistic function of SLOPE (x + CUBE x^3) is the normal distribution function within 0.0005."""


def squared_relu(x: Tensor, compute: DType) -> Tensor:
    """max(x, 0)^2 (Primer, arXiv 2109.08668); the gradient, 2 sqrt(y), needs only the output y."""
    y = x.relu().square().cast(compute).contiguous()
    return with_gradient(y, [x], lambda upstream: [(2 * y.float().sqrt() * upstream).cast(compute).contiguous()])


def gelu(x: Tensor, compute: DType) -> Tensor:
    """x times the normal distribution function, in its logistic form (GELU, arXiv 1606.08415, its tanh formula)."""
    x = x.cast(compute).contiguous()
    value = x.float()

    def phi() -> Tensor:
        return (SLOPE * value * (1 + CUBE * value * value)).sigmoid()

    def backward(upstream: Tensor) -> Sequence[Tensor]:
        p = phi()
        slope = p + value * p * (1 - p) * SLOPE * (1 + 3 * CUBE * value * value)
        return [(slope * upstream).cast(compute).contiguous()]

    return with_gradient((value * phi()).cast(compute).contiguous(), [x], backward)


def swiglu(x: Tensor, compute: DType) -> Tensor:
    """(..., 2 F) -> (..., F): the first half through SiLU, times the second (SwiGLU, arXiv 2002.05202)."""
    x = x.cast(compute).contiguous()
    half = int(x.shape[-1]) // 2
    a, b = x[..., :half].float(), x[..., half:].float()

    def backward(upstream: Tensor) -> Sequence[Tensor]:
        s = a.sigmoid()
        to_a = s * (1 + a * (1 - s)) * b * upstream
        return [to_a.cat(a * s * upstream, dim=-1).cast(compute).contiguous()]

    return with_gradient((a * a.sigmoid() * b).cast(compute).contiguous(), [x], backward)


ACTIVATIONS: dict[str, Callable[[Tensor, DType], Tensor]] = {
    "gelu": gelu, "squared-relu": squared_relu, "swiglu": swiglu
}  # fmt: skip

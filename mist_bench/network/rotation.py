"""Rotary position embeddings (RoFormer, arXiv 2104.09864)."""

from __future__ import annotations

from typing import Any

import numpy as np
from tinygrad import Tensor

BASE = 1e4
"""Ratio of the fastest rotation to the slowest."""


def angles(width: int) -> np.ndarray[Any, Any]:
    """(E/2) angles by which one position further rotates each pair of numbers (i, i + E/2) of a head."""
    steps: np.ndarray[Any, Any] = BASE ** (-np.arange(width // 2) / (width // 2))
    return steps


def rotation(length: int, width: int) -> tuple[Tensor, Tensor]:
    """Cosine and signed sine (L, E) of the angle by which each position rotates each pair of numbers."""
    angle = np.arange(length)[:, None] * angles(width)
    cosine, sine = np.tile(np.cos(angle), 2), np.concatenate([-np.sin(angle), np.sin(angle)], axis=1)
    return Tensor(cosine.astype(np.float32)).realize(), Tensor(sine.astype(np.float32)).realize()


def rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """(B, H, L, E) queries or keys, rotated by their positions; cosine and sine (L, E) of `rotation`."""
    half = cosine.shape[1] // 2
    return x * cosine + x[..., half:].cat(x[..., :half], dim=-1) * sine

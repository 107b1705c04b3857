"""What one step of a generation is told, as one array of 32-bit words: one transfer a step instead of five."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tinygrad import Tensor

from .api.component import FloatArray

Words = npt.NDArray[np.int32]


class Told(NamedTuple):
    """What one step is told, within a graph."""

    t: Tensor  # (B,)
    numbers: Tensor  # (5, B)
    temperature: Tensor  # (1,)
    counts: Tensor  # (3,) step, steps, last
    key: Tensor  # (2,)


def pack_step(
    t: FloatArray, numbers: FloatArray, counts: tuple[int, int, int], key: tuple[int, int], temperature: float = 1.0
) -> Words:
    """(B,) t, (5, B) numbers and the temperature as float32, then `counts` (step, steps, last) and the key."""
    floats = np.append(np.concatenate([t[None], numbers]).ravel(), temperature).astype(np.float32).view(np.int32)
    words = np.array(key, dtype=np.uint32).view(np.int32)
    return np.concatenate([floats, np.array(counts, dtype=np.int32), words])


def unpack_step(packed: Tensor, batch: int) -> Told:
    """What `pack_step` was given."""
    many = 6 * batch + 1
    floats = packed[:many].contiguous().bitcast("float32")
    numbers = floats[: many - 1].reshape(6, batch)
    counts, key = packed[many : many + 3], packed[many + 3 :].contiguous().bitcast("uint32")
    return Told(numbers[0], numbers[1:], floats[many - 1 :], counts, key)

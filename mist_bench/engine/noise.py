"""Random numbers that depend on (seed, step, stream, sequence, position), never on the shape of a batch.

Counter-based (Threefry-2x32, 20 rounds; Salmon et al. 2011): a sequence gets the same noise in any batch, on any
device, and after any interruption, so a resumed run equals an uninterrupted one. `uniform` runs on the device inside
captured graphs; `uniform_numpy` is the same function on the host.

Streams are independent noise for the same step. A uniform is (k + 1/2) / 2^23, exact in float32, and never 0 or 1.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ..api.component import FloatArray, IntArray

if TYPE_CHECKING:
    from tinygrad import Tensor

PROPOSAL, CHOICE, MASKING, COIN, TIMES = range(5)
STREAMS = 8


def seed_of(**axes: int | str) -> int:
    """A 32-bit seed from named axes; leaving an axis out (the sampler) gives all its values the same noise."""
    text = ",".join(f"{k}={v}" for k, v in sorted(axes.items()))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def key_words(seed: int, step: int, stream: int = 0) -> tuple[int, int]:
    """The two 32-bit words of a key; a captured graph takes those of stream 0 and adds the stream itself."""
    return seed & 0xFFFFFFFF, (step * STREAMS + stream) & 0xFFFFFFFF


def uniform(key: Tensor, stream: int, sequences: Tensor, length: int) -> Tensor:
    """(2,) uint32 `key_words(seed, step)`, (B,) uint32 sequence numbers -> (B, length) float32 in (0, 1)."""
    from tinygrad import Tensor, dtypes

    position = Tensor.arange(length, dtype=dtypes.uint32).reshape(1, length)
    counter = (sequences.reshape(-1, 1).cast(dtypes.uint64) << 32) | position.cast(dtypes.uint64)
    word = (key[1:2] + stream).cast(dtypes.uint64) << 32 | key[0:1].cast(dtypes.uint64)
    bits = counter.threefry(word.reshape(1, 1).expand(counter.shape)).cast(dtypes.uint32)
    return ((bits >> 9).float() + 0.5) * 2.0**-23


def uniform_numpy(seed: int, step: int | IntArray, stream: int, sequences: IntArray, length: int) -> FloatArray:
    """The numbers of `uniform` as (B, length) float64. `step`: one for all sequences, or (B,) one for each."""
    low = np.uint32(seed & 0xFFFFFFFF)
    high = ((np.asarray(step, dtype=np.int64) * STREAMS + stream) & 0xFFFFFFFF).astype(np.uint32).reshape(-1, 1)
    x0 = np.broadcast_to(np.arange(length, dtype=np.uint32), (len(sequences), length)).copy()
    x1 = np.broadcast_to(np.asarray(sequences, dtype=np.uint32)[:, None], x0.shape).copy()
    schedule: list[Any] = [high, low ^ high ^ np.uint32(0x1BD11BDA), low]
    x0, x1 = x0 + schedule[2], x1 + schedule[0]
    for group in range(5):
        for rotation in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x0 = x0 + x1
            x1 = ((x1 << np.uint32(rotation)) | (x1 >> np.uint32(32 - rotation))) ^ x0
        x0, x1 = x0 + schedule[group % 3], x1 + schedule[(group + 1) % 3] + np.uint32(group + 1)
    return np.asarray((x0 >> np.uint32(9)).astype(np.float64) + 0.5) * 2.0**-23

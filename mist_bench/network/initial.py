"""The initial parameters of the transformer, drawn from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..api.families import NetworkSize
from .activations import GATED
from .rotation import angles

FREQUENCIES = 32
"""Of the sinusoidal embedding of the time."""
POSITION_SCALE = 0.02
BIAS_SCALE = 0.5
"""Scale of the random biases, which make each head prefer some distances; 0.5 did best of 0 to 1 on prose."""
LOCAL_SCALE, NEIGHBOURS = 5.0, (-1, 1, -2, 2)
"""Strength of local heads, and the offsets that they attend to, in turn."""
Values = np.ndarray[Any, Any]


def initial_parameters(
    size: NetworkSize, width: int, vocab_size: int, length: int, *, seed: int, conditioned: bool
) -> dict[str, Values]:
    """The parameters by name, in the order in which the seed's random numbers are drawn. `width`: of the feed-forward.
    """
    rng = np.random.default_rng(np.random.Philox(key=seed))
    d, c = size.dim, size.conditioning_dim
    gates = 2 if size.activation in GATED else 1
    # small, since the branches begin at nothing: they cannot drown these
    values = {"tokens": normal(rng, (padded(vocab_size + 1), d), (3 * d) ** -0.5)}
    values["positions"] = normal(rng, (length, d), POSITION_SCALE)
    if conditioned:
        values["time.in"] = normal(rng, (2 * FREQUENCIES, c), (2 * FREQUENCIES) ** -0.5)
        values["time.out"] = normal(rng, (c, c), c**-0.5)
    biases = []
    for i in range(size.layers):
        values[f"{i}.attention.in"] = normal(rng, (d, 3 * d), d**-0.5)
        biases.append(_bias(rng, size))
        values[f"{i}.attention.out"] = normal(rng, (d, d), (2 * size.layers * d) ** -0.5)
        values[f"{i}.feed_forward.in"] = normal(rng, (d, gates * width), d**-0.5)
        values[f"{i}.feed_forward.out"] = normal(rng, (width, d), (2 * size.layers * width) ** -0.5)
    # one parameter for all norms and gates and one for all biases: fewer products and updates
    if conditioned:
        values["modulation"] = np.zeros((modulations(size), c, d), dtype=np.float32)
    else:
        values["norms"] = np.ones((2 * size.layers + 1) * d, dtype=np.float32)
        values["gates"] = np.zeros(2 * size.layers * d, dtype=np.float32)
    values["biases"] = np.concatenate(biases)
    values["head"] = normal(rng, (d, padded(vocab_size)), 0.02)
    return values


def modulations(size: NetworkSize) -> int:
    """Vectors (D) that the condition gives: scale and shift of each layer norm, then the gate of each branch."""
    return 2 * (2 * size.layers + 1) + 2 * size.layers


def padded(rows: int) -> int:
    """The size of a table with this many rows, padded to unroll well: a kernel over 87 rows cannot, one over 96 can."""
    multiple = 8 if rows <= 64 else 16 if rows <= 1024 else 64
    return -(-rows // multiple) * multiple


def normal(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> Values:
    """Normally distributed float32 values with this standard deviation."""
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)


def _bias(rng: np.random.Generator, size: NetworkSize) -> Values:
    """(2 D) biases of a block's queries and keys: random, or in a local head such that it attends to a neighbour."""
    heads, width = size.heads, size.dim // size.heads
    bias = rng.standard_normal((2, heads, width), dtype=np.float32) * np.float32(BIAS_SCALE)
    for head in range(size.local_heads):
        # the score of positions i and j is LOCAL_SCALE^2 times the sum of cos((j - i - offset) angle)
        turn = angles(width) * NEIGHBOURS[head % len(NEIGHBOURS)]
        bias[0, head] = LOCAL_SCALE * np.concatenate([np.ones_like(turn), np.zeros_like(turn)])
        bias[1, head] = LOCAL_SCALE * np.concatenate([np.cos(turn), -np.sin(turn)])
    return bias.ravel()

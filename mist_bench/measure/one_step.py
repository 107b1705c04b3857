"""The exact law of one step of a sampler, from given states.

A step is a deterministic function of the tokens, the proposal x̂ and the choice noise. Both are enumerated with their
probabilities, and the sampler's own device step runs once for each combination.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import permutations, product

import numpy as np
import numpy.typing as npt

from ..api.component import FloatArray, IntArray, UserError
from ..api.samplers import Choice, Sampler
from .start import Start, view_of

Memory = Mapping[str, npt.NDArray[np.generic]]

CHUNK = 4096  # one shape on the device: compiling a second costs more than computing the padding
CHECKED_STEPS = 2
NEAR = 1e-5


def transitions(
    sampler: Sampler, start: Start, *, temperature: float = 1.0, state: Memory | None = None
) -> tuple[IntArray, IntArray, FloatArray]:
    """Every outcome of one step: origin (R,), tokens after it (R, L), and their probability given the origin (R,).

    Outcomes may repeat. `state`: what the sampler remembers at each of the N states, (N, …) by name.
    Raises `UserError` if the sampler does not use its noise as its `choice` declares.
    """
    parts = list(_atoms(sampler, start, temperature))
    origin, proposal = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    uniform, weight = (np.concatenate([part[i] for part in parts]) for i in (2, 3))
    if sampler.choice == "coin":
        row, uniform, weight, chance = _toss(sampler, start, origin, proposal, weight)
        origin, proposal = origin[row], proposal[row]
    after = _run(sampler, start, origin, proposal, uniform, state or {})
    if start.step < CHECKED_STEPS:
        r = start.reveal_probability[origin][:, None] if sampler.choice != "coin" else chance
        other = _disturb(sampler.choice, start, origin, uniform, r)
        again = _run(sampler, start, origin, proposal, other, state or {})
        if (after != again).any():
            raise UserError(
                f"sampler {sampler.spec!r} does not use its noise as its choice = {sampler.choice!r} declares"
            )
    return origin, after, weight


def _atoms(
    sampler: Sampler, start: Start, temperature: float
) -> Iterator[tuple[IntArray, IntArray, FloatArray, FloatArray]]:
    """Per pattern of masks: origin (R,), proposal (R, L), uniform (R, L) and probability (R,) of possible inputs."""
    p = _tempered(start.log_probabilities, temperature)
    seen = start.tokens < p.shape[-1]
    elsewhere = np.where(seen, start.tokens, p.argmax(axis=-1))  # the network carries over seen tokens
    for pattern in np.unique(start.masked, axis=0):
        group = np.flatnonzero((start.masked == pattern).all(axis=1))
        place = np.flatnonzero(pattern)
        values, value_weight = _proposals(p[group][:, place])
        noise, noise_weight = _noise(sampler.choice, len(place), start.reveal_probability[group])
        weight = value_weight[:, :, None] * noise_weight[:, None, :]
        row, value, atom = np.nonzero(weight)
        proposal, uniform = elsewhere[group[row]], np.full((len(row), len(pattern)), 0.5)
        proposal[:, place], uniform[:, place] = values[value], noise[row, atom]
        yield group[row], proposal, uniform, weight[row, value, atom]


def _tempered(log_probabilities: FloatArray, temperature: float) -> FloatArray:
    """(N, L, V) -> the law of the proposal, p^(1/T) normalised; T = 0 is the first of the most likely."""
    if temperature == 0:
        greedy: FloatArray = np.eye(log_probabilities.shape[-1])[log_probabilities.argmax(axis=-1)]
        return greedy
    p = np.exp((log_probabilities - log_probabilities.max(axis=-1, keepdims=True)) / temperature)
    tempered: FloatArray = p / p.sum(axis=-1, keepdims=True)
    return tempered


def _proposals(p: FloatArray) -> tuple[IntArray, FloatArray]:
    """(G, k, V) -> all assignments of possible tokens to the k positions (P, k), and their probabilities (G, P)."""
    possible = [np.flatnonzero(column.any(axis=0)) for column in p.transpose(1, 0, 2)]
    values = np.array(list(product(*possible)), dtype=np.int64)
    weight = np.ones((len(p), len(values)))
    for j in range(len(possible)):
        weight *= p[:, j, values[:, j]]
    return values, weight


def _noise(choice: Choice, k: int, reveal_probability: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Representatives of the noise at k positions (G, A, k), one for each outcome, and their law (G, A)."""
    rows = len(reveal_probability)
    if choice == "order":
        ranks = np.array(list(permutations(range(k))))
        # almost equal, so that a sampler that mixes in anything else has a different law
        noise = 0.5 + NEAR * ranks
        return np.broadcast_to(noise, (rows, *noise.shape)), np.full((rows, len(noise)), 1 / len(noise))
    if choice == "bernoulli":
        heads = np.arange(2**k)[:, None] >> np.arange(k) & 1 == 1
        r = reveal_probability[:, None, None]
        # just beside the threshold, so that a sampler with another threshold has a different law
        return np.where(heads, r * (1 - NEAR), r + (1 - r) * NEAR), np.where(heads, r, 1 - r).prod(axis=-1)
    return np.full((rows, 1, k), 0.5), np.ones((rows, 1))


def _toss(
    sampler: Sampler, start: Start, origin: IntArray, proposal: IntArray, weight: FloatArray
) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    """The sampler's own coins at the free positions of (R,) origins with proposals (R, L) and probabilities (R,).

    For each outcome A: its row, uniforms just beside the thresholds (A, L), probability, and the thresholds (A, L).
    """
    parts = []
    for low in range(0, len(origin), CHUNK):
        some = np.minimum(np.arange(low, low + CHUNK), len(origin) - 1)
        view = view_of(sampler, start, origin[some], proposal[some], np.full((CHUNK, proposal.shape[1]), 0.5))
        parts.append(sampler.coin(view, {}).numpy()[: len(origin) - low].astype(np.float64))
    chance = np.concatenate(parts).clip(0.0, 1.0)  # rounding may give more than 1
    heads = sequences(proposal.shape[1], 2) == 1
    law = np.where(heads, chance[:, None], 1 - chance[:, None])
    law = np.where(start.free[origin][:, None], law, ~heads)  # a fixed position tosses nothing
    weight = weight[:, None] * law.prod(axis=-1)
    row, outcome = np.nonzero(weight)
    r = chance[row]
    lower = heads[outcome] | ~start.free[origin[row]]  # at fixed positions a uniform that would be heads
    return row, np.where(lower, r * (1 - NEAR), r + (1 - r) * NEAR), weight[row, outcome], r


def _disturb(choice: Choice, start: Start, origin: IntArray, uniform: FloatArray, r: FloatArray) -> FloatArray:
    """Noise that is equivalent where the choice uses it, and random elsewhere: it must not change the step.

    `r`: thresholds of coins, (R, 1) or (R, L).
    """
    anything = np.random.default_rng(0).random(uniform.shape)
    spread = ((uniform - 0.5) / NEAR + 0.5) / uniform.shape[1]
    beside = np.where(uniform < r, uniform / 2, (1 + uniform) / 2)
    same = {"order": spread, "bernoulli": beside, "coin": beside}
    used = start.free if choice == "coin" else start.masked
    return np.where(used[origin], same.get(choice, anything), anything)


def _run(
    sampler: Sampler, start: Start, origin: IntArray, proposal: IntArray, uniform: FloatArray, state: Memory
) -> IntArray:
    """(R,), (R, L), (R, L) -> the tokens after the sampler's own step (R, L), in chunks of one shape."""
    from tinygrad import Tensor

    after = np.empty_like(proposal)
    for low in range(0, len(origin), CHUNK):
        some = np.minimum(np.arange(low, low + CHUNK), len(origin) - 1)
        view = view_of(sampler, start, origin[some], proposal[some], uniform[some])
        tokens, _ = sampler.step(view, {name: Tensor(values[origin[some]]) for name, values in state.items()})
        after[low : low + CHUNK] = tokens.numpy()[: len(origin) - low]
    return after


def sequences(length: int, symbols: int) -> IntArray:
    """(symbols^length, length): all of them, in the order of their numbers in base `symbols`."""
    return np.indices((symbols,) * length).reshape(length, -1).T

"""The truth by enumeration, in float64 numpy: a tiny transformer, its bound and its chain rule, and laws of counts.

Nothing here calls the code under test, except to make the networks and the graphs that several test files share.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import combinations, product
from typing import Any

import numpy as np
from mist_bench_plugins.corpus_markov import MarkovCorpus
from mist_bench_plugins.family_autoregressive import AutoregressiveFamily
from mist_bench_plugins.family_mdlm import MdlmFamily
from mist_bench_plugins.family_oracle import OracleModel

from mist_bench import Family, FloatArray, IntArray, Model, NetworkSize
from mist_bench.engine.graph import overwrite
from mist_bench.inference.causal import CausalEvaluator
from mist_bench.inference.masked import MaskedEvaluator
from mist_bench.inference.step import Needs

S, L = 3, 4  # symbols and positions
SIZE = NetworkSize(dim=16, layers=1, heads=2, feed_forward=32, conditioning_dim=8)
BATCH = 256
TEXTS = np.array(list(product(range(S), repeat=L)))  # (81, 4)
MASKS = np.array(list(product([False, True], repeat=L)))  # (16, 4)
WORLD = MarkovCorpus(symbols=S, length=L).oracle()
Values = dict[str, np.ndarray[Any, Any]]


def shaken(model: Model, seed: int) -> Values:
    """Set every parameter of the model to random numbers, also those that start at zero; returns them in float64."""
    rng = np.random.default_rng(seed)
    values = {}
    for name, tensor in model.parameters.items():
        fan_in = tensor.shape[0] ** -0.5
        scale = {"tokens": 0.5, "positions": 0.5, "head": 0.5 * fan_in, "modulation": 0.6}.get(name, fan_in)
        base = 1.0 if len(tensor.shape) == 1 else 0.0
        values[name] = (base + scale * rng.standard_normal(tensor.shape)).astype(np.float32)
    put(model, values)
    return {name: v.astype(np.float64) for name, v in values.items()}


def put(model: Model, values: Values) -> None:
    """Replace the parameters of a model."""
    for name, tensor in model.parameters.items():
        overwrite(tensor, values[name])


def network(family: Family, size: NetworkSize = SIZE, seed: int = 3) -> tuple[Any, Values]:
    model = family.create(size, S, L, 0, None)
    return model, shaken(model, seed)


@cache
def masked() -> tuple[MaskedEvaluator, Values]:
    """The graph of an `mdlm` with random parameters, which also returns the whole answer; and the parameters."""
    model, values = network(MdlmFamily())
    return MaskedEvaluator("tiny", model, BATCH, needs=Needs(whole=True)), values


@cache
def told_last() -> tuple[MaskedEvaluator, Values]:
    """The graph of an `mdlm` that takes the time and its last answer; and its parameters."""
    model, values = network(MdlmFamily(conditioning="time", self_conditioning=True), seed=4)
    return MaskedEvaluator("told", model, BATCH, needs=Needs(whole=True)), values


@cache
def causal() -> tuple[CausalEvaluator, Values]:
    model, values = network(AutoregressiveFamily())
    return CausalEvaluator("tiny", model, BATCH), values


@cache
def oracle() -> MaskedEvaluator:
    """The perfect denoiser of the skewed chain of 3 letters and 4 positions (V = 4: the end token is never said)."""
    return MaskedEvaluator("oracle", OracleModel(WORLD), BATCH)


# ---- the transformer


def log_softmax(x: FloatArray) -> FloatArray:
    x = x - x.max(axis=-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=-1, keepdims=True)))


def _norm(x: FloatArray, which: int, values: Values, told: FloatArray | None) -> FloatArray:
    x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5)
    if told is None:
        return np.asarray(x * values["norms"].reshape(-1, x.shape[-1])[which])
    scale, shift = (told @ w for w in values["modulation"][2 * which : 2 * which + 2])
    return np.asarray(x * (1 + scale[:, None]) + shift[:, None])


def _gate(which: int, layers: int, values: Values, told: FloatArray | None) -> FloatArray:
    if told is None:
        return np.asarray(values["gates"].reshape(2 * layers, -1)[which])
    return np.asarray((told @ values["modulation"][2 * (2 * layers + 1) + which])[:, None])


def told(values: Values, level: FloatArray) -> FloatArray:
    """(B,) -> (B, C): sinusoids of 1000 times the level, and a two-layer perceptron with SiLU."""
    angle = 1000.0 * level[:, None] * 10000.0 ** (-np.arange(32) / 32)
    x = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
    for name in ("time.in", "time.out"):
        x = x @ values[name]
        x = x / (1 + np.exp(-x))
    return np.asarray(x)


def placed(x: FloatArray, heads: int) -> FloatArray:
    """(B, L, D): within each head, numbers i and i + E/2 are one complex number, turned by place * 10000^(-2i/E)."""
    batch, length, dim = x.shape
    x = x.reshape(batch, length, heads, 2, -1)
    turn = np.exp(1j * np.arange(length)[:, None] * 10000.0 ** (-np.arange(x.shape[-1]) / x.shape[-1]))
    z = (x[..., 0, :] + 1j * x[..., 1, :]) * turn[:, None]
    return np.stack([z.real, z.imag], axis=-2).reshape(batch, length, dim)


def gelu(x: FloatArray) -> FloatArray:
    """Its tanh formula (arXiv 1606.08415, section 2)."""
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def logits(
    values: Values, heads: int, tokens: IntArray, vocab_size: int, *, causal: bool, level: FloatArray | None = None,
    extra: FloatArray | float = 0.0,
) -> FloatArray:  # fmt: skip
    """(B, L) -> (B, L, V), one head and one query at a time."""
    length = tokens.shape[1]
    x = values["tokens"][tokens] + values["positions"] + extra
    c = None if level is None else told(values, level)
    layers = sum(name.endswith("attention.in") for name in values)
    biases = values["biases"].reshape(layers, 2, -1)
    for i in range(layers):
        h = _norm(x, 2 * i, values, c)
        q, k, v = np.split(h @ values[f"{i}.attention.in"], 3, axis=-1)
        bias_q, bias_k = biases[i]
        q, k = placed(q + bias_q, heads), placed(k + bias_k, heads)
        width, mixed = q.shape[-1] // heads, np.zeros_like(q)
        for part in (slice(n * width, (n + 1) * width) for n in range(heads)):
            for place in range(length):
                last = place + 1 if causal else length
                score = (q[:, place : place + 1, part] * k[:, :last, part]).sum(axis=-1) / math.sqrt(width)
                weight = np.exp(log_softmax(score))
                mixed[:, place, part] = (weight[:, :, None] * v[:, :last, part]).sum(axis=1)
        x = x + _gate(2 * i, layers, values, c) * (mixed @ values[f"{i}.attention.out"])
        h = _norm(x, 2 * i + 1, values, c) @ values[f"{i}.feed_forward.in"]
        x = x + _gate(2 * i + 1, layers, values, c) * (gelu(h) @ values[f"{i}.feed_forward.out"])
    return np.asarray((_norm(x, 2 * layers, values, c) @ values["head"])[:, :, :vocab_size])


def masked_answer(values: Values, tokens: IntArray, t: FloatArray | None = None, extra: Any = 0.0) -> FloatArray:
    """(B, L) with masks -> (B, L, V), before the carry-over. The level is t, or else the masked fraction."""
    level = None if "time.in" not in values else (tokens == S).mean(axis=1) if t is None else t
    return log_softmax(logits(values, SIZE.heads, tokens, S, causal=False, level=level, extra=extra))


def carried(answer: FloatArray, tokens: IntArray) -> FloatArray:
    """The answer with visible positions certain of their token; probability 0 is -1e9."""
    itself = np.where(tokens[:, :, None] == np.arange(answer.shape[-1]), 0.0, -1e9)
    return np.where((tokens == answer.shape[-1])[:, :, None], answer, itself)


def causal_answer(values: Values, tokens: IntArray) -> FloatArray:
    begun = np.concatenate([np.full((len(tokens), 1), S), tokens[:, :-1]], axis=1)
    return log_softmax(logits(values, SIZE.heads, begun, S, causal=True))


# ---- likelihoods


def of_tokens(answer: FloatArray, tokens: IntArray) -> FloatArray:
    """(B, L, V), (B, L) -> (B, L): the entry of each token."""
    return np.take_along_axis(answer, tokens[:, :, None], axis=2)[:, :, 0]


@cache
def table() -> FloatArray:
    """(81, 16): -log p of the masked tokens given the others, summed, for every text and every mask."""
    return costs_of(masked()[1])


def costs_of(values: Values) -> FloatArray:
    out = np.zeros((len(TEXTS), len(MASKS)))
    for j, mask in enumerate(MASKS):
        answer = masked_answer(values, np.where(mask, S, TEXTS))
        out[:, j] = -(of_tokens(answer, TEXTS) * mask).sum(axis=1)
    return out


def bound(costs: FloatArray) -> FloatArray:
    """(81, 16) -> (81,): over k = 1..L and all sets of k positions, L/k times the cost, k and the set uniform."""
    total = np.zeros(len(costs))
    for k in range(1, L + 1):
        sets = [np.isin(np.arange(L), c) for c in combinations(range(L), k)]
        for chosen in sets:
            total += costs[:, int(np.flatnonzero((chosen == MASKS).all(axis=1))[0])] / k / len(sets)
    return total


def lookup(costs: FloatArray) -> Any:
    """An `answer` for the estimators that takes (text, mask) from the table: all its cost at the first masked place."""

    def answer(tokens: IntArray, masked: IntArray, t: FloatArray) -> FloatArray:
        text = tokens @ S ** np.arange(L - 1, -1, -1)
        mask = masked @ 2 ** np.arange(L - 1, -1, -1)
        out = np.zeros(tokens.shape)
        out[np.arange(len(out)), masked.argmax(axis=1)] = -costs[text, mask]
        return out

    return answer


# ---- statistics


def assert_within_4_se(values: FloatArray, truth: FloatArray | float) -> None:
    """The mean of independent values against the truth."""
    difference = np.asarray(values) - truth
    error = difference.std(ddof=1) / math.sqrt(len(difference))
    z = abs(difference.mean()) / error
    assert z < 4, f"off by {z:.1f} standard errors"


def assert_counts_follow(counts: IntArray, law: FloatArray) -> None:
    """Pearson's chi-square, cells below 5 expected put together; at most 4 normal deviations (Wilson-Hilferty)."""
    expected = law / law.sum() * counts.sum()
    rare = expected < 5
    observed, expected = (np.append(x[~rare], x[rare].sum()) for x in (counts, expected))
    assert observed[-1] == 0 or expected[-1] > 0, "what cannot be was drawn"
    kept = expected > 0
    chi, df = (((observed - expected) ** 2)[kept] / expected[kept]).sum(), kept.sum() - 1
    z = ((chi / df) ** (1 / 3) - (1 - 2 / (9 * df))) / math.sqrt(2 / (9 * df))
    assert z < 4, f"chi-square {chi:.1f} with {df} degrees of freedom"


# ---- one step of a sampler


def one_step_law(origin: IntArray, after: IntArray, weight: FloatArray) -> dict[tuple[int, ...], float]:
    """What `transitions` gives, as the probability of each (origin, token, token, …)."""
    law: dict[tuple[int, ...], float] = {}
    for b, tokens, w in zip(origin, after, weight, strict=True):
        key = (int(b), *(int(a) for a in tokens))
        law[key] = law.get(key, 0.0) + w
    return law


def assert_laws_agree(law: dict[Any, float], truth: dict[Any, float]) -> None:
    worst = max(abs(law.get(key, 0.0) - truth.get(key, 0.0)) for key in law.keys() | truth.keys())
    assert worst < 1e-6, f"a probability is off by {worst}"

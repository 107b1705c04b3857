"""Measures of generated sequences: entropy, distinct pairs, the judge's columns, and comparison with an oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..api.component import FloatArray, IntArray
from ..api.corpora import Oracle
from ..data.slot_world import SlotWorld
from .statistics import mean_and_error, ratio

BLOCK = 2**22
"""Tokens that are counted at once."""


def token_entropy(tokens: IntArray, vocab_size: int) -> FloatArray:
    """Entropy in nats of the unigram distribution within each sequence: (N, L) -> (N,)."""
    keys = np.arange(len(tokens))[:, None] * np.int64(vocab_size) + tokens
    found, counts = np.unique(keys, return_counts=True)  # those that occur: a table of all words may be huge
    p = counts / tokens.shape[1]
    return np.asarray(np.bincount(found // vocab_size, weights=-p * np.log(p), minlength=len(tokens)), dtype=np.float64)


def distinct_2(tokens: IntArray, vocab_size: int) -> float:
    """Number of distinct pairs of neighbouring tokens over the number of all such pairs, in all sequences together."""
    pairs = tokens[:, :-1].astype(np.int64) * vocab_size + tokens[:, 1:]
    return float(len(np.unique(pairs)) / max(1, pairs.size))


def text_columns(tokens: IntArray, vocab_size: int, clusters: IntArray) -> dict[str, float | None]:
    """Columns for any corpus: token entropy and distinct pairs."""
    entropy, error = mean_and_error(token_entropy(tokens, vocab_size), clusters)
    return {"token_entropy": entropy, "token_entropy_se": error, "distinct_2": distinct_2(tokens, vocab_size)}


def text_judge_columns(
    nats: FloatArray, scored: IntArray, texts: Sequence[str], clusters: IntArray
) -> dict[str, float | None]:
    """Columns of a judge with its own tokenizer: nats per byte, and perplexity per token of the judge.

    `nats` (N,) of each whole text, `scored` (N,) number of the judge's tokens in it. Both are ratios of sums, so an
    empty text counts with its length of 0. None if all texts are empty, or the judge scored no token.
    """
    size = np.array([len(text.encode("utf-8", "replace")) for text in texts], dtype=np.float64)
    per_byte, error = ratio(nats, size, clusters) if size.any() else (None, None)
    count = int(scored.sum())
    perplexity = float(np.exp(nats.sum() / count)) if count else None
    return {"judge_nats_per_byte": per_byte, "judge_nats_per_byte_se": error, "judge_perplexity": perplexity}


def oracle_columns(oracle: Oracle, tokens: IntArray, seed: int, clusters: IntArray) -> Mapping[str, float | None]:
    """Columns for a corpus with an oracle: valid rate, distinct over expected texts, divergence with its floor."""
    combinations, truth = oracle.slots(tokens)
    valid, error = mean_and_error((combinations >= 0).astype(np.float64), clusters)
    distinct = len(np.unique(combinations[combinations >= 0]))
    shown, truth = oracle.shown_joint(combinations) if isinstance(oracle, SlotWorld) else (combinations, truth)
    floor, spread = divergence_floor(len(tokens), truth, seed)
    return {
        "oracle_valid_rate": valid,
        "oracle_valid_rate_se": error,
        "oracle_distinct_ratio": distinct / oracle.expected_distinct(len(tokens)),
        "oracle_divergence": divergence(shown, truth),
        "oracle_divergence_floor": floor,
        "oracle_divergence_floor_se": spread,
    }


def clusters_of_samples(tokens: IntArray, source: IntArray | None = None) -> IntArray:
    """(N, L) samples -> (N,) the independent unit of each: the sample itself, or `source` (N,), the unit of the text
    that it was taken from or continues. Samples that are all the same are one unit: nothing shows how they vary."""
    if (tokens == tokens[:1]).all():
        return np.zeros(len(tokens), dtype=np.int64)
    return np.arange(len(tokens)) if source is None else source


def divergence(shown: IntArray, truth: FloatArray) -> float:
    """Total variation between the empirical law of `shown` (-1 for an invalid text) and the truth."""
    counts = np.bincount(shown[shown >= 0], minlength=len(truth)) / len(shown)
    return float(0.5 * (np.abs(counts - truth).sum() + (shown < 0).mean()))


def divergence_floor(count: int, truth: FloatArray, seed: int, repeats: int = 50) -> tuple[float, float]:
    """Mean divergence of `count` perfect samples, and its standard deviation from sample to sample, by simulation."""
    rng = np.random.default_rng(np.random.Philox(key=seed))
    draws = rng.multinomial(count, truth / truth.sum(), size=repeats) / count
    found = 0.5 * np.abs(draws - truth).sum(axis=1)
    return float(found.mean()), float(found.std(ddof=1))


def unigram(tokens: IntArray, vocab_size: int) -> FloatArray:
    """(V,) token frequencies of a split, with 1 added to each count so that no token is impossible."""
    counts = np.zeros(vocab_size)
    rows = max(1, BLOCK // tokens.shape[1])
    for start in range(0, len(tokens), rows):
        counts += np.bincount(np.asarray(tokens[start : start + rows]).ravel(), minlength=vocab_size)
    return np.asarray((counts + 1) / (counts.sum() + vocab_size))

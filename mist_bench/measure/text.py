"""What is measured about generated sequences, with errors over sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..api.component import FloatArray, IntArray
from ..api.corpora import Oracle
from ..data.slot_world import SlotWorld
from .statistics import mean_and_error, ratio


def token_entropy(tokens: IntArray, vocab_size: int) -> FloatArray:
    """(N, L) -> (N,) entropy in nats of the unigram distribution within each sequence."""
    rows = np.arange(len(tokens))[:, None] * vocab_size
    counts = np.bincount((rows + tokens).ravel(), minlength=len(tokens) * vocab_size).reshape(len(tokens), -1)
    p = counts / tokens.shape[1]
    return np.asarray(-np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0.0).sum(axis=1))


def distinct_2(tokens: IntArray, vocab_size: int) -> float:
    """Distinct pairs of neighbouring tokens over all such pairs of all sequences."""
    pairs = tokens[:, :-1].astype(np.int64) * vocab_size + tokens[:, 1:]
    return float(len(np.unique(pairs)) / max(1, pairs.size))


def text_columns(tokens: IntArray, vocab_size: int) -> dict[str, float | None]:
    """The columns that any corpus has."""
    entropy, error = mean_and_error(token_entropy(tokens, vocab_size))
    return {"token_entropy": entropy, "token_entropy_se": error, "distinct_2": distinct_2(tokens, vocab_size)}


def text_judge_columns(nats: FloatArray, scored: IntArray, texts: Sequence[str]) -> dict[str, float | None]:
    """What a judge with tokens of its own says besides nats per token of ours: per byte, and its own perplexity.

    `nats` (N,) of each whole text, `scored` (N,) the judge's tokens in them. Ratios of sums, so that an empty text
    counts as what it is; None where no text has a byte, or the judge no token to score.
    """
    size = np.array([len(text.encode("utf-8", "replace")) for text in texts], dtype=np.float64)
    per_byte, error = ratio(nats, size, np.arange(len(nats))) if size.any() else (None, None)
    count = int(scored.sum())
    perplexity = float(np.exp(nats.sum() / count)) if count else None
    return {"judge_nats_per_byte": per_byte, "judge_nats_per_byte_se": error, "judge_perplexity": perplexity}


def oracle_columns(oracle: Oracle, tokens: IntArray, seed: int) -> Mapping[str, float | None]:
    """Valid rate, distinct stories over those expected, and the divergence of the slots with its floor."""
    found, _ = oracle.slots(tokens)
    valid, error = mean_and_error((found >= 0).astype(np.float64))
    distinct = len(np.unique(found[found >= 0]))
    if isinstance(oracle, SlotWorld):
        shown, truth = oracle.shown_joint(found)
    else:
        shown, truth = found, oracle.slots(tokens[:0])[1]
    return {
        "oracle_valid_rate": valid,
        "oracle_valid_rate_se": error,
        "oracle_distinct_ratio": distinct / oracle.expected_distinct(len(tokens)),
        "oracle_divergence": divergence(shown, truth),
        "oracle_divergence_floor": divergence_floor(len(tokens), truth, seed),
    }


def divergence(shown: IntArray, truth: FloatArray) -> float:
    """Total variation between the empirical law of `shown` (-1: no valid combination) and the truth."""
    counts = np.bincount(shown[shown >= 0], minlength=len(truth)) / len(shown)
    return float(0.5 * (np.abs(counts - truth).sum() + (shown < 0).mean()))


def divergence_floor(count: int, truth: FloatArray, seed: int, repeats: int = 50) -> float:
    """The mean divergence of as many perfect samples, by simulation."""
    rng = np.random.default_rng(np.random.Philox(key=seed))
    draws = rng.multinomial(count, truth / truth.sum(), size=repeats) / count
    return float(0.5 * np.abs(draws - truth).sum(axis=1).mean())


def unigram(tokens: IntArray, vocab_size: int) -> FloatArray:
    """(V,) token frequencies of a split, each token counted once more than it occurs, so that none is impossible."""
    counts = np.zeros(vocab_size)
    for start in range(0, len(tokens), 65536):
        counts += np.bincount(np.asarray(tokens[start : start + 65536]).ravel(), minlength=vocab_size)
    return np.asarray((counts + 1) / (counts.sum() + vocab_size))

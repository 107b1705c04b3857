"""Checks of a corpus that knows its own truth.

The oracle's law, its posterior, its samples and its entropy are four programs, which are compared with each other.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..api.component import FloatArray, IntArray
from .core import Failed, Skipped, check
from .corpora import SAMPLES, CorpusStudy

ORDERS = 4
ENUMERABLE = 20_000
ROUNDING = 2e-5
"""Nats of a posterior computed in float32, at each position."""


@check("corpus")
def oracle_samples(its: CorpusStudy) -> None:
    """The oracle's samples are possible, and their mean -log p is its entropy."""
    tokens, oracle = its.samples(), its.oracle
    if tokens.shape != (SAMPLES, oracle.length) or tokens.min() < 0 or tokens.max() >= oracle.vocab_size:
        raise Failed(
            f"sample gives shape {tokens.shape} and ids up to {tokens.max()}; give (N, L) ids below vocab_size"
        )
    surprise = -oracle.log_probability(tokens)
    if not np.isfinite(surprise).all():
        raise Failed("log_probability of a sample is not finite; sample and log_probability must be one law")
    error = float(surprise.std(ddof=1) / np.sqrt(SAMPLES))
    if abs(surprise.mean() - oracle.entropy()) > 5 * error + 1e-9:
        raise Failed(
            f"the entropy is {oracle.entropy():.5g} nats, but samples cost {surprise.mean():.5g} ± {error:.2g}; fix "
            "entropy, sample or log_probability"
        )


@check("corpus")
def posterior_normalised(its: CorpusStudy) -> None:
    """The posterior sums to 1, never says the mask, and carries over what is seen."""
    tokens, seen = its.hidden()
    found = its.posterior(seen)
    vocab = its.oracle.vocab_size
    if found.shape != (*seen.shape, vocab):
        raise Failed(f"log_posterior gives shape {found.shape}; give (B, L, V), no column for the mask")
    p = np.exp(found)
    if np.abs(p.sum(axis=-1) - 1).max() > vocab * ROUNDING:
        raise Failed(f"the posterior of a position sums to {p.sum(axis=-1).max():.6g}; normalise it")
    shown = seen < vocab
    if (np.abs(p[shown] - np.eye(vocab)[tokens[shown]]) > ROUNDING).any():
        raise Failed("a seen token is not carried over; give it log-probability 0, every other one -1e9")


@check("corpus")
def posterior_chain(its: CorpusStudy) -> None:
    """Revealed one by one in any order, the posterior's product is the text's probability."""
    rng, length, vocab = np.random.default_rng(2), its.oracle.length, its.oracle.vocab_size
    for text in its.samples()[:ORDERS]:
        order = rng.permutation(length)
        rank = np.argsort(order)
        seen = np.where(rank[None, :] >= np.arange(length)[:, None], vocab, text[None, :])
        found = its.posterior(seen)[np.arange(length), order, text[order]].sum()
        true = float(its.oracle.log_probability(text[None])[0])
        if abs(found - true) > length * ROUNDING:
            raise Failed(
                f"the log-posteriors of a text, revealed one by one, add up to {found:.6g} nats, its log_probability "
                f"is {true:.6g}; fix log_posterior (p(x_i | what is seen), each position by itself) or log_probability"
            )


@check("corpus")
def posterior_enumerated(its: CorpusStudy) -> None:
    """In a small world, law and posterior are those of counting every text."""
    length, vocab = its.oracle.length, its.oracle.vocab_size
    if vocab**length > ENUMERABLE:
        raise Skipped(f"{vocab}^{length} texts are too many to count")
    texts = np.indices((vocab,) * length).reshape(length, -1).T
    with np.errstate(divide="ignore"):
        p = np.exp(its.oracle.log_probability(texts))
    if abs(p.sum() - 1) > 1e-9:
        raise Failed(f"the probabilities of all texts add up to {p.sum():.9g}; normalise log_probability")
    entropy = float(-(p[p > 0] * np.log(p[p > 0])).sum())
    if abs(entropy - its.oracle.entropy()) > 1e-9 * max(1.0, entropy):
        raise Failed(f"entropy() is {its.oracle.entropy():.9g}, counted it is {entropy:.9g} nats")
    _, seen = its.hidden()
    found = np.exp(its.posterior(seen))
    for row, answer in zip(_counted(texts, p, seen, vocab), found, strict=True):
        if np.abs(row - answer).max() > ROUNDING:
            raise Failed(
                f"a posterior is off by {np.abs(row - answer).max():.3g} from counting all texts; fix log_posterior"
            )


def _counted(texts: IntArray, p: FloatArray, seen: IntArray, vocab: int) -> Iterator[FloatArray]:
    """The posterior (L, V) of each row by counting."""
    for row in seen:
        fits = p * ((row == vocab) | (texts == row)).all(axis=1)
        law = [np.bincount(texts[:, i], fits, minlength=vocab) for i in range(len(row))]
        yield np.stack(law) / fits.sum()


@check("corpus")
def slots(its: CorpusStudy) -> None:
    """The slots of samples are valid, and their truth sums to 1."""
    found, truth = its.oracle.slots(its.samples())
    if abs(truth.sum() - 1) > 1e-9 or (truth < 0).any():
        raise Failed(f"the truth of slots() sums to {truth.sum():.9g}; it is a law")
    if (found < 0).any() or (found >= len(truth)).any():
        raise Failed("slots() calls a sample of the oracle invalid (-1), or gives an index without a truth")
    if (truth[found] == 0).any():
        raise Failed("slots() gives a sample a combination of probability 0")

"""Controls: sequences from no model, measured in the same tables, which show how far a metric can be gamed."""

from __future__ import annotations

import numpy as np

from ..api.component import IntArray
from ..api.corpora import Oracle
from ..data.dataset import Dataset
from .text import unigram

SEED = 7


def references(dataset: Dataset, count: int) -> IntArray:
    """(count, L) held-out sequences to compare samples with, none of them in the control `data` of the same count: the
    next ones of the test split, then those of the validation split; fewer if the splits are small."""
    rest = np.asarray(dataset.test.tokens[count : 2 * count], dtype=np.int32)
    more = np.asarray(dataset.validation.tokens[: count - len(rest)], dtype=np.int32)
    return np.concatenate([rest, more])


def sequences(control: str, dataset: Dataset, oracle: Oracle | None, count: int) -> IntArray:
    """(count, L) tokens of a control.

    `data`: held-out sequences, fewer if the test split is small. `unigram`: independent tokens by their frequencies in
    the train split. `repeater`: the first train sequence, repeated. Any other name: perfect samples of the
    corpus's own law. Raises ValueError if it has none.
    """
    rng = np.random.default_rng(np.random.Philox(key=SEED))
    if control == "data":
        return np.asarray(dataset.test.tokens[:count], dtype=np.int32)
    if control == "unigram":
        law = unigram(dataset.train.tokens, dataset.vocab_size)
        return rng.choice(dataset.vocab_size, size=(count, dataset.length), p=law).astype(np.int32)
    if control == "repeater":
        return np.repeat(np.asarray(dataset.train.tokens[:1], dtype=np.int32), count, axis=0)
    if oracle is None:
        raise ValueError(f"no control named {control!r}")
    return oracle.sample(count, rng).astype(np.int32)

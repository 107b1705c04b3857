"""Control rows: what is no model, in the same table as the models, so that a number that can be gamed is seen to be."""

from __future__ import annotations

import numpy as np

from ..api.component import IntArray
from ..api.corpora import Oracle
from ..data.dataset import Dataset
from .text import unigram

SEED = 7


def references(dataset: Dataset, count: int) -> IntArray:
    """(count, L) held-out sequences that the control `data` of this count does not show, so that it can be measured
    against them: the test split's next ones, then the validation split's; fewer if there are fewer."""
    rest = np.asarray(dataset.test.tokens[count : 2 * count], dtype=np.int32)
    more = np.asarray(dataset.validation.tokens[: count - len(rest)], dtype=np.int32)
    return np.concatenate([rest, more])


def sequences(control: str, dataset: Dataset, oracle: Oracle | None, count: int) -> IntArray:
    """(count, L) tokens of a control. `data`: held-out sequences (at most as many as there are). `unigram`: tokens
    drawn one by one from the train frequencies. `repeater`: one train sequence, always the same: all valid, nothing
    new. `oracle`: perfect samples of the world."""
    rng = np.random.default_rng(np.random.Philox(key=SEED))
    if control == "data":
        return np.asarray(dataset.test.tokens[:count], dtype=np.int32)
    if control == "unigram":
        law = unigram(dataset.train.tokens, dataset.vocab_size)
        return rng.choice(dataset.vocab_size, size=(count, dataset.length), p=law).astype(np.int32)
    if control == "repeater":
        return np.repeat(np.asarray(dataset.train.tokens[:1], dtype=np.int32), count, axis=0)
    if control == "oracle" and oracle is not None:
        return oracle.sample(count, rng).astype(np.int32)
    raise ValueError(f"no control named {control!r}")

"""Control rows: what is no model, in the same table as the models, so that a number that can be gamed is seen to be."""

from __future__ import annotations

import numpy as np

from .data import Dataset
from .interfaces import IntArray, Oracle
from .metrics import unigram

SEED = 7


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

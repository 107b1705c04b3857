"""Memory that grows with what there is, and not with what there could be."""

import tracemalloc

import numpy as np
import pytest

from mist_bench.measure.text import distinct_2, token_entropy

VOCABULARY = 50_257


def entropy_by_hand(row) -> float:
    counts = np.bincount(row)
    p = counts[counts > 0] / len(row)
    return float(-(p * np.log(p)).sum())


def test_the_entropy_of_samples_takes_a_few_times_the_tokens():
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (256, 128)).astype(np.int32)
    tokens[0] = 7
    tracemalloc.start()
    found = token_entropy(tokens, VOCABULARY)
    distinct_2(tokens, VOCABULARY)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30 * tokens.nbytes
    assert found == pytest.approx([entropy_by_hand(row) for row in tokens]) and found[0] == 0

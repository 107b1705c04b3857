"""Clusters: by hand, and how often the 95 % interval covers the truth where documents are planted, or a process."""

import numpy as np
import pytest

from mist_bench.data.clusters import LARGEST, clusters_of
from mist_bench.measure import statistics

LENGTH, TIMES = 16, 2000


def alone(documents):
    """Sequences with one document each."""
    return np.repeat(np.array(documents)[:, None], 3, axis=1)


def units(documents, places=None):
    documents = np.asarray(documents)
    return clusters_of(documents, np.arange(len(documents)) if places is None else np.array(places)).tolist()


def test_sequences_of_one_document_are_one_unit_in_any_order():
    assert units(alone(range(12))) == list(range(12))
    assert units(alone([3, 3, 5, 6, 7, 9, 9, 12, 14, 14])) == [0, 0, 1, 2, 3, 4, 4, 5, 6, 6]
    mixed = units(alone([9, 3, 14, 5, 12, 3, 7, 9, 14, 6]), [5, 0, 8, 2, 7, 1, 4, 6, 9, 3])
    assert mixed == [4, 0, 6, 1, 5, 0, 3, 4, 6, 2]
    assert units(alone([4])) == [0] and len(set(units(alone([4, 4])))) == 2


def test_a_long_document_is_cut_into_blocks_as_many_as_they_are_long():
    found = np.array(units(alone([0] * 400)))
    assert (np.bincount(found) == 20).all() and (np.diff(found) >= 0).all()
    found = np.bincount(units(alone([*[0] * 300, *np.repeat(np.arange(1, 21), 5)])))
    assert found.tolist() == [20] * 15 + [5] * 20, "and no other is"
    assert np.bincount(units(alone(np.repeat(np.arange(5), 20)))).tolist() == [20] * 5, "a fifth is not too much"


def test_packed_documents_are_joined_until_their_ends_matter_little():
    # of 2 sequences each, from the middle of one to the middle of another
    main = np.arange(201) // 2
    packed = np.stack([np.maximum(main - (np.arange(201) % 2 == 0), 0), main, main], axis=1)
    found = np.array(units(packed))
    assert set(np.bincount(found)[:-1]) == {10}
    assert all(main[i] != main[i - 1] for i in range(1, 201) if found[i] != found[i - 1]), "documents stay whole"
    # every tenth sequence: no two share a document
    assert units(packed[::10], np.arange(0, 201, 10)) == list(range(21))


def test_no_unit_is_larger_than_a_fifth_or_a_block():
    rng = np.random.default_rng(0)
    for _ in range(200):
        count = int(rng.integers(1, 300))
        documents, _ = planted(rng, int(rng.integers(1, 300)), count)
        found = units(documents)
        assert sorted(set(found)) == list(range(max(found) + 1)) and found == sorted(found)
        assert np.bincount(found).max() <= max(LARGEST * count, 1.5 * count**0.5 + 1)
        assert len(set(found)) > 1 or count == 1


# ---- coverage


def planted(rng, mean: int, count: int, spread: float = 1.0):
    """`packed` text: documents of a geometric law of lengths, each with an effect on its tokens, and noise.

    (N, 3) documents and (N,) nats, whose expectation is 0.
    """
    lengths = rng.geometric(1 / mean, size=2 * count * LENGTH // mean + 50)
    while lengths.sum() < count * LENGTH:
        lengths = np.append(lengths, rng.geometric(1 / mean, size=50))
    of = np.repeat(np.arange(len(lengths)), lengths)[: count * LENGTH].reshape(count, LENGTH)
    effects = rng.normal(0, spread, size=len(lengths))
    return of[:, [0, LENGTH // 2, -1]], effects[of].sum(axis=1) + rng.normal(0, 0.3 * LENGTH, size=count)


def chain(rng, correlation: float, count: int):
    """One document whose sequences are a stationary autoregression: neighbours have this correlation."""
    noise = rng.normal(size=count)
    values = np.empty(count)
    values[0] = noise[0] / np.sqrt(1 - correlation**2)
    for i in range(1, count):
        values[i] = correlation * values[i - 1] + noise[i]
    return alone([0] * count), values


def coverage(made, pick=None, clustered=True) -> float:
    """How often the interval of the mean covers the truth, 0; of the sequences `pick` if not of all."""
    inside = 0
    for number in range(TIMES):
        documents, values = made(np.random.default_rng(number))
        places = np.arange(len(values)) if pick is None else pick
        found = clusters_of(documents[places], places) if clustered else places
        mean, error = statistics.ratio(values[places], np.ones(len(places)), found)
        ends = statistics.interval(mean, error, len(np.unique(found)))
        inside += ends is not None and ends[0] <= 0 <= ends[1]
    return inside / TIMES


@pytest.mark.parametrize("mean", [8, 24, 80])
def test_with_planted_documents_the_interval_covers_the_truth_19_times_of_20(mean):
    assert 0.93 <= coverage(lambda rng: planted(rng, mean, 512)) <= 0.97


def test_sequences_from_all_over_a_split_are_nearly_independent():
    every = np.arange(0, 2000, 10)
    assert 0.93 <= coverage(lambda rng: planted(rng, 80, 2000), every) <= 0.97


def test_sequences_taken_as_independent_would_not_cover_it():
    assert coverage(lambda rng: planted(rng, 80, 512), clustered=False) < 0.7


@pytest.mark.parametrize(("correlation", "count"), [(0.0, 64), (0.3, 256), (0.6, 1024)])
def test_blocks_of_one_document_cover_the_truth_of_a_process_of_known_correlation(correlation, count):
    assert 0.93 <= coverage(lambda rng: chain(rng, correlation, count)) <= 0.97
    if correlation:
        assert coverage(lambda rng: chain(rng, correlation, count), clustered=False) < 0.9

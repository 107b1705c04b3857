"""The longest run shared with the train split, against a search that tries everything."""

import numpy as np
import pytest

from mist_bench.measure import overlap


def tried(samples, train, end):
    """The longest run, by trying every pair of positions."""
    def pieces(row):
        return {tuple(row[i:j]) for i in range(len(row)) for j in range(i + 1, len(row) + 1) if end not in row[i:j]}

    known = set().union(*(pieces(row.tolist()) for row in train))
    return [max((len(piece) for piece in pieces(row.tolist()) & known), default=0) for row in samples]


@pytest.mark.parametrize("end", [None, 3])
@pytest.mark.parametrize(("vocab", "length", "rows"), [(4, 12, 5), (4, 7, 60), (9, 20, 40), (4, 1, 3), (2, 33, 4)])
def test_against_brute_force(vocab, length, rows, end):
    rng = np.random.default_rng(vocab + length + rows)
    train, samples = rng.integers(vocab, size=(rows, length)), rng.integers(vocab, size=(30, length))
    samples[0], samples[1, : length // 2] = train[-1], train[0, : length // 2]
    found = overlap.TrainText(train, end).longest_runs(samples)
    assert found.tolist() == tried(samples, train, end)


def test_runs_end_at_the_ends_of_sequences_and_at_end_tokens():
    text = overlap.TrainText(np.array([[1, 2, 3, 4], [5, 6, 9, 9], [7, 9, 7, 8]]), end=9)
    samples = np.array([[3, 4, 5, 6], [9, 9, 9, 9], [6, 9, 9, 7], [0, 1, 2, 3], [0, 0, 0, 0], [8, 9, 9, 9], [6, 7, 9, 7]])
    assert text.longest_runs(samples).tolist() == [2, 0, 1, 3, 0, 1, 1]


def test_the_sequences_of_the_train_split_are_found_whole():
    rng = np.random.default_rng(0)
    train = rng.integers(50, size=(300, 40)).astype(np.uint16)
    text = overlap.TrainText(train, None)
    assert (text.longest_runs(train) == 40).all()
    assert (text.longest_runs(train[:, ::-1]) < 6).all()


def test_only_the_first_tokens_of_a_large_split_are_searched():
    train = np.arange(40).reshape(10, 4)
    text = overlap.TrainText(train, None, largest=22)  # five sequences
    assert text.longest_runs(train).tolist() == [4] * 5 + [0] * 5
    assert overlap.TrainText(train, None, largest=1).longest_runs(train)[0] == 4, "one sequence at least"

"""Memorisation: the longest run of tokens that a sample shares with a sequence of the train split, computed exactly.

The train split becomes one text of runs without end tokens, whose suffixes are sorted once (prefix doubling, to the
depth of a sequence). The suffixes of the samples are looked up by binary search, all at once: the train suffix that
shares the longest run with one is a neighbour of its insertion point.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..api.component import FloatArray, IntArray

LARGEST = 2**23
"""Number of first tokens of the train split that are searched; more would take gigabytes and minutes."""
BLOCK = 8  # tokens compared at once: few suffixes share more
BREAK, FOREIGN = 0, -1  # ends of runs in the train text and in samples, which never match


class TrainText:
    """Search index of the train split. `tokens` (N, L); `end` is the id of the end token, None without one."""

    def __init__(self, tokens: IntArray, end: int | None, largest: int = LARGEST) -> None:
        self.length, self._end = tokens.shape[1], end
        rows = np.asarray(tokens[: max(1, largest // self.length)], dtype=np.int32) + 1
        if end is not None:
            rows[rows == end + 1] = BREAK
        text = np.concatenate([rows, np.full((len(rows), 1), BREAK, dtype=np.int32)], axis=1).ravel()
        text = text[(text != BREAK) | np.append(True, text[:-1] != BREAK)]  # one break between two runs
        self._text = np.concatenate([text, np.full(self.length + BLOCK, BREAK, dtype=np.int32)])
        self._order = _sorted_suffixes(text, self.length)

    def longest_runs(self, samples: IntArray) -> FloatArray:
        """(N, L) -> (N,) length of each sample's longest run of a train sequence, without end tokens."""
        count, length = samples.shape
        longest = np.zeros(count)
        at_once = max(1, 2**19 // length)
        for start in range(0, count, at_once):
            part = np.asarray(samples[start : start + at_once], dtype=np.int32) + 1
            if self._end is not None:
                part[part == self._end + 1] = FOREIGN
            queries = np.concatenate([part, np.full((len(part), 1), FOREIGN, dtype=np.int32)], axis=1).ravel()
            runs = self._runs(np.append(queries, np.full(length + BLOCK, FOREIGN, dtype=np.int32)), queries.size)
            longest[start : start + at_once] = runs.reshape(len(part), length + 1).max(axis=1)
        return longest

    def _runs(self, queries: npt.NDArray[np.int32], count: int) -> IntArray:
        """(count,) length of the longest shared run that begins at each position of the queries."""
        places = np.arange(count)
        low, high = np.zeros(count, dtype=np.int64), np.full(count, len(self._order), dtype=np.int64)
        best = np.zeros(count, dtype=np.int64)
        while (open_ := low < high).any():
            middle = (low + high) // 2
            # finished searches are compared again, which changes nothing
            shared, above = self._compare(queries, places, self._order[np.minimum(middle, len(self._order) - 1)])
            best = np.maximum(best, shared)  # a binary search compares both neighbours of the insertion point
            low, high = np.where(open_ & above, middle + 1, low), np.where(open_ & ~above, middle, high)
        return best

    def _compare(
        self, queries: npt.NDArray[np.int32], places: IntArray, suffixes: IntArray
    ) -> tuple[IntArray, npt.NDArray[np.bool_]]:
        """Number of tokens that each query shares with its suffix, and whether the query sorts after it."""
        shared, above = np.zeros(len(places), dtype=np.int64), np.zeros(len(places), dtype=np.bool_)
        open_ = np.arange(len(places))
        for depth in range(0, self.length + 1, BLOCK):
            window = np.arange(depth, depth + BLOCK)
            mine, theirs = queries[places[open_, None] + window], self._text[suffixes[open_, None] + window]
            differ = mine != theirs
            first = differ.argmax(axis=1)
            decided = differ.any(axis=1)
            shared[open_] += np.where(decided, first, BLOCK)
            row = np.arange(len(open_))
            above[open_] = mine[row, first] > theirs[row, first]
            open_ = open_[~decided]
            if not len(open_):
                break
        return shared, above


def _sorted_suffixes(text: npt.NDArray[np.int32], depth: int) -> IntArray:
    """Positions of `text` outside breaks, sorted by the `depth` tokens that begin there (prefix doubling)."""
    rank = np.unique(text, return_inverse=True)[1].astype(np.int64) + 1
    reach = 1
    while reach < depth:
        later = np.zeros_like(rank)
        later[:-reach] = rank[reach:]
        rank = np.unique(rank * (int(rank.max()) + 1) + later, return_inverse=True)[1].astype(np.int64) + 1
        reach *= 2
        if int(rank.max()) == len(rank):
            break
    order = rank.argsort(kind="stable")
    return np.asarray(order[text[order] != BREAK])

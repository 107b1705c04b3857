"""Clusters: which sequences of a split are one independent unit for a standard error.

Sequences of one document are one unit. Of `packed` text a sequence may hold the end of one document and the beginning
of the next; there a unit is as many whole documents in a row as have SHORTEST sequences, so that what it shares with
its neighbours, a part of one sequence at each end, is little.

A document of more than a fifth of the sequences would leave too few units. It is cut into blocks of neighbours, as many
as they are long: the square-root rule of batch means (Fishman and Yarberry, INFORMS J. Computing 9(3), 1997; Chien,
Goldsman and Melamed, Management Science 43(9), 1997). Their error is that of more text of the same documents.

The rule looks at documents alone, never at a model's numbers, so that all models and their differences have the same
units.
"""

from __future__ import annotations

import numpy as np

from ..api.component import IntArray

LARGEST = 0.2
"""The largest share of the sequences that may be one unit: with fewer than five units an error is hardly known."""
SHORTEST = 10
"""Sequences of a unit that shares documents with its neighbours: they raise the variance of a mean by some 5 %."""


def clusters_of(documents: IntArray, places: IntArray) -> IntArray:
    """(N,) the unit of each sequence, 0 to G-1 in the order of the split.

    `documents` (N, 3): those of the first, the middle and the last token of a sequence. `places` (N,): where it is in
    the split. The sequences may be any part of a split, in any order.
    """
    order = np.argsort(places, kind="stable")
    block = max(1, round(len(order) ** 0.5))
    starts = _starts(documents[order], min(SHORTEST, block))
    sizes = np.diff(np.append(starts, len(order)))
    parts = np.where(sizes > LARGEST * len(order), np.maximum(1, np.rint(sizes / block)), 1).astype(np.int64)
    whole = np.repeat(np.arange(len(starts)), sizes)
    inside = np.arange(len(order)) - starts[whole]
    units = np.empty(len(order), dtype=np.int64)
    units[order] = (np.cumsum(parts) - parts)[whole] + inside * parts[whole] // sizes[whole]
    return units


def _starts(documents: IntArray, shortest: int) -> IntArray:
    """The first sequence of each unit, before any is cut. `documents` (N, 3), in the order of the split."""
    first, main, last = documents.T
    apart = np.append(True, first[1:] > last[:-1])[: len(first)]  # shares no document with the one before
    other = np.append(True, main[1:] != main[:-1])[: len(first)]
    starts: list[int] = []
    for i in np.flatnonzero(apart | other).tolist():
        if apart[i] or i - starts[-1] >= shortest:
            starts.append(i)
    return np.array(starts, dtype=np.int64)

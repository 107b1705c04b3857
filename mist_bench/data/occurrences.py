"""Occurrences of held-out sequences in the train split: as a sequence of it, or at another offset of its texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ..api.component import IntArray

NOWHERE, SAME, SHIFTED = 0, 1, 2
"""Where a held-out sequence occurs in the train split: nowhere, as a sequence of it, at another offset of a text."""
BLOCK = 2**20  # tokens hashed at once
SIEVE = 22  # bits of a hash that are looked up before it is searched for, more if many are wanted
Hashes = npt.NDArray[np.uint64]


def in_train(held_out: Sequence[IntArray], train: IntArray, texts: IntArray | None) -> list[IntArray]:
    """(N, L) sequences of each held-out split, (M, L) of the train split -> (N,) NOWHERE, SAME or SHIFTED, int8.

    `texts`: (M,) the text that each train sequence belongs to, so that a text of several sequences is searched at every
    offset; None: each sequence is a text by itself. Sequences are compared by 64-bit hashes, the sum of v(token)
    b^place modulo 2^64 with random v and odd b: that two different ones collide has a probability of about 2^-56.
    """
    length = train.shape[1]
    largest = max(int(rows.max(initial=0)) for rows in (*held_out, train))
    values = _random(1, largest + 1)
    powers = _powers(int(_random(2, 1)[0] | 1), BLOCK + 2 * length)
    wanted = [_of_rows(rows, values, powers) for rows in held_out]
    known, place = np.unique(np.concatenate(wanted), return_inverse=True)
    found = np.full(len(known), NOWHERE, dtype=np.int8)
    rest = np.uint64(64 - max(SIEVE, (8 * len(known)).bit_length()))
    sieve = np.zeros(2 ** int(64 - rest), dtype=np.bool_)
    sieve[known >> rest] = True
    for hashes, shifted in _of_windows(train, texts, values, powers):
        likely = np.flatnonzero(sieve[hashes >> rest])
        at = np.minimum(np.searchsorted(known, hashes[likely]), len(known) - 1)
        hit = known[at] == hashes[likely]
        here = np.where(shifted[likely[hit]], SHIFTED, SAME)
        before = found[at[hit]]
        found[at[hit]] = np.where(before == NOWHERE, here, np.minimum(before, here))
        np.minimum.at(found, at[hit][here == SAME], SAME)  # one that occurs in both ways within the block
    return np.split(found[place], np.cumsum([len(rows) for rows in wanted])[:-1])


def _of_rows(rows: IntArray, values: Hashes, powers: Hashes) -> Hashes:
    """(N, L) -> (N,) hashes."""
    length = rows.shape[1]
    step = max(1, BLOCK // length)
    blocks = (values[rows[i : i + step]] * powers[:length] for i in range(0, len(rows), step))
    return np.concatenate([block.sum(axis=1, dtype=np.uint64) for block in blocks])


def _of_windows(
    train: IntArray, texts: IntArray | None, values: Hashes, powers: Hashes
) -> Iterator[tuple[Hashes, npt.NDArray[np.bool_]]]:
    """Hashes of the windows of L tokens within the train texts, a block at a time, and which of them are no sequence of
    the split. A window between two sequences of a text begins in the first of them."""
    count, length = train.shape
    if texts is None:
        for start in range(0, count, step := max(1, BLOCK // length)):
            hashes = _of_rows(train[start : start + step], values, powers)
            yield hashes, np.zeros(len(hashes), dtype=np.bool_)
        return
    inverse = _powers(pow(int(powers[1]), -1, 2**64), len(powers))
    for start in range(0, count, step := max(1, BLOCK // length)):
        rows = train[start : start + step + 1]
        begun = np.concatenate([np.zeros(1, dtype=np.uint64), (values[rows.ravel()] * powers[: rows.size]).cumsum()])
        first = np.arange(rows.size - length + 1)
        hashes = (begun[length:] - begun[:-length]) * inverse[: len(first)]
        row, offset = np.divmod(first, length)
        own = np.asarray(texts[start : start + step + 1])
        inside = (offset == 0) | (own[row] == own[np.minimum(row + 1, len(own) - 1)])
        yield hashes[inside], (offset != 0)[inside]


def _random(key: int, count: int) -> Hashes:
    return np.random.Generator(np.random.Philox(key=key)).integers(2**64, size=count, dtype=np.uint64)


def _powers(base: int, count: int) -> Hashes:
    """(count,) base^0, base^1, ... modulo 2^64."""
    factors = np.full(count, base, dtype=np.uint64)
    factors[0] = 1
    return np.asarray(np.multiply.accumulate(factors))

"""What the splits of a corpus share and what was left out of them: lines of a run, likelihoods of unseen text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..api.component import FloatArray, IntArray
from ..measure.statistics import ratio

LEFT_OUT = 0.05
"""Share of a split's tokens from which on a run says that they are in no sequence."""
Facts = Mapping[str, Mapping[str, Any]]
"""By split: `sequences`, `left_out` (a share of its tokens), and of held-out splits `same` and `shifted`: how many
sequences the train split has too, as sequences of it or at another offset of its texts."""


def to_truth(nats: FloatArray, truth: FloatArray | None, clusters: IntArray) -> dict[str, Any]:
    """(N,) nats over those of the same sequences under the corpus's own law; no column where that is not known."""
    if truth is None:
        return {}
    value, error = ratio(nats, truth[: len(nats)], clusters[: len(nats)])
    return {"ratio_to_truth": value, "ratio_to_truth_se": error if np.isfinite(error) else None}


def unseen(
    nats: FloatArray, new: npt.NDArray[np.bool_], truth: FloatArray | None, clusters: IntArray, length: int
) -> dict[str, Any]:
    """The columns about the test sequences that are nowhere in the train split; none where all sequences are unseen.

    (N,) nats, which are nowhere in it, nats under the corpus's own law if that is known, clusters; N or more each.
    """
    new = new[: len(nats)]
    if new.all():
        return {}
    columns: dict[str, Any] = {"unseen_sequences": int(new.sum())}
    if new.any():
        own, mine = clusters[: len(nats)][new], nats[new]
        value, error = ratio(mine, np.full(len(mine), float(length)), own)
        columns |= {"unseen_nats_per_token": value, "unseen_nats_per_token_se": error}
        if truth is not None:
            value, error = ratio(mine, truth[: len(nats)][new], own)
            columns |= {"unseen_ratio_to_truth": value, "unseen_ratio_to_truth_se": error}
    return columns


def lines(facts: Facts, corpus: str, length: int) -> list[str]:
    """What a run says of its splits: shared sequences, and text left out if that is more than LEFT_OUT somewhere."""
    said = []
    shared = {name: split for name, split in facts.items() if split.get("same") or split.get("shifted")}
    if shared:
        counts = "; ".join(_shared(name, shared[name]) for name in ("test", "validation") if name in shared)
        said.append(f"held-out text of {corpus} that is in its train split, token for token: {counts}")
    if any(split["left_out"] >= LEFT_OUT for split in facts.values()):
        shares = ", ".join(f"{100 * split['left_out']:.2g} % of {name}" for name, split in facts.items())
        said.append(
            f"left out of {corpus}, in no sequence of {length} tokens: {shares} (ends of documents, and documents that "
            "are too short; longer documents or shorter sequences lose less)"
        )
    return said


def _shared(name: str, split: Mapping[str, Any]) -> str:
    moved = f" and {split['shifted']} at another offset" if split["shifted"] else ""
    return f"{split['same']}{moved} of {split['sequences']} {name} sequences"

"""The validation sequences that training curves are measured on, and the truth about them in oracle worlds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...api.component import IntArray

if TYPE_CHECKING:
    from ..workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class Amount:
    """How many of the first validation sequences a point of a curve is measured on, each with so many mask draws."""

    sequences: int
    draws: int


ALONG, LAST = Amount(sequences=64, draws=4), Amount(sequences=256, draws=8)
"""Fixed numbers: a curve must not depend on settings that are not part of its training. The last point is compared with
the tables, so it has more of both; at every point that would cost as much as a tenth of a short training."""


def validation_tokens(bench: Workbench, amount: Amount) -> IntArray:
    """(N, L) the first validation sequences, as many as there are at most."""
    return np.asarray(bench.dataset.validation.tokens[: amount.sequences])


def validation_truth(bench: Workbench) -> dict[str, float]:
    """Nats per token of the sequences of each amount under the corpus's own law, by their number; empty if the corpus
    does not know it."""
    if bench.oracle is None:
        return {}
    each = -bench.oracle.log_probability(validation_tokens(bench, LAST)) / bench.dataset.length
    counts = (min(len(each), amount.sequences) for amount in (ALONG, LAST))
    return {str(count): float(each[:count].mean()) for count in counts}

"""The validation sequences that training curves are measured on, and the truth about them in oracle worlds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...api.component import IntArray

if TYPE_CHECKING:
    from ..workbench import Workbench

SEQUENCES, DRAWS = 64, 4
"""Fixed numbers: a curve must not depend on settings that are not part of its training."""


def validation_tokens(bench: Workbench) -> IntArray:
    """(N, L) the first validation sequences."""
    return np.asarray(bench.dataset.validation.tokens[:SEQUENCES])


def validation_truth(bench: Workbench) -> float | None:
    """Nats per token of these sequences under the corpus's own law; None if the corpus does not know it."""
    if bench.oracle is None:
        return None
    return float(-bench.oracle.log_probability(validation_tokens(bench)).mean() / bench.dataset.length)

"""What a metric implements: numbers about generated text."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from .component import Component


class Metric(Component, ABC):
    """Numbers about generated text, columns of the generation table. Measured where `generation.metrics` names it."""

    def identity(self) -> dict[str, Any]:
        """All that its values depend on: name, parameters, and e.g. the version of a model that it uses. Part of the
        hash of its cells.

        Called before anything is computed: raises `UserError` if something that it needs is missing.
        """
        return self.content()

    @abstractmethod
    def measure(self, texts: Sequence[str], references: Sequence[str]) -> Mapping[str, float]:
        """Columns and their values for these samples; a column `X_se` is the standard error of `X`.

        `references` are held-out sequences, if possible as many as the texts; none of them is in the row `data`.
        """


def columns_problem(columns: Any) -> str:
    """Why this cannot be what a metric measured; empty if it can."""
    if not isinstance(columns, Mapping):
        return f"it gives {columns!r:.80}, not columns and their values; give a dict, e.g. {{'words': 1.5}}"
    for name, value in columns.items():
        if not isinstance(name, str):
            return f"it names a column {name!r:.80}; a name is a text"
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            return f"{name} is {value!r:.80}; give a finite float (divide by max(1, count))"
    return ""

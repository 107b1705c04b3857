"""What a metric implements: numbers about generated text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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

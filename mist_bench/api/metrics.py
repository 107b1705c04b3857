"""The interface of metrics: numbers about generated text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from .component import Component


class Metric(Component, ABC):
    """Numbers about generated text, columns of the generation table. Measured where `generation.metrics` names it."""

    def identity(self) -> dict[str, Any]:
        """What makes its values others: name, parameters, and e.g. the version of a model that it asks.

        Called before anything is made: raises `UserError` if what it needs is not there.
        """
        return self.content()

    @abstractmethod
    def measure(self, texts: Sequence[str], references: Sequence[str]) -> Mapping[str, float]:
        """Columns and their values for these samples; a column `X_se` is the standard error of `X`.

        `references` are held-out sequences, as many as the texts if there are, none of them in the row `data`.
        """

"""A model behind captured graphs: the base of the evaluators of masked and of causal models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import numpy as np

from ..api.families import Model
from ..engine.graph import Graph, overwrite

AnyModel = TypeVar("AnyModel", bound=Model)


class Evaluator(ABC, Generic[AnyModel]):
    """One model and its graphs for all checkpoints of a shape: `load` copies one into the model's buffers."""

    def __init__(self, model: AnyModel, batch: int, nucleus: float) -> None:
        self.model, self.batch, self.nucleus = model, batch, nucleus
        model.keep_copies()

    @property
    @abstractmethod
    def graphs(self) -> list[Graph]:
        """The graphs of a generation."""

    def load(self, values: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Replace the parameters of the model, by name."""
        for name, tensor in self.model.parameters.items():
            overwrite(tensor, values[name].astype(np.float32))
        self.model.keep_copies()

    @abstractmethod
    def drop(self) -> None:
        """Free the memory of all graphs; the evaluator cannot be used afterwards."""

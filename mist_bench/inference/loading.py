"""Checkpoints into the buffers of a model, which captured graphs hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..api.families import Model
from ..engine.graph import overwrite


def load_parameters(model: Model, values: dict[str, np.ndarray[Any, Any]]) -> None:
    """Puts a checkpoint's parameters into the model's buffers."""
    for name, tensor in model.parameters.items():
        overwrite(tensor, values[name].astype(np.float32))


def load_to_read(model: Model, values: dict[str, np.ndarray[Any, Any]]) -> None:
    """The same for a model that is not trained any more."""
    load_parameters(model, values)
    model.keep_copies()

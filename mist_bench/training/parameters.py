"""All parameters of a model in one flat buffer, so that the optimiser's step is a few kernels for all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from tinygrad import Tensor

ALIGNMENT = 64
"""Each parameter begins at a multiple of so many numbers: whole vectors and cache lines. The gaps stay zero."""
ROWS = 1024
"""The buffer has so many rows, so that many threads share a sum over it."""
Values = dict[str, np.ndarray[Any, Any]]


class Layout:
    """The place of each parameter in the buffer: matrices, which have weight decay, before the rest."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self.shapes = {name: tuple(int(size) for size in p.shape) for name, p in parameters.items()}
        self.places: dict[str, slice] = {}
        self.matrices = self.size = 0
        for name in sorted(self.shapes, key=lambda name: len(self.shapes[name]) < 2):  # a stable sort
            stop = self.size + math.prod(self.shapes[name])
            self.places[name] = slice(self.size, stop)
            self.size = -(-stop // ALIGNMENT) * ALIGNMENT
            if len(self.shapes[name]) > 1:
                self.matrices = self.size
        self.size = -(-self.size // ROWS) * ROWS
        if self.size % 3 == 0:  # tinygrad would give each thread 3 numbers; 4 are one memory access
            self.size += ROWS

    def square_sum(self, flat: Tensor) -> Tensor:
        """(size,) -> scalar, in two sums: few threads would share a single one."""
        return flat.square().reshape(ROWS, -1).sum(axis=0).contiguous().sum()

    def join(self, values: Mapping[str, np.ndarray[Any, Any]]) -> npt.NDArray[np.float32]:
        """Arrays by name -> (size,) float32."""
        flat = np.zeros(self.size, dtype=np.float32)
        for name, place in self.places.items():
            if values[name].shape != self.shapes[name]:
                raise ValueError(f"{name} has shape {values[name].shape}, not {self.shapes[name]}")
            flat[place] = values[name].ravel()
        return flat

    def split(self, flat: np.ndarray[Any, Any]) -> Values:
        """(size,) -> arrays by name, copies."""
        return {name: flat[self.places[name]].reshape(shape).copy() for name, shape in self.shapes.items()}

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """(size,) -> tensors by name, as views of it."""
        return {name: flat[self.places[name]].reshape(shape) for name, shape in self.shapes.items()}

    def store(self, flat: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """`flat` after the values are written to their places, each by the kernel that computes it."""
        stores = [flat[self.places[name]].uop.store(value.reshape(-1).uop) for name, value in values.items()]
        return Tensor(flat.uop.after(*stores))

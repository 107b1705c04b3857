"""Named arrays in one flat buffer of 32-bit words, so that a captured graph gets all its inputs in one transfer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tinygrad import Tensor

Words = npt.NDArray[np.int32]
Fields = TypeVar("Fields")


class Field(NamedTuple):
    """Type and shape of one array."""

    dtype: Literal["float32", "int32", "uint32"]
    shape: tuple[int, ...] = ()


class Packed(Generic[Fields]):
    """Layout of named fields in one buffer: `pack` writes them on the host, `unpack` reads them within a graph.

    `kind`: the class that `unpack` returns, which takes a tensor for each field by its name.
    """

    def __init__(self, kind: Callable[..., Fields], **fields: Field) -> None:
        self.kind, self.fields = kind, fields
        self.places: dict[str, slice] = {}
        self.size = 0
        for name, field in fields.items():
            self.places[name] = slice(self.size, self.size + math.prod(field.shape))
            self.size = self.places[name].stop

    def pack(self, **values: Any) -> Words:
        """(size,) the words of these values. Raises TypeError for unknown or missing fields and for wrong shapes."""
        if values.keys() != self.fields.keys():
            raise TypeError(f"the fields are {', '.join(self.fields)}, not {', '.join(values)}")
        words = np.empty(self.size, dtype=np.int32)
        for name, field in self.fields.items():
            value = np.asarray(values[name])
            if value.shape != field.shape:
                raise TypeError(f"field {name!r} has the shape {field.shape}, not {value.shape}")
            words.view(field.dtype)[self.places[name]] = value.ravel()
        return words

    def unpack(self, words: Tensor) -> Fields:
        """The fields of (size,) words, each in its own type and shape."""
        return self.kind(**{name: self._read(words, name) for name in self.fields})

    def _read(self, words: Tensor, name: str) -> Tensor:
        dtype, shape = self.fields[name]
        part = words[self.places[name]]
        return (part if dtype == "int32" else part.bitcast(dtype)).reshape(shape)

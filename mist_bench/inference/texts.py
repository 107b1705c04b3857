"""The texts of a batch on the device, with everything that an evaluation of them reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from tinygrad import Tensor

from ..api.component import IntArray
from ..engine.graph import Inbox
from ..engine.packed import Words
from .step import step_inputs


class DeviceTexts:
    """Buffers for the texts of a batch: the owner writes them, a `Denoiser` reads them, a sampler changes `tokens`."""

    def __init__(self, batch: int, length: int) -> None:
        self.layout = step_inputs(batch)
        self.inputs = Inbox(self.layout.size)
        """The inputs of the next step, packed."""
        self.tokens, self.targets = Inbox(batch, length), Inbox(batch, length)
        self.sequences, self.free = Inbox(batch, dtype="uint32"), Inbox(batch, length, dtype="bool")

    def begin(
        self, tokens: IntArray, free: npt.NDArray[np.bool_], sequences: IntArray, targets: IntArray | None = None
    ) -> None:
        """Write (B, L) tokens with masks, (B, L) which are not part of the prompt, (B,) the sequence numbers that noise
        belongs to, and (B, L) the tokens whose probability is wanted."""
        self.write(tokens, np.zeros(tokens.shape) if targets is None else targets)
        self.free(free)
        self.sequences(sequences.astype(np.uint32))

    def write(self, tokens: npt.NDArray[Any], targets: npt.NDArray[Any]) -> None:
        """Replace the tokens and the targets, (B, L) each."""
        self.tokens(tokens.astype(np.int32))
        self.targets(targets.astype(np.int32))

    def give(self, words: Words) -> None:
        """Write the packed inputs of the next step."""
        self.inputs(words)

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens, targets, packed step inputs and sequence numbers."""
        return self.tokens.tensor, self.targets.tensor, self.inputs.tensor, self.sequences.tensor

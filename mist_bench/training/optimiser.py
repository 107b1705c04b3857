"""AdamW over one flat buffer of all parameters, with gradient clipping and an average of the weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from tinygrad import Tensor

from ..engine.graph import fetch, overwrite
from ..host.config import TrainingConfig
from .batch import Rates
from .parameters import Layout

State = dict[str, np.ndarray[Any, Any]]


def spread(x: Tensor, devices: tuple[str, ...], axis: int | None = None) -> Tensor:
    """A part of a graph's input on all devices: shares of it along an axis, or a copy on each."""
    # a copy between devices needs a buffer of its own, not a part of one
    return x.clone().shard(devices, axis) if len(devices) > 1 else x


class Optimiser:
    """The parameters of a model and the optimiser's state, each one buffer with a copy on every device.

    `parameters`: the model's tensors by name, for the layout and the first values.
    """

    def __init__(self, parameters: dict[str, Tensor], config: TrainingConfig, devices: tuple[str, ...]) -> None:
        self.config, self.devices, self.layout = config, devices, Layout(parameters)
        self.parameters, self.first, self.second, self.average = (self.zeros() for _ in range(4))
        Tensor.realize(self.parameters, self.first, self.second, self.average)
        self._write(self.parameters, {name: fetch(p) for name, p in parameters.items()})

    def zeros(self) -> Tensor:
        """A new buffer of this layout, a copy on every device."""
        return Tensor.zeros(self.layout.size).contiguous().shard(self.devices)

    def views(self) -> dict[str, Tensor]:
        """The parameters by name, as views of the flat buffer."""
        return self.layout.views(self.parameters)

    @property
    def groups(self) -> dict[str, Tensor]:
        """The buffers that a checkpoint of an unfinished training holds, by name."""
        return {"parameters": self.parameters, "first": self.first, "second": self.second, "average": self.average}

    def _write(self, flat: Tensor, values: State) -> None:
        overwrite(flat, self.layout.join(values))

    def start(self, parameters: State) -> None:
        """Begin a training with these parameters."""
        for flat in (self.parameters, self.average):
            self._write(flat, parameters)
        for flat in (self.first, self.second):
            overwrite(flat, np.zeros(flat.shape, dtype=np.float32))

    def state(self) -> State:
        """All tensors of an unfinished training, as `group/parameter`."""
        return {f"{group}/{name}": value for group, flat in self.groups.items()
                for name, value in self.layout.split(fetch(flat)).items()}  # fmt: skip

    def restore(self, state: State) -> None:
        """Continue from the result of `state`."""
        for group, flat in self.groups.items():
            self._write(flat, {name: state[f"{group}/{name}"] for name in self.layout.shapes})

    def averaged(self) -> State:
        """The averaged weights by name: those that are evaluated."""
        return self.layout.split(fetch(self.average))

    def step(self, g: Tensor, rates: Rates[Tensor]) -> list[Tensor]:
        """The buffers after one step from the flat gradient `g`, to be realized together.

        Clips the gradient to a norm and takes a step of AdamW (arXiv 1711.05101), without weight decay for what is not
        a matrix.
        """
        config, first, second, p = self.config, self.first, self.second, self.parameters.detach()
        g = g * (config.gradient_clip / (self.layout.square_sum(g).sqrt() + 1e-6)).minimum(1.0).contiguous()
        first.assign(config.beta1 * first + (1 - config.beta1) * g)
        second.assign(config.beta2 * second + (1 - config.beta2) * g * g)
        decay = (Tensor.arange(self.layout.size) < self.layout.matrices).where(config.weight_decay, 0.0)
        denominator = (second / rates.second_correction).sqrt() + 1e-8
        change = (first / rates.first_correction) / denominator + spread(decay, self.devices) * p
        self.parameters.assign(p - rates.learning_rate * change)
        self.average.assign(rates.average_decay * self.average + (1 - rates.average_decay) * self.parameters.detach())
        return [first, second, self.parameters, self.average]

"""The captured step of a training: gradients of the loss, clipping, AdamW, and an average of the weights.

A batch that is read whole is one graph. One that is read in parts of `micro_batch` sequences is two: the first adds a
part's gradients to buffers in float32, the second takes the optimiser's step from their mean. A family's loss is a mean
over sequences, and noise belongs to a sequence's place in the batch, so the parts change nothing but rounding.

Several devices share what is read at once: each has a copy of the parameters and of the optimiser's state, and a share
of the sequences; tinygrad adds their gradients up (`Tensor.shard`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from tinygrad import Tensor
from tinygrad.nn.state import get_parameters

from . import device, noise
from .config import TrainingConfig
from .families import Family, Model, TrainingBatch
from .graphs import Graph, Inbox, fetch, load_parameters, overwrite
from .interfaces import FloatArray, IntArray, UserError

RATES = 6
RING = 20
"""Losses stay on the device and are fetched every so many steps."""

Words = npt.NDArray[np.int32]
State = dict[str, np.ndarray[Any, Any]]


def pack(rows: IntArray, numbers: FloatArray, key: tuple[int, int], rates: FloatArray) -> Words:
    """All that a graph is told as one array of 32-bit words: (B, L) tokens, (3, B) t, mask probability and weight, key,
    rates. One transfer costs as much as four small ones save.

    Rates: learning rate, 1 - beta1^n, 1 - beta2^n, decay of the average, the first row's place in the batch, slot.
    """
    words = [rows.astype(np.int32), numbers.astype(np.float32).view(np.int32)]
    words += [np.array(key, dtype=np.uint32).view(np.int32), rates.astype(np.float32).view(np.int32)]
    return np.concatenate([word.ravel() for word in words])


def _copy_to(model: Model, devices: tuple[str, ...]) -> None:
    """A copy of all tensors that the model holds on each device, also of those that are not trained."""
    held = list({id(tensor): tensor for tensor in get_parameters(model)}.values())  # by several names, many of them
    for tensor in held:
        tensor.to_(devices)
    Tensor.realize(*held)


class TrainingGraph:
    """A model, its optimiser's state and the captured step; reused by every training of the same shape.

    `at_once`: how many sequences to try to read at once, 0 for what the configuration says, or else the whole batch.
    Unless the configuration says it, the first step halves that until the device has enough memory.
    """

    def __init__(self, family: Family, model: Model, config: TrainingConfig, at_once: int = 0) -> None:
        self.family, self.model, self.config = family, model, config
        self.devices = device.several(config.devices)
        if len(self.devices) > 1:
            _copy_to(model, self.devices)
        self.names = list(model.parameters)
        values = [model.parameters[n] for n in self.names]
        self.first, self.second = ([self._zeros(p) for p in values] for _ in range(2))
        self.average = [p.detach().clone() for p in values]
        self.losses = Tensor.zeros(RING).contiguous()
        Tensor.realize(*self.first, *self.second, *self.average, self.losses)
        self.told: Inbox | None = None
        self.total: list[Tensor] = []
        """Sums of the loss and of the gradients over the parts of a batch that have been read."""
        self.update: Graph | None = None
        self.fits = False
        """Whether a step has been made, so that the memory is known to suffice."""
        self._begin: Callable[[], None] = lambda: None
        self._lost_seconds = 0.0
        shared = at_once % config.devices == 0  # another run may have had another number of devices
        self._prepare(config.micro_batch or (at_once if shared else 0) or config.batch_size)

    def _prepare(self, micro_batch: int) -> None:
        """The graphs that read so many sequences at once; they are captured, and have buffers, with the first step."""
        self.micro_batch, self.told = micro_batch, None
        self.total = []
        if micro_batch == self.config.batch_size:
            self.graph, self.update = Graph(f"train {self.family.spec}", self._step), None
        else:
            self.graph = Graph(f"gradients {self.family.spec}", self._add)
            self.update = Graph(f"update {self.family.spec}", self._update)

    def _zeros(self, like: Tensor | None = None) -> Tensor:
        """A number, or as many as there are in a parameter, on every device."""
        return Tensor.zeros(*(() if like is None else like.shape)).contiguous().shard(self.devices)

    def _spread(self, x: Tensor, axis: int | None = None) -> Tensor:
        """A part of what the graph is told, on all devices: shares of it along an axis, or all of it on each."""
        # the copy between devices wants a buffer of its own, and takes no part of an input for one
        return x.clone().shard(self.devices, axis) if len(self.devices) > 1 else x

    def _allocate(self) -> Inbox:
        if self.update is not None:
            self.total = [self._zeros(), *(self._zeros(p) for p in self.first)]
            Tensor.realize(*self.total)
        self.told = Inbox(self.micro_batch * (self.model.length + 3) + 2 + RATES)
        return self.told

    @property
    def compile_seconds(self) -> float:
        """What the captures took, also those that did not fit."""
        return self._lost_seconds + sum(graph.compile_seconds for graph in (self.graph, self.update) if graph)

    def start(self, parameters: State) -> None:
        """A fresh optimiser and these parameters."""
        self._begin_with(partial(self._start, parameters))

    def restore(self, state: State) -> None:
        """What `state` gave."""
        self._begin_with(partial(self._restore, state))

    def _begin_with(self, begin: Callable[[], None]) -> None:
        begin()
        if not self.fits:  # a step that runs out of memory half way has changed something
            self._begin = begin

    def _start(self, parameters: State) -> None:
        load_parameters(self.model, parameters)
        for name, first, second, average in zip(self.names, self.first, self.second, self.average, strict=True):
            overwrite(first, np.zeros(first.shape, dtype=np.float32))
            overwrite(second, np.zeros(second.shape, dtype=np.float32))
            overwrite(average, parameters[name])

    def state(self) -> State:
        """All tensors of an unfinished training, by name."""
        groups = {"parameters": [self.model.parameters[n] for n in self.names], "first": self.first,
                  "second": self.second, "average": self.average}  # fmt: skip
        return {f"{g}/{n}": fetch(t) for g, ts in groups.items() for n, t in zip(self.names, ts, strict=True)}

    def _restore(self, state: State) -> None:
        load_parameters(self.model, {n: state[f"parameters/{n}"] for n in self.names})
        for group, tensors in (("first", self.first), ("second", self.second), ("average", self.average)):
            for name, tensor in zip(self.names, tensors, strict=True):
                overwrite(tensor, state[f"{group}/{name}"])

    def averaged(self) -> State:
        """The averaged weights, what is evaluated."""
        return {n: fetch(t) for n, t in zip(self.names, self.average, strict=True)}

    def step(self, words: Callable[[int, int], Words]) -> Tensor:
        """One step of the optimiser -> the ring of losses. `words(start, stop)`: these rows of the batch, packed.

        Raises `UserError` if the device has not enough memory.
        """
        while not self.fits:
            began = time.perf_counter()
            try:
                self._run(words)
                self.fits, self._begin = True, lambda: None
                return self.losses
            except (MemoryError, RuntimeError) as error:
                if not device.out_of_memory(error):
                    raise
            self._read_less()
            self._lost_seconds += time.perf_counter() - began
        self._run(words)
        return self.losses

    def _run(self, words: Callable[[int, int], Words]) -> None:
        told = self.told or self._allocate()
        for start in range(0, self.config.batch_size, self.micro_batch):
            packed = told(words(start, start + self.micro_batch))
            self.graph(packed)
        if self.update is not None:
            self.update(packed)

    def _read_less(self) -> None:
        """Lets go of graphs that did not fit, and begins again with at most half as many sequences at once."""
        for graph in (self.graph, self.update):
            if graph is not None:
                graph.drop()
        if self.config.micro_batch:
            raise UserError(
                f"the device has not enough memory to train with training.micro_batch={self.micro_batch}; "
                "give a smaller one, or 0 for as many sequences as fit"
            )
        each = range(self.config.devices, self.micro_batch // 2 + 1, self.config.devices)
        smaller = [n for n in each if self.config.batch_size % n == 0]
        if not smaller:
            raise UserError(
                "the device has not enough memory to train on one sequence at a time; a smaller network (model.layers, "
                "model.dim) or a smaller length may fit"
            )
        self._prepare(smaller[-1])
        self._begin()

    def _step(self, packed: Tensor) -> Tensor:
        """A whole batch, read at once."""
        loss, *gradients = self._gradients(packed)
        return self._apply(loss, gradients, self._rates(packed))

    def _add(self, packed: Tensor) -> Tensor:
        """Adds what a part of the batch says; the first part begins anew, whatever an interrupted step left."""
        fresh = self._spread(self._rates(packed))[4] == 0
        for total, part in zip(self.total, self._gradients(packed), strict=True):
            total.assign(fresh.where(0.0, total) + part)
        Tensor.realize(*self.total)
        return self.total[0]

    def _update(self, packed: Tensor) -> Tensor:
        """The optimiser's step, by the mean over the parts."""
        loss, *gradients = (total * (self.micro_batch / self.config.batch_size) for total in self.total)
        return self._apply(loss, [g.contiguous() for g in gradients], self._rates(packed))

    def _rates(self, packed: Tensor) -> Tensor:
        return packed[-RATES:].bitcast("float32")

    def _gradients(self, packed: Tensor) -> list[Tensor]:
        """What `pack` made -> the loss of these rows, and its gradient for each parameter."""
        batch, length = self.micro_batch, self.model.length
        ends = np.cumsum([0, batch * length, 3 * batch, 2])
        parts = [packed[int(start) : int(stop)] for start, stop in zip(ends, ends[1:], strict=False)]
        tokens, numbers = parts[0].reshape(batch, length), parts[1].bitcast("float32").reshape(3, batch)
        key, sequences = parts[2].bitcast("uint32"), Tensor.arange(batch).cast("uint32")
        if self.update is not None:
            sequences = sequences + self._rates(packed)[4].cast("uint32")
        numbers = self._spread(numbers, axis=1)
        loss = self.family.loss(self.model, TrainingBatch(
            tokens=self._spread(tokens, axis=0),
            t=numbers[0], mask_probability=numbers[1], weight=numbers[2],
            uniform=self._spread(noise.uniform(key, noise.MASKING, sequences, length).contiguous(), axis=0),
            coin=self._spread(noise.uniform(key, noise.COIN, sequences, 1).reshape(batch), axis=0),
        ))  # fmt: skip
        parameters = [self.model.parameters[n] for n in self.names]
        return [loss.detach(), *(g.contiguous() for g in loss.gradient(*parameters))]

    def _apply(self, loss: Tensor, gradients: list[Tensor], rates: Tensor) -> Tensor:
        """Clips the gradients to a norm and takes the optimiser's step; the loss goes into its slot of the ring."""
        square = Tensor.stack(*[g.square().sum() for g in gradients]).sum()
        clip = (self.config.gradient_clip / (square.sqrt() + 1e-6)).minimum(1.0).contiguous()
        slot = Tensor.arange(RING) == rates[5].int()
        self.losses.assign(slot.where(loss.to(self.devices[0]), self.losses))
        rates = self._spread(rates)
        parameters = [self.model.parameters[n] for n in self.names]
        for p, g, first, second, average in zip(
            parameters, gradients, self.first, self.second, self.average, strict=True
        ):
            self._adamw(p, g * clip, first, second, average, rates)
        Tensor.realize(self.losses, *self.first, *self.second, *parameters, *self.average)
        return self.losses

    def _adamw(self, p: Tensor, g: Tensor, first: Tensor, second: Tensor, average: Tensor, rates: Tensor) -> None:
        """arXiv 1711.05101; no decay for what is no matrix."""
        beta1, beta2 = self.config.beta1, self.config.beta2
        first.assign(beta1 * first + (1 - beta1) * g)
        second.assign(beta2 * second + (1 - beta2) * g * g)
        change = (first / rates[1]) / ((second / rates[2]).sqrt() + 1e-8)
        if p.ndim > 1:
            change = change + self.config.weight_decay * p.detach()
        p.assign(p.detach() - rates[0] * change)
        average.assign(rates[3] * average + (1 - rates[3]) * p.detach())

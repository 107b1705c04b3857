"""The captured step of a training: gradients of the loss, clipping, AdamW, and an average of the weights.

A batch that is read whole is one graph. One that is read in parts of `micro_batch` sequences is two: the first adds a
part's gradients to buffers in float32, the second takes the optimiser's step from their mean. A family's loss is a mean
over sequences, and noise belongs to a sequence's place in the batch, so the parts change nothing but rounding.

Several devices share what is read at once: each has a copy of the parameters and of the optimiser's state, and a share
of the sequences; tinygrad adds their gradients up (`Tensor.shard`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tinygrad import Tensor
from tinygrad.helpers import Context
from tinygrad.nn.state import get_parameters

from ..api.component import FloatArray, IntArray, UserError
from ..api.families import Family, Model, TrainingBatch
from ..engine import device, noise
from ..engine.graph import Graph, Inbox, fetch, overwrite
from ..host.config import TrainingConfig
from .parameters import Layout

RATES = 6
RING = 20
"""Losses stay on the device and are fetched every so many steps."""

Words = npt.NDArray[np.int32]
State = dict[str, np.ndarray[Any, Any]]


class Batch(NamedTuple):
    """What one step of the optimiser is told."""

    rows: IntArray
    """(B, L) tokens."""
    numbers: FloatArray
    """(3, B) t, mask probability and weight."""
    key: tuple[int, int]
    rates: FloatArray
    """Learning rate, 1 - beta1^n, 1 - beta2^n, decay of the average, slot of the ring."""

    def part(self, start: int, stop: int) -> Words:
        """Some of its rows and all else as one array of 32-bit words, rates last, the first row's place in the batch
        before the slot. One transfer costs as much as four small ones save."""
        rates = np.insert(self.rates, RATES - 2, start)
        words = [self.rows[start:stop].astype(np.int32), self.numbers[:, start:stop].astype(np.float32).view(np.int32)]
        words += [np.array(self.key, dtype=np.uint32).view(np.int32), rates.astype(np.float32).view(np.int32)]
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
    `full`: what the family may know of a whole batch on one device (`TrainingBatch.full`).
    """

    def __init__(
        self, family: Family, model: Model, config: TrainingConfig, at_once: int = 0, full: int | None = None
    ) -> None:
        self.family, self.model, self.config, self.full = family, model, config, full
        self.devices = device.several(config.devices)
        if len(self.devices) > 1:
            _copy_to(model, self.devices)
        self.layout = Layout(model.parameters)
        size = self.layout.size
        self.parameters, self.first, self.second, self.average, self.gradient = (self._zeros(size) for _ in range(5))
        self.losses = Tensor.zeros(RING).contiguous()
        Tensor.realize(self.parameters, self.first, self.second, self.average, self.gradient, self.losses)
        self._write(self.parameters, {name: fetch(p) for name, p in model.parameters.items()})
        model.parameters.update(self.layout.views(self.parameters))
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

    def _zeros(self, *shape: int) -> Tensor:
        """A copy on every device."""
        return Tensor.zeros(*shape).contiguous().shard(self.devices)

    def _write(self, flat: Tensor, values: State) -> None:
        overwrite(flat, self.layout.join(values))

    def _spread(self, x: Tensor, axis: int | None = None) -> Tensor:
        """A part of what the graph is told, on all devices: shares of it along an axis, or all of it on each."""
        # the copy between devices wants a buffer of its own, and takes no part of an input for one
        return x.clone().shard(self.devices, axis) if len(self.devices) > 1 else x

    def _allocate(self) -> Inbox:
        if self.update is not None:
            self.total = [self._zeros(), self._zeros(self.layout.size)]
            Tensor.realize(*self.total)
        self.told = Inbox(self.micro_batch * (self.model.length + 3) + 2 + RATES)
        return self.told

    @property
    def compile_seconds(self) -> float:
        """What the captures took, also those that did not fit."""
        return self._lost_seconds + sum(graph.compile_seconds for graph in self.graphs)

    @property
    def graphs(self) -> list[Graph]:
        """What a step replays."""
        return [self.graph] if self.update is None else [self.graph, self.update]

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
        for flat in (self.parameters, self.average):
            self._write(flat, parameters)
        for flat in (self.first, self.second):
            overwrite(flat, np.zeros(flat.shape, dtype=np.float32))

    @property
    def _groups(self) -> dict[str, Tensor]:
        """What an unfinished training is made of."""
        return {"parameters": self.parameters, "first": self.first, "second": self.second, "average": self.average}

    def state(self) -> State:
        """All tensors of an unfinished training, by name."""
        return {f"{group}/{name}": value for group, flat in self._groups.items()
                for name, value in self.layout.split(fetch(flat)).items()}  # fmt: skip

    def _restore(self, state: State) -> None:
        for group, flat in self._groups.items():
            self._write(flat, {name: state[f"{group}/{name}"] for name in self.layout.shapes})

    def averaged(self) -> State:
        """The averaged weights, what is evaluated."""
        return self.layout.split(fetch(self.average))

    def steps(self, batches: Sequence[Batch]) -> Tensor:
        """A step of the optimiser for each -> the ring of losses.

        Raises `UserError` if the device has not enough memory.
        """
        with Context(TRAINING=1):  # type: ignore[no-untyped-call]
            if not self.fits:
                self._fit(batches[0])
                batches = batches[1:]
            # all are made ready before the first: between two steps the same lines take five times as long, since
            # the kernels leave nothing else in the core's caches
            for parts in [self._parts(batch) for batch in batches]:
                self._run(parts)
        return self.losses

    def _fit(self, batch: Batch) -> None:
        """The first step: reads as many sequences at once as the device has memory for."""
        while not self.fits:
            began = time.perf_counter()
            try:
                self._run(self._parts(batch))
                self.fits, self._begin = True, lambda: None
                return
            except (MemoryError, RuntimeError) as error:
                if not device.out_of_memory(error):
                    raise
            self._read_less()
            self._lost_seconds += time.perf_counter() - began

    def _parts(self, batch: Batch) -> list[Words]:
        return [batch.part(start, start + self.micro_batch) for start in range(0, len(batch.rows), self.micro_batch)]

    def _run(self, parts: Sequence[Words]) -> None:
        told = self.told or self._allocate()
        for part in parts:
            packed = told(part)
            self.graph(packed)
        if self.update is not None:
            self.update(packed)

    def _read_less(self) -> None:
        """Lets go of graphs that did not fit, and begins again with at most half as many sequences at once."""
        for graph in self.graphs:
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
        loss, gradient = self._gradient(packed)
        return self._apply(loss, gradient, self._rates(packed))

    def _add(self, packed: Tensor) -> Tensor:
        """Adds what a part of the batch says; the first part begins anew, whatever an interrupted step left."""
        fresh = self._spread(self._rates(packed))[4] == 0
        for total, part in zip(self.total, self._gradient(packed), strict=True):
            total.assign(fresh.where(0.0, total) + part)
        Tensor.realize(*self.total)
        return self.total[0]

    def _update(self, packed: Tensor) -> Tensor:
        """The optimiser's step, by the mean over the parts."""
        loss, gradient = (total * (self.micro_batch / self.config.batch_size) for total in self.total)
        return self._apply(loss, gradient, self._rates(packed))

    def _rates(self, packed: Tensor) -> Tensor:
        return packed[-RATES:].bitcast("float32")

    def _gradient(self, packed: Tensor) -> tuple[Tensor, Tensor]:
        """A `Batch.part` -> the loss of these rows, and its gradient."""
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
            # a part of a batch has early times or late ones, and what several devices read is no row of one
            full=self.full if self.update is None and len(self.devices) == 1 else None,
        ))  # fmt: skip
        parameters = self.model.parameters
        gradients = dict(zip(parameters, loss.gradient(*parameters.values()), strict=True))
        return loss.detach(), self.layout.store(self.gradient, gradients)

    def _apply(self, loss: Tensor, g: Tensor, rates: Tensor) -> Tensor:
        """Clips the gradient to a norm and takes a step of AdamW (arXiv 1711.05101), without decay of what is no
        matrix; the loss goes into its slot of the ring."""
        config, first, second, p = self.config, self.first, self.second, self.parameters.detach()
        slot = Tensor.arange(RING) == rates[5].int()
        self.losses.assign(slot.where(loss.to(self.devices[0]), self.losses))
        rates = self._spread(rates)
        g = g * (config.gradient_clip / (self.layout.square_sum(g).sqrt() + 1e-6)).minimum(1.0).contiguous()
        first.assign(config.beta1 * first + (1 - config.beta1) * g)
        second.assign(config.beta2 * second + (1 - config.beta2) * g * g)
        decay = (Tensor.arange(self.layout.size) < self.layout.matrices).where(config.weight_decay, 0.0)
        change = (first / rates[1]) / ((second / rates[2]).sqrt() + 1e-8) + self._spread(decay) * p
        self.parameters.assign(p - rates[0] * change)
        self.average.assign(rates[3] * self.average + (1 - rates[3]) * self.parameters.detach())
        Tensor.realize(self.losses, first, second, self.parameters, self.average)
        return self.losses

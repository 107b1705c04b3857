"""The captured step of a training: gradients of the loss, then a step of the optimiser.

A batch that is read whole is one graph. One that is read in parts of `micro_batch` sequences is two: the first adds
the gradients of a part to buffers in float32, the second takes the optimiser's step from their mean. The loss of a
family is a mean over sequences, and noise belongs to the place of a sequence in the batch, so the parts change only
rounding.

Several devices share the sequences that are read at once: each has a copy of the parameters and of the optimiser's
state; tinygrad adds their gradients (`Tensor.shard`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from tinygrad import Tensor
from tinygrad.helpers import Context
from tinygrad.nn.state import get_parameters

from ..api.component import UserError
from ..api.families import Family, Model, TrainingBatch
from ..engine import device, noise
from ..engine.graph import Graph, Inbox
from ..engine.packed import Words
from ..host.config import TrainingConfig
from .batch import Batch, BatchInputs, Rates, batch_inputs
from .optimiser import Optimiser, State, spread

RING = 20
"""Losses stay on the device and are fetched every so many steps."""


def _copy_to(model: Model, devices: tuple[str, ...]) -> None:
    """Copy all tensors of the model to each device, also those that are not trained."""
    tensors = list({id(tensor): tensor for tensor in get_parameters(model)}.values())  # many have several names
    for tensor in tensors:
        tensor.to_(devices)
    Tensor.realize(*tensors)


def _rows(x: Tensor) -> list[Tensor]:
    """The parts of a tensor along its first axis."""
    return [x[i] for i in range(int(x.shape[0]))]


class TrainingGraph:
    """A model, its optimiser and the captured step; every training of the same shape uses it again.

    `at_once`: how many sequences to try to read at once, 0 for the number in the configuration, or else the whole
    batch. If the configuration does not set it, the first step halves it until the device has enough memory.
    `full`: `TrainingBatch.full` of a whole batch on one device.
    """

    def __init__(
        self, family: Family, model: Model, config: TrainingConfig, at_once: int = 0, full: int | None = None
    ) -> None:
        self.family, self.model, self.config, self.full = family, model, config, full
        self.devices = device.several(config.devices)
        if len(self.devices) > 1:
            _copy_to(model, self.devices)
        self.optimiser = Optimiser(model.parameters, config, self.devices)
        model.parameters.update(self.optimiser.views())
        self.gradient, self.losses = self.optimiser.zeros(), Tensor.zeros(RING).contiguous()
        Tensor.realize(self.gradient, self.losses)
        self.inbox: Inbox | None = None
        self.total: list[Tensor] = []
        """Sums of the loss and of the gradients over the parts of a batch read so far."""
        self.update: Graph | None = None
        self.fits = False
        """Whether a step has succeeded, so that the memory is known to suffice."""
        self._begin: Callable[[], None] = lambda: None
        self._lost_seconds = 0.0
        shared = at_once % config.devices == 0  # a resumed run may have had a different number of devices
        self._prepare(config.micro_batch or (at_once if shared else 0) or config.batch_size)

    def _prepare(self, micro_batch: int) -> None:
        """Define the graphs that read so many sequences at once; the first step captures them and allocates."""
        self.micro_batch, self.inbox, self.total = micro_batch, None, []
        self.inputs = batch_inputs(micro_batch, self.model.length)
        if micro_batch == self.config.batch_size:
            self.graph, self.update = Graph(f"train {self.family.spec}", self._step), None
        else:
            self.graph = Graph(f"gradients {self.family.spec}", self._add)
            self.update = Graph(f"update {self.family.spec}", self._update)

    def _allocate(self) -> Inbox:
        if self.update is not None:
            self.total = [Tensor.zeros().contiguous().shard(self.devices), self.optimiser.zeros()]
            Tensor.realize(*self.total)
        self.inbox = Inbox(self.inputs.size)
        return self.inbox

    @property
    def compile_seconds(self) -> float:
        """Seconds of all captures, also of those that did not fit."""
        return self._lost_seconds + sum(graph.compile_seconds for graph in self.graphs)

    @property
    def graphs(self) -> list[Graph]:
        """The graphs that a step replays."""
        return [self.graph] if self.update is None else [self.graph, self.update]

    @property
    def operations(self) -> int:
        """Arithmetic operations of one step of the optimiser: forward, backward and update, once they are captured."""
        update = 0 if self.update is None else self.update.operations
        return self.graph.operations * (self.config.batch_size // self.micro_batch) + update

    def start(self, parameters: State) -> None:
        """Begin a training with a fresh optimiser and these parameters."""
        self._begin_with(partial(self.optimiser.start, parameters))

    def restore(self, state: State) -> None:
        """Continue a training from the result of `state`."""
        self._begin_with(partial(self.optimiser.restore, state))

    def _begin_with(self, begin: Callable[[], None]) -> None:
        begin()
        if not self.fits:  # a step that runs out of memory half way has changed the buffers
            self._begin = begin

    def state(self) -> State:
        """All tensors of an unfinished training, by name."""
        return self.optimiser.state()

    def averaged(self) -> State:
        """The averaged weights by name: those that are evaluated."""
        return self.optimiser.averaged()

    def steps(self, batches: Sequence[Batch]) -> Tensor:
        """A step of the optimiser for each batch -> the ring of losses.

        Raises `UserError` if the device has not enough memory.
        """
        with Context(TRAINING=1):  # type: ignore[no-untyped-call]
            if not self.fits:
                self._fit(batches[0])
                batches = batches[1:]
            # all are packed before the first: between two steps the same lines take five times as long, since the
            # kernels leave nothing else in the caches of the core
            for parts in [self._parts(batch) for batch in batches]:
                self._run(parts)
        return self.losses

    def _parts(self, batch: Batch) -> list[Words]:
        size = self.micro_batch
        return [self.inputs.pack(**batch.part(start, start + size)) for start in range(0, len(batch.tokens), size)]

    def _run(self, parts: Sequence[Words]) -> None:
        inbox = self.inbox or self._allocate()
        for part in parts:
            self.graph(inbox(part))
        if self.update is not None:
            self.update(inbox.tensor)

    def _fit(self, batch: Batch) -> None:
        """The first step: read as many sequences at once as the device has memory for."""
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

    def _read_less(self) -> None:
        """Drop graphs that did not fit, and begin again with at most half as many sequences at once."""
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

    # ---- within the graphs

    def _step(self, packed: Tensor) -> Tensor:
        """A whole batch, read at once."""
        inputs = self.inputs.unpack(packed)
        return self._apply(*self._gradient(inputs), inputs)

    def _add(self, packed: Tensor) -> Tensor:
        """Add the loss and gradient of a part; the first part begins anew, whatever an interrupted step left."""
        inputs = self.inputs.unpack(packed)
        fresh = self._spread(inputs.start) == 0
        for total, part in zip(self.total, self._gradient(inputs), strict=True):
            total.assign(fresh.where(0.0, total) + part)
        Tensor.realize(*self.total)
        return self.total[0]

    def _update(self, packed: Tensor) -> Tensor:
        """The optimiser's step from the mean over the parts."""
        loss, gradient = (total * (self.micro_batch / self.config.batch_size) for total in self.total)
        return self._apply(loss, gradient, self.inputs.unpack(packed))

    def _gradient(self, inputs: BatchInputs) -> tuple[Tensor, Tensor]:
        """The loss of these sequences, and its flat gradient."""
        length, sequences = self.model.length, Tensor.arange(self.micro_batch).cast("uint32")
        if self.update is not None:
            sequences = sequences + inputs.start.cast("uint32")
        t, mask_probability, weight = _rows(self._spread(inputs.numbers, axis=1))
        uniform = noise.uniform(inputs.key, noise.MASKING, sequences, length).contiguous()
        coin = noise.uniform(inputs.key, noise.COIN, sequences, 1).reshape(self.micro_batch)
        loss = self.family.loss(self.model, TrainingBatch(
            tokens=self._spread(inputs.tokens, axis=0), t=t, mask_probability=mask_probability, weight=weight,
            uniform=self._spread(uniform, axis=0), coin=self._spread(coin, axis=0),
            # a part of a batch has mostly early or mostly late times, and devices hold shares of the sequences
            full=self.full if self.update is None and len(self.devices) == 1 else None,
        ))  # fmt: skip
        parameters = self.model.parameters
        gradients = dict(zip(parameters, loss.gradient(*parameters.values()), strict=True))
        return loss.detach(), self.optimiser.layout.store(self.gradient, gradients)

    def _apply(self, loss: Tensor, gradient: Tensor, inputs: BatchInputs) -> Tensor:
        """Take the optimiser's step and write the loss into its slot of the ring."""
        here = Tensor.arange(RING) == inputs.slot
        self.losses.assign(here.where(loss.to(self.devices[0]), self.losses))
        rates = Rates(*_rows(self._spread(inputs.rates)))
        Tensor.realize(self.losses, *self.optimiser.step(gradient, rates))
        return self.losses

    def _spread(self, x: Tensor, axis: int | None = None) -> Tensor:
        return spread(x, self.devices, axis)

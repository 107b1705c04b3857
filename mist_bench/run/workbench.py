"""What cells are made with: the dataset, models with their buffers, and the captured graphs they share.

One model and one graph serve all checkpoints of a shape: a checkpoint is copied into the buffers that the graph holds.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from tinygrad import Device
from tinygrad.device import LRUAllocator

from ..api.component import FloatArray, UserError
from ..api.corpora import Oracle
from ..api.families import CausalModel, Family, MaskedModel, Model
from ..api.samplers import Sampler
from ..api.schedules import Schedule
from ..data import dataset
from ..engine import device, machine, noise
from ..engine.graph import captured
from ..host.registry import Registry
from ..inference import batch_size
from ..inference.causal import CausalEvaluator
from ..inference.generate import SamplerGraph
from ..inference.masked import MaskedEvaluator
from ..inference.step import Needs
from ..measure import text
from ..measure.overlap import TrainText
from ..training.batch import full_sequences
from ..training.step import TrainingGraph
from .grid import Plan
from .store import Store

if TYPE_CHECKING:
    from ..hub.causal_lm import LanguageModel

Parameters = dict[str, np.ndarray[Any, Any]]


class Workbench:
    """Lazily made: a run that finds all cells finished touches neither the corpus nor the device."""

    def __init__(self, plan: Plan, store: Store, registry: Registry) -> None:
        self.plan, self.store, self.registry, self.config = plan, store, registry, plan.config

    @cached_property
    def dataset(self) -> dataset.Dataset:
        return dataset.load(self.plan.corpus, self.plan.tokenizer, self.plan.length, machine.cache_folder())

    @cached_property
    def oracle(self) -> Oracle | None:
        """The world's truth, if the tokenizer keeps its ids."""
        return self.plan.corpus.oracle() if self.dataset.oracle_ids else None

    @cached_property
    def train_text(self) -> TrainText:
        """The train split, sorted once for all generations."""
        return TrainText(self.dataset.train.tokens, self.dataset.end)

    def _shape(self, family: Family) -> tuple[Any, ...]:
        data = self.dataset
        world = self.plan.corpus.spec if not family.trained else ""
        precision = self.config.training.precision
        return (family.spec, repr(self.config.model), data.vocab_size, data.length, precision, world)

    def _create(self, family: Family, seed: int) -> Model:
        size = self.config.model.size()
        model = family.create(size, self.dataset.vocab_size, self.dataset.length, seed, self.oracle)
        model.set_compute(device.compute_type(self.config.training.precision))
        return model

    def training_graph(self, family: Family, schedule: Schedule | None, at_once: int = 0) -> TrainingGraph:
        """The captured training step of this family; seeds share it, and schedules where their masks do not matter to
        its shape. `at_once`: see `TrainingGraph`."""
        config, full = self.config.training, None
        if schedule is not None and self._rows_pay(family):
            full = full_sequences(schedule, config.batch_size, self.dataset.length)
        key = ("training", *self._shape(family), repr(config), at_once or config.batch_size, full)
        return kept(key, lambda: TrainingGraph(family, self._create(family, 0), config, at_once, full))

    def _rows_pay(self, family: Family) -> bool:
        return kept(("rows pay", *self._shape(family)), lambda: getattr(self._create(family, 0), "rows_pay", False))

    def initial_parameters(self, family: Family, seed: int) -> Parameters:
        """The numbers that a training of this seed begins with."""
        model = self._create(family, noise.seed_of(axis="parameters", seed=seed))
        return {name: tensor.numpy() for name, tensor in model.parameters.items()}

    def parameters(self, checkpoint: str) -> Parameters:
        loaded = self.store.load_checkpoint(checkpoint)
        if loaded is None:
            raise UserError(f"checkpoint {checkpoint} is missing or damaged; run again with --rerun all")
        return loaded[0]

    def masked(
        self, family: Family, values: Parameters | None, *, needs: Needs | None = None, batch: int | None = None
    ) -> MaskedEvaluator:
        """The evaluator of a masked family with these parameters (None: it has none)."""
        settings = self.config.generation
        size = batch or self.generation_batch
        key = ("masked", *self._shape(family), size, settings.nucleus, needs or Needs())
        evaluator = kept(key, lambda: self._masked(family, self._create(family, 0), size, needs))
        if values:
            evaluator.load(values)
        return evaluator

    def causal(self, family: Family, values: Parameters) -> CausalEvaluator:
        """The evaluator of a causal family with these parameters."""
        settings, batch = self.config.generation, self.generation_batch
        key = ("causal", *self._shape(family), batch, settings.nucleus)
        evaluator = kept(key, lambda: self._causal(family, self._create(family, 0), batch))
        evaluator.load(values)
        return evaluator

    def _masked(self, family: Family, model: Model, batch: int, needs: Needs | None = None) -> MaskedEvaluator:
        if not isinstance(model, MaskedModel):
            raise TypeError(f"family {family.name!r} says its likelihood is a bound, but makes no MaskedModel")
        return MaskedEvaluator(family.spec, model, batch, nucleus=self.config.generation.nucleus, needs=needs)

    def _causal(self, family: Family, model: Model, batch: int) -> CausalEvaluator:
        if not isinstance(model, CausalModel):
            raise TypeError(f"family {family.name!r} says its likelihood is exact, but makes no CausalModel")
        return CausalEvaluator(family.spec, model, batch, nucleus=self.config.generation.nucleus)

    @cached_property
    def generation_batch(self) -> int:
        """Sequences generated at once."""
        return self.config.generation.batch_size or self.automatic_batch

    @cached_property
    def likelihood_batch(self) -> int:
        """Sequences evaluated at once; of its own accord no more than there are."""
        settings = self.config.likelihood
        if settings.batch_size:
            return settings.batch_size
        return min(self.automatic_batch, 1 << (settings.sequences - 1).bit_length())

    @cached_property
    def automatic_batch(self) -> int:
        """As many sequences at once as fit and pay, for all families alike: measured with the first masked one."""
        made: list[Family] = [self.registry.make("family", spec) for spec in self.config.families]
        family = min(made, key=lambda each: (not each.trained, each.likelihood_kind == "exact"))
        shape, precision = f"{family.spec} {self.config.model}", device.precision_name(self.config.training.precision)
        vocab_size, length = self.dataset.vocab_size, self.dataset.length
        key = batch_size.key(shape, vocab_size, length, precision, self.config.generation.nucleus)
        path = machine.cache_folder() / "batch-sizes.json"
        if (known := batch_size.remembered(path, key)) is not None:
            return known
        model, build = self._create(family, 0), self._causal if family.likelihood_kind == "exact" else self._masked
        found = batch_size.search(lambda batch: batch_size.speed(build(family, model, batch)))
        batch_size.remember(path, key, found)
        return found

    @cached_property
    def text_judge(self) -> LanguageModel:
        """The model of somebody else that judges, loaded once."""
        assert self.plan.text_judge is not None
        return self.plan.text_judge.load()

    def judge_family(self) -> Family:
        family: Family = self.registry.make("family", "autoregressive")
        return family

    @cached_property
    def frequencies(self) -> FloatArray:
        """(V,) how often each token occurs in the train split, each counted once more."""
        return text.unigram(self.dataset.train.tokens, self.dataset.vocab_size)

    def sampler_graph(self, sampler: Sampler) -> SamplerGraph:
        data, batch = self.dataset, self.generation_batch
        frequencies = self.frequencies if sampler.needs_frequencies else None
        text = (self.plan.corpus.spec, self.plan.tokenizer.spec) if sampler.needs_frequencies else ()
        key = ("sampler", sampler.spec, batch, data.length, data.vocab_size, *text)
        return kept(key, lambda: SamplerGraph(sampler, batch, data.length, data.vocab_size, frequencies))


T = TypeVar("T")
_kept: dict[Hashable, Any] = {}


def kept(key: Hashable, make: Callable[[], T]) -> T:
    """What `make` made for this key, once a process: a graph serves every schedule, checkpoint and step count."""
    if key not in _kept:
        _kept[key] = make()
    result: T = _kept[key]
    return result


def forget() -> None:
    """Gives the device back the memory of all graphs that nobody else holds. Each is part of a cycle, which Python's
    collector finds only if it may look at what a capture has left; and tinygrad keeps freed buffers for later."""
    _kept.clear()
    captured.clear()
    gc.unfreeze()
    gc.collect()
    allocator = Device[Device.DEFAULT].allocator
    if isinstance(allocator, LRUAllocator):
        allocator.free_cache()  # type: ignore[no-untyped-call]

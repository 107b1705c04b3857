"""The workbench: the dataset, models with their buffers, and the captured graphs that cells share.

One model and one graph serve all checkpoints of a shape: a checkpoint is copied into the buffers that the graph holds.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Hashable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..api.component import FloatArray, IntArray, UserError
from ..api.corpora import Oracle
from ..api.families import CausalModel, Family, MaskedModel, Model
from ..api.samplers import Sampler
from ..api.schedules import Schedule
from ..data import dataset
from ..engine import device, machine, noise
from ..engine.graph import Graph, captured
from ..inference import batch_size
from ..inference.causal import CausalEvaluator
from ..inference.generate import SamplerGraph, generate
from ..inference.masked import MaskedEvaluator
from ..inference.replay import Replay
from ..inference.step import Needs
from ..measure import text
from ..measure.overlap import TrainText
from ..training.batch import full_sequences
from ..training.step import TrainingGraph
from .experiment import Experiment
from .store import Store, unpack_tokens

if TYPE_CHECKING:
    from ..hub.causal_lm import LanguageModel

Parameters = dict[str, np.ndarray[Any, Any]]
Batch = tuple[IntArray, IntArray]
"""(B, L) generated tokens, and (B,) the network evaluations of each."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generator:
    """The captured graphs that sample one model by one sampler."""

    batch: int
    graphs: list[Graph]
    run: Callable[[IntArray, int, int, IntArray, float, int | None], Batch]

    def __call__(
        self, given: IntArray, steps: int, seed: int, ids: IntArray, temperature: float, limit: int | None = None
    ) -> Batch:
        """(B, L) tokens with masks -> (B, L) filled and (B,) network evaluations; see `generate`."""
        return self.run(given, steps, seed, ids, temperature, limit)


class Workbench:
    """Everything that cells are made with, each part made when it is first used: a run whose cells are all finished
    touches neither the corpus nor the device."""

    def __init__(self, experiment: Experiment, store: Store) -> None:
        self.experiment, self.store, self.config = experiment, store, experiment.config
        self.batches: dict[tuple[str, int], Batch] = {}
        """Batches that were generated while they were timed, by the generation's hash and their number: their cells
        take them from here."""

    @cached_property
    def dataset(self) -> dataset.Dataset:
        experiment = self.experiment
        return dataset.open_dataset(experiment.corpus, experiment.tokenizer, self.config.length, machine.cache_folder())

    @cached_property
    def oracle(self) -> Oracle | None:
        """The corpus's own law, if it knows it and the tokenizer keeps its ids."""
        return self.experiment.corpus.oracle() if self.dataset.oracle_ids else None

    @cached_property
    def train_text(self) -> TrainText:
        """The train split, sorted once for all generations."""
        return TrainText(self.dataset.train.tokens, self.dataset.end)

    def _shape(self, family: Family) -> tuple[Any, ...]:
        data = self.dataset
        world = self.experiment.corpus.spec if not family.trained else ""
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
            full = full_sequences(schedule, config.batch_size, self.dataset.length, family.times)
        key = ("training", *self._shape(family), repr(config), at_once or config.batch_size, full)
        return kept(key, lambda: TrainingGraph(family, self._create(family, 0), config, at_once, full))

    def _rows_pay(self, family: Family) -> bool:
        return kept(("rows pay", *self._shape(family)), lambda: getattr(self._create(family, 0), "rows_pay", False))

    def initial_parameters(self, family: Family, seed: int) -> Parameters:
        """The initial parameters of a training with this seed."""
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
        """Sequences evaluated at once; if automatic, not more than there are."""
        settings = self.config.likelihood
        if settings.batch_size:
            return settings.batch_size
        return min(self.automatic_batch, 1 << (settings.sequences - 1).bit_length())

    @cached_property
    def automatic_batch(self) -> int:
        """As many sequences at once as fit and make it faster: measured with the first masked family."""
        family = min(self.experiment.families, key=lambda each: (not each.trained, each.causal))
        shape, precision = f"{family.spec} {self.config.model}", device.precision_name(self.config.training.precision)
        vocab_size, length = self.dataset.vocab_size, self.dataset.length
        key = batch_size.key(shape, vocab_size, length, precision, self.config.generation.nucleus)
        path = machine.cache_folder() / "batch-sizes.json"
        if (known := batch_size.remembered(path, key)) is not None:
            return known
        model, build = self._create(family, 0), self._causal if family.causal else self._masked
        found = batch_size.search(lambda batch: batch_size.speed(build(family, model, batch)))
        batch_size.remember(path, key, found)
        return found

    @cached_property
    def text_judge(self) -> LanguageModel:
        """The model of the Hub that judges, loaded once."""
        assert self.experiment.text_judge is not None
        return self.experiment.text_judge.load()

    @cached_property
    def frequencies(self) -> FloatArray:
        """(V,) how often each token occurs in the train split, each counted once more."""
        return text.unigram(self.dataset.train.tokens, self.dataset.vocab_size)

    def generated(self, generation: str) -> IntArray:
        """(N, L) the sequences of a finished generation, by its hash. Raises `UserError` if it is missing."""
        record = self.store.read(generation)
        if record is None:
            raise UserError(f"generation {generation} is missing; run again with --rerun all")
        return unpack_tokens(record["tokens"])

    def generator(
        self, family: Family, values: Parameters | None, schedule: Schedule | None, sampler: Sampler
    ) -> Generator:
        """The graphs that sample this model, holding these parameters."""
        if family.causal:
            evaluator = self.causal(family, values or {})
            return Generator(
                batch=evaluator.batch, graphs=list(evaluator.graphs),
                run=lambda given, steps, seed, ids, temperature, limit: (
                    evaluator.generate(given, seed, ids, temperature, limit=limit)
                ),
            )  # fmt: skip
        assert schedule is not None
        masked, graph = self.masked(family, values, needs=Needs.of(sampler)), self.sampler_graph(sampler)
        return Generator(
            batch=masked.batch, graphs=[*masked.graphs, graph.graph],
            run=lambda given, steps, seed, ids, temperature, limit: generate(
                masked, graph, schedule, steps, given, seed=seed, sequences=ids, temperature=temperature, limit=limit
            ),
        )  # fmt: skip

    def replay(
        self, family: Family, values: Parameters | None, sampler: Sampler, *, tempered: bool
    ) -> tuple[MaskedEvaluator, SamplerGraph, Replay]:
        """What replays this sampler on given texts; see `Replay`."""
        needs = Needs.of(sampler)
        needs = dataclasses.replace(needs, whole=needs.whole or tempered)
        evaluator = self.masked(family, values, needs=needs)
        key = ("replay", *self._shape(family), evaluator.batch, self.config.generation.nucleus, needs, tempered)
        return evaluator, self.sampler_graph(sampler), kept(key, lambda: Replay(evaluator, tempered))

    def sampler_graph(self, sampler: Sampler) -> SamplerGraph:
        data, batch = self.dataset, self.generation_batch
        frequencies = self.frequencies if "log_frequency" in sampler.needs else None
        text = (self.experiment.corpus.spec, self.experiment.tokenizer.spec) if "log_frequency" in sampler.needs else ()
        key = ("sampler", sampler.spec, batch, data.length, data.vocab_size, *text)
        return kept(key, lambda: SamplerGraph(sampler, batch, data.length, data.vocab_size, frequencies))


T = TypeVar("T")
_kept: dict[Hashable, Any] = {}


def kept(key: Hashable, make: Callable[[], T]) -> T:
    """The object of this key, made once in a process: a graph serves every schedule, checkpoint and step count."""
    if key not in _kept:
        _kept[key] = make()
    result: T = _kept[key]
    return result


def forget() -> None:
    """Free the device memory of all graphs that nothing else holds.

    A graph is part of a reference cycle whose objects are frozen after the capture, so they are unfrozen before the
    collection; and tinygrad keeps freed buffers for later use, so its cache is emptied.
    """
    _kept.clear()
    captured.clear()
    gc.unfreeze()
    gc.collect()
    device.free_cached_memory()

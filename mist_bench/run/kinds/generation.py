"""Generation cells: samples of a model by a sampler, with their speed and what is measured about the text itself."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from ...api.component import IntArray, UserError
from ...api.samplers import Sampler
from ...api.schedules import Schedule
from ...measure.statistics import mean_and_error
from ..cells import Cell, Entry, Progress, Record
from ..columns import Column, ModelColumns, Row
from ..experiment import Experiment
from ..store import pack_tokens, unpack_tokens
from .training import MeasuredModel, models, spec_of

if TYPE_CHECKING:
    from ..workbench import Batch, Generator, Parameters, Workbench

SHOWN_TEXTS = 8
CLUSTER_OF = "cluster_of_sample"
"""Key of a generation's record: the cluster of each sample, where samples share one."""


class GenerationRow(ModelColumns, total=False):
    """A row of generation.csv; those who judge and metrics add their columns."""

    sampler: Annotated[str, Column("the sampler, with its parameters")]
    steps: Annotated[int, Column("denoising steps asked for; empty if the sampler ignores them", "steps", "lower")]
    temperature: Annotated[float, Column("of the proposal; 1 is the model's own law", "1")]
    seed: Annotated[int, Column("seed of the noise of the sampler")]
    batch: Annotated[int, Column("sequences generated at once, the same for all when timing", "numbers")]
    samples: Annotated[int, Column("sequences generated and judged, as many in every row of a run", "numbers")]
    clusters: Annotated[int, Column("independent units among them; 1 if all are the same text", "numbers")]
    control: Annotated[str, Column("data, unigram, repeater or oracle: not a trained model")]
    nfe: Annotated[float, Column("network evaluations for a sequence, median", "numbers", "lower")]
    nfe_iqr: Annotated[float, Column("interquartile range of the same over sequences", "numbers")]
    tokens_per_second: Annotated[
        float, Column("geometric mean over timed rounds, without compilation", "tokens/s", "higher")
    ]
    tokens_per_second_iqr: Annotated[
        float, Column("interquartile range over the rounds, with the drift of the machine", "tokens/s", "lower")
    ]
    seconds_per_batch: Annotated[float, Column("geometric mean of the time of one batch", "s", "lower")]
    compile_seconds: Annotated[float, Column("time of the calls that capture the graphs", "s", "lower")]
    peak_memory_bytes: Annotated[
        int, Column("everything that its captured graphs read and write, with the parameters", "bytes", "lower")
    ]
    token_entropy: Annotated[
        float, Column("entropy of the unigram distribution within a sample, averaged", "nats", "data")
    ]
    token_entropy_se: Annotated[float, Column("its standard error over clusters", "nats", "lower")]
    distinct_2: Annotated[float, Column("distinct pairs of neighbouring tokens over all such pairs", "1", "data")]
    longest_overlap: Annotated[
        float, Column("longest run that a sample shares with a train sequence, averaged", "tokens", "data")
    ]
    oracle_valid_rate: Annotated[float, Column("share of the samples that the world could have said", "1", "higher")]
    oracle_valid_rate_se: Annotated[
        float, Column("its standard error over clusters; the tables show Wilson's interval", "1", "lower")
    ]
    oracle_distinct_ratio: Annotated[
        float, Column("distinct stories over those expected of perfect samples", "1", "one")
    ]
    oracle_divergence: Annotated[float, Column("total variation of the world's slots from the truth", "1", "lower")]
    oracle_divergence_floor: Annotated[float, Column("what perfect samples of the same number would give", "1")]
    oracle_divergence_floor_se: Annotated[
        float, Column("standard deviation of the divergence of perfect samples of that number", "1")
    ]
    law_distance: Annotated[
        float, Column("exact total variation of the sampler's law from the truth", "1", "lower")
    ]
    texts_digest: Annotated[str, Column("of the tokens of all samples: rows with the same one have the same texts")]
    prompt: Annotated[int, Column("tokens of each sample that were given, those of a test sequence", "tokens")]
    tokens_per_second_se: Annotated[
        float, Column("its standard error over rounds, without what all rows share", "tokens/s", "lower")
    ]
    tokens_per_second_low: Annotated[
        float, Column("lower end of its 95 % interval, for comparing rows of this run", "tokens/s")
    ]
    tokens_per_second_high: Annotated[float, Column("upper end of its 95 % interval", "tokens/s")]
    timed_rounds: Annotated[int, Column("rounds in which all rows of the run took turns", "numbers")]
    speed_ratio_to_ar: Annotated[
        float, Column("times as fast as the autoregressive baseline, round by round", "1", "higher")
    ]
    speed_ratio_to_ar_se: Annotated[float, Column("its standard error over rounds, paired", "1", "lower")]
    causal: Annotated[int, Column("1 for a family that generates left to right with a cache", optional=True)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationCell(Cell):
    """One model sampled in one way."""

    kind = "generation"
    prefix = "generation"
    file = "generation"
    columns = GenerationRow
    unlisted = frozenset({"texts", "tokens", CLUSTER_OF})
    timed = True  # with the speed cell, whose graphs and batches it shares
    evaluates = True

    model: MeasuredModel
    schedule: Schedule | None
    """The schedule of the sampling."""
    sampler: Sampler
    steps: int | None
    temperature: float
    seed: int

    @classmethod
    def plan(cls, experiment: Experiment, planned: Sequence[Cell]) -> Iterator[Cell]:
        yield from generations(experiment)

    @property
    def content(self) -> dict[str, Any]:
        settings = self.experiment.config.generation
        content = {
            **self.model.content, "sampling_schedule": self.experiment.content(self.schedule),
            "sampler": self.experiment.content(self.sampler), "steps": self.steps, "temperature": self.temperature,
            "seed": self.seed, "samples": samples_of(self.experiment),
            "batch_size": settings.batch_size, "nucleus": settings.nucleus,
        }  # fmt: skip
        if settings.prompt:
            content |= {"prompt": settings.prompt, **self.experiment.text}  # the prompts are of the text
            if self.model.family.causal:
                content["prompt_read"] = "at once"  # before, it was token by token, and cost as many evaluations
        return content

    @property
    def labels(self) -> dict[str, Any]:
        settings = self.experiment.config.generation
        return {
            **self.model.labels, "schedule": spec_of(self.schedule), "sampler": self.sampler.spec, "steps": self.steps,
            "temperature": self.temperature, "seed": self.seed, "batch": settings.batch_size or None,
            "prompt": settings.prompt or None, **({"causal": 1} if self.model.family.causal else {}),
        }  # fmt: skip

    @property
    def needs(self) -> tuple[str, ...]:
        return self.model.needs

    @property
    def group(self) -> str:
        return self.model.family.spec

    def batch(self, bench: Workbench) -> tuple[str, int]:
        return "generation", bench.generation_batch

    def batches(self, batch: int) -> int:
        """Batches of this size that its samples need."""
        return -(-samples_of(self.experiment) // batch)

    def generator(self, bench: Workbench, values: Parameters | None) -> Generator:
        """The graphs that sample the model, with these parameters in their buffers."""
        return bench.generator(self.model.family, values, self.schedule, self.sampler)

    def sample(self, bench: Workbench, generator: Generator, number: int, limit: int | None = None) -> Batch:
        """The batch of this number: (B, L) tokens and (B,) network evaluations. `limit`: see `generate`."""
        from ...engine import noise

        ids = np.arange(number * generator.batch, (number + 1) * generator.batch)
        given = _prompted(bench, ids, self.experiment.config.generation.prompt)
        seed = noise.seed_of(axis="generation", seed=self.seed)
        return generator(given, self.steps or bench.dataset.length, seed, ids, self.temperature, limit)

    def make(self, bench: Workbench, progress: Progress) -> dict[str, Any]:
        from ...engine.graph import held

        samples = samples_of(self.experiment)
        generator = self.generator(bench, self.model.parameters(bench))
        self.sample(bench, generator, 0, limit=2)  # captures all graphs, which are counted below, wherever rounds were
        needed, made = self.batches(generator.batch), []
        for number in range(needed):
            timed = bench.batches.pop((self.hash, number), None)
            made.append(timed or self.sample(bench, generator, number))
            progress(number + 1, needed, "batches")
        tokens = np.concatenate([texts for texts, _ in made])[:samples]
        if (tokens >= bench.dataset.mask).any():
            raise UserError(f"sampler {self.sampler.spec!r} left masks in the text after its last step")
        low, middle, high = np.percentile(np.concatenate([used for _, used in made])[:samples], [25, 50, 75])
        return {
            "batch": generator.batch, "nfe": float(middle), "nfe_iqr": float(high - low),
            "compile_seconds": sum(graph.compile_seconds for graph in generator.graphs),
            "peak_memory_bytes": held(generator.graphs), "law_distance": self._law_distance(bench),
            **text_record(bench, tokens, self._prompt_clusters(bench, samples)),
        }  # fmt: skip

    def _prompt_clusters(self, bench: Workbench, samples: int) -> IntArray | None:
        """(samples,) the cluster of each sample's prompt; None without prompts."""
        test = bench.dataset.test
        whole = test.clusters(min(samples, len(test)))
        return whole[np.arange(samples) % len(test)] if self.experiment.config.generation.prompt else None

    def _law_distance(self, bench: Workbench) -> float | None:
        """Exact distance of the sampler's own law from the truth under the perfect denoiser, on enumerable worlds."""
        from ...measure.sampler_law import law_distance

        settings, perfect = self.experiment.config.generation, self.model.family.needs_oracle
        if bench.oracle is None or self.schedule is None or not perfect or settings.nucleus < 1 or settings.prompt:
            return None
        frequencies = bench.frequencies if "log_frequency" in self.sampler.needs else None
        steps = self.steps or bench.dataset.length
        return law_distance(self.sampler, self.schedule, steps, bench.oracle, temperature=self.temperature,
                            frequencies=frequencies)  # fmt: skip

    @staticmethod
    def summary(record: Record) -> str:
        return summary_of(record)

    @classmethod
    def row(cls, entry: Entry, record: Record) -> Row:
        return {**super().row(entry, record), "texts_digest": texts_digest(record)}

    @classmethod
    def more_rows(cls, entry: Entry, record: Record) -> dict[str, list[Row]]:
        return sample_rows(entry, record)


def generations(experiment: Experiment) -> Iterator[GenerationCell]:
    """The grid: every model with every sampler, number of steps, temperature and seed."""
    config = experiment.config
    for model in models(experiment):
        causal = [experiment.causal_sampler] if experiment.causal_sampler else []
        samplers = causal if model.family.causal else experiment.samplers
        schedules = [model.schedule] if model.schedule or model.family.causal else experiment.schedules
        for sampler in samplers:
            for schedule in schedules:
                for steps in config.steps if sampler.uses_steps else [None]:
                    for temperature in config.temperatures:
                        for seed in config.seeds:
                            yield GenerationCell(experiment=experiment, model=model, schedule=schedule,
                                                 sampler=sampler, steps=steps, temperature=temperature,
                                                 seed=seed)  # fmt: skip


def samples_of(experiment: Experiment) -> int:
    """Samples of each row of a run: one number for all, since columns such as the divergence depend on it."""
    settings = experiment.config.generation
    return settings.samples if any(family.trained for family in experiment.families) else settings.oracle_samples


def _prompted(bench: Workbench, ids: IntArray, prompt: int) -> IntArray:
    """(B, L) masks after a prompt: the first tokens of the test sequence of that number, in turn."""
    tokens = np.full((len(ids), bench.dataset.length), bench.dataset.mask, dtype=np.int32)
    if prompt:
        test = bench.dataset.test.tokens
        tokens[:, :prompt] = test[ids % len(test), :prompt]
    return tokens


def text_record(bench: Workbench, tokens: IntArray, source: IntArray | None = None) -> dict[str, Any]:
    """What is measured about (N, L) sequences themselves, the sequences, and the first texts.

    `source`: (N,) clusters of the texts that they were taken from or continue, if any."""
    from ...measure import text

    clusters = text.clusters_of_samples(tokens, source)
    units = len(np.unique(clusters))
    record: dict[str, Any] = {
        "samples": len(tokens), "clusters": units, **text.text_columns(tokens, bench.dataset.vocab_size, clusters)
    }  # fmt: skip
    overlap, error = mean_and_error(bench.train_text.longest_runs(tokens), clusters)
    record |= {"longest_overlap": overlap, "longest_overlap_se": error}
    if bench.oracle is not None:
        record |= text.oracle_columns(bench.oracle, tokens, 0, clusters)
    if units < len(tokens):
        record[CLUSTER_OF] = clusters.tolist()
    texts = [bench.dataset.decode(row) for row in tokens[:SHOWN_TEXTS]]
    return {**record, "texts": texts, "tokens": pack_tokens(tokens)}


def stored_clusters(bench: Workbench, generation: str, count: int) -> IntArray:
    """(count,) the cluster of each sample of a finished generation, by its hash."""
    record = bench.store.read(generation) or {}
    return np.array(record.get(CLUSTER_OF, range(count)))


def texts_digest(record: Record) -> str:
    """16 hexadecimal digits that two generations share if they have the same tokens."""
    tokens = unpack_tokens(record["tokens"])
    return hashlib.sha256(repr(tokens.shape).encode() + tokens.tobytes()).hexdigest()[:16]


def summary_of(record: Record) -> str:
    """The valid rate, if it is measured."""
    valid = record.get("oracle_valid_rate")
    return "done" if valid is None else f"{valid:.0%} valid"


def sample_rows(entry: Entry, record: Record) -> dict[str, list[Row]]:
    """The rows of samples.jsonl: the first texts, each with its number."""
    batch = {**entry.labels, **record}.get("batch")
    return {"samples": [{**entry.labels, "batch": batch, "number": number, "text": text}
                        for number, text in enumerate(record["texts"])]}  # fmt: skip

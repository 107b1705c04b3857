"""Whole runs of samplers on the device, under the oracle of a small world.

Capturing graphs is what such tests spend their time on: each evaluator and each sampler is captured once for all tests of
a process that use the same `Runs`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from mist_bench_plugins.corpus_markov import world
from mist_bench_plugins.family_oracle import OracleModel
from mist_bench_plugins.schedule_linear import LinearSchedule

from harness.brute_force import BATCH, WORLD
from mist_bench import Oracle, Sampler
from mist_bench.host.registry import Registry
from mist_bench.inference.generate import SamplerGraph, generate
from mist_bench.inference.masked import MaskedEvaluator
from mist_bench.inference.step import Needs

REGISTRY = Registry.discover()
LINEAR = LinearSchedule()
FREQUENCIES = np.array([0.7, 0.2, 0.08, 0.02])
"""Of the tokens of a world of 3 letters; the last one ends a text."""


class Runs:
    """Generates texts of one oracle in batches of one size."""

    def __init__(self, oracle: Oracle, batch: int = BATCH, model: type[OracleModel] = OracleModel) -> None:
        self.oracle, self.batch, self.model = oracle, batch, model
        self.length, self.mask = oracle.length, oracle.vocab_size
        self.empty = np.full((batch, self.length), self.mask, dtype=np.int32)
        self._evaluators: dict[Needs, MaskedEvaluator] = {}
        self._graphs: dict[Sampler, SamplerGraph] = {}

    def evaluator(self, needs: Needs) -> MaskedEvaluator:
        if needs not in self._evaluators:
            self._evaluators[needs] = MaskedEvaluator("oracle", self.model(self.oracle), self.batch, needs=needs)
        return self._evaluators[needs]

    def graph(self, sampler: Sampler | str) -> SamplerGraph:
        made = made_sampler(sampler)
        if made not in self._graphs:
            self._graphs[made] = SamplerGraph(made, self.batch, self.length, self.mask, FREQUENCIES)
        return self._graphs[made]

    def __call__(
        self, sampler: Sampler | str, tokens: Any = None, *, steps: int = 4, seed: int = 0, first: int = 0,
        ids: Any = None, schedule: Any = LINEAR, temperature: float = 1.0, watch: Callable[..., Any] | None = None,
        limit: int | None = None,
    ) -> tuple[Any, Any]:  # fmt: skip
        """Texts and the evaluations that each used: of the sequences `ids`, by default a batch from `first` on."""
        graph = self.graph(sampler)
        return generate(
            self.evaluator(Needs.of(graph.sampler)), graph, schedule, steps, self.empty if tokens is None else tokens,
            seed=seed, sequences=np.arange(first, first + self.batch) if ids is None else ids,
            temperature=temperature, watch=watch, limit=limit,
        )  # fmt: skip

    def counts(self, sampler: Sampler | str, texts: int, **how: Any) -> Any:
        """How often each text of the world's letters is made, of `texts` (whole batches) in all."""
        letters = self.mask - 1
        made = np.concatenate([self(sampler, first=first, **how)[0] for first in range(0, texts, self.batch)])
        return np.bincount(np.ravel_multi_index(made.T, (letters,) * self.length), minlength=letters**self.length)


def made_sampler(sampler: Sampler | str) -> Sampler:
    return REGISTRY.make("sampler", sampler) if isinstance(sampler, str) else sampler


SMALL = Runs(WORLD)
"""The chain of 3 letters and 4 positions, whose 81 texts can be counted."""
MEDIUM = Runs(world(3, 6, 1.2), 64)
"""6 positions, for what needs more than a few steps: capturing an oracle takes longer with each position."""
LONG = Runs(world(3, 12, 1.2), 64)
"""12 positions: room for several blocks, and for steps at which many positions are revealed."""

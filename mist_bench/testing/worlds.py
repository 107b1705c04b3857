"""Tiny worlds with a perfect denoiser, in which every step of a sampler is recorded.

There are few shapes, and all samplers of a process share graphs, because most of a check's time is compilation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from dataclasses import fields as fields_of
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from ..api.component import FloatArray, IntArray
from ..api.corpora import Oracle
from ..api.families import NetworkSize
from ..api.samplers import Sampler
from ..api.schedules import Schedule
from ..api.view import State, View
from ..engine import compiler
from ..host.registry import Registry
from .core import Failed

if TYPE_CHECKING:
    from tinygrad import Tensor

    from ..inference.generate import SamplerGraph
    from ..inference.masked import MaskedEvaluator
    from ..inference.step import Needs

SYMBOLS = 3
SIZE = NetworkSize(dim=16, layers=1, heads=2, feed_forward=32, conditioning_dim=16)
BATCH = {2: 64, 4: 512, 16: 64}
"""Batch size by length: large for the world in which the law is measured."""


@dataclass(frozen=True, kw_only=True)
class World:
    """A Markov chain of so many letters, and its exact posterior behind a captured graph."""

    length: int
    oracle: Oracle
    evaluator: MaskedEvaluator
    schedule: Schedule

    @property
    def batch(self) -> int:
        return self.evaluator.batch

    @property
    def mask(self) -> int:
        return self.oracle.vocab_size

    def frequencies(self, sampler: Sampler) -> dict[str, Any]:
        """Token frequencies (V,) as a keyword argument, for a sampler that needs them."""
        if "log_frequency" not in sampler.needs:
            return {}
        tokens = self.oracle.sample(10_000, np.random.default_rng(0))
        counts = 1.0 + np.bincount(tokens.ravel(), minlength=self.mask)
        return {"frequencies": counts / counts.sum()}

    def given(self) -> IntArray:
        """(B, L): a quarter all masked, then texts with random positions fixed, the last text completely."""
        rng = np.random.default_rng(self.length)
        tokens = self.oracle.sample(self.batch, rng)
        hidden = rng.random(tokens.shape) < rng.uniform(0.2, 1.0, (self.batch, 1))
        hidden[: self.batch // 4] = True
        hidden[-1] = False
        return np.where(hidden, self.mask, tokens).astype(np.int32)

    def empty(self) -> IntArray:
        """(B, L), all masked."""
        return np.full((self.batch, self.length), self.mask, dtype=np.int32)


_worlds: dict[tuple[int, Needs], World] = {}
"""One for each length and `Needs`, so that all checks of a process share its graph."""


def world(registry: Registry, length: int, sampler: Sampler) -> World:
    """The world of this length, with an evaluator that provides what the sampler needs."""
    compiler.prepare()
    from ..inference.masked import MaskedEvaluator
    from ..inference.step import Needs

    key = length, Needs.of(sampler)
    if key not in _worlds:
        oracle = registry.make("corpus", f"markov[symbols={SYMBOLS},length={length}]").oracle()
        model = registry.first("family", "needs_oracle").create(SIZE, oracle.vocab_size, length, 0, oracle)
        evaluator = MaskedEvaluator(f"conformance {length}", model, BATCH[length], needs=key[1])
        schedule = registry.make("schedule", "linear")
        _worlds[key] = World(length=length, oracle=oracle, evaluator=evaluator, schedule=schedule)
    return _worlds[key]


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """The states of one call of `generate`."""

    steps: int
    given: IntArray  # (B, L)
    states: IntArray  # (n + 1, B, L): before each step, and at the end
    begins: IntArray  # (B,) the state from which each text moves: texts of as many blocks go together, fewest first
    used: IntArray  # (B,) evaluations

    @property
    def final(self) -> IntArray:
        return np.asarray(self.states[-1])

    def masked(self, mask: int) -> npt.NDArray[np.bool_]:
        """(n + 1, B, L)"""
        return np.asarray(self.states == mask)


def follow(
    world: World, graph: SamplerGraph, steps: int, given: IntArray, *, seed: int = 0, sequences: IntArray | None = None
) -> Trajectory:
    """Generate, recording every step."""
    from ..inference.generate import generate

    states: list[IntArray] = []
    steps_seen: list[int] = []

    def watch(step: int, now: IntArray, guesses: IntArray) -> None:
        steps_seen.append(step)
        states.append(now)

    final, used = generate(
        world.evaluator, graph, world.schedule, steps, given, seed=seed,
        sequences=np.arange(world.batch) if sequences is None else sequences, temperature=1.0,
        watch=watch,
    )  # fmt: skip
    to_fill = (given == world.mask).sum(axis=1)
    blocks = -(-to_fill // (graph.sampler.block_size or world.length))
    first = np.append(np.flatnonzero(np.array(steps_seen) == 0), len(states))
    begins = first[np.searchsorted(np.unique(blocks[blocks > 0]), blocks)]
    return Trajectory(steps=steps, given=given, states=np.stack([*states, final]), begins=begins, used=used)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One call of a sampler's own step, outside of any graph: its inputs and outputs."""

    view: View
    state: State
    after: IntArray  # (B, L), before the host puts fixed tokens back
    new_state: dict[str, Any]

    def own(self) -> IntArray:
        """(B, L) the tokens after the step where they may change; -1 elsewhere."""
        return np.where(self.view.free.numpy(), self.after, -1)

    def again(self, sampler: Sampler, uniform: npt.NDArray[np.floating[Any]]) -> IntArray:
        """The same step called again, with this noise (B, L): what `own` would be."""
        from tinygrad import Tensor

        noise: Tensor = Tensor(uniform.astype(np.float32)).realize()
        return self.with_fields(sampler, uniform=noise)

    def with_fields(self, sampler: Sampler, **fields: Any) -> IntArray:
        """The same step called again with other fields of the view: what `own` would be."""
        after, _ = sampler.step(replace(self.view, **fields), dict(self.state))
        return np.where(self.view.free.numpy(), after.numpy(), -1)


class Witness:
    """A sampler's stand-in that records every call of its step."""

    def __init__(self, sampler: Sampler, batch: int, length: int) -> None:
        self._sampler = sampler
        self._names = sampler.initial_state(batch, length).keys()
        self.seen: list[Seen] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)

    def __eq__(self, other: object) -> bool:
        return other == self._sampler

    def __hash__(self) -> int:
        return hash(self._sampler)

    def step(self, view: View, state: State) -> tuple[Tensor, State]:
        from tinygrad import Tensor

        after, new_state = self._sampler.step(view, state)
        if new_state.keys() != self._names:
            names = f"{sorted(new_state)} for {sorted(self._names)}"
            raise Failed(f"step returns a state of the names {names}; return the same names as initial_state")
        # copies: the next replay of the model's graph writes into the buffers of its answer
        fields = {f.name: getattr(view, f.name) for f in fields_of(view)}
        kept: dict[str, Any] = {
            name: Tensor(x.numpy()).realize() if isinstance(x, Tensor) else x for name, x in fields.items()
        }
        remembered = {name: x.clone().realize() for name, x in state.items()}
        seen = Seen(view=View(**kept), state=remembered, after=after.numpy(), new_state=dict(new_state))
        self.seen.append(seen)
        return after, new_state


def eager(world: World, sampler: Sampler, steps: int, given: IntArray) -> tuple[Trajectory, list[Seen]]:
    """The same as `follow`, with every step called instead of replayed."""
    from ..inference.generate import SamplerGraph

    witness = Witness(sampler, world.batch, world.length)
    graph = SamplerGraph(cast(Sampler, witness), world.batch, world.length, world.mask, **world.frequencies(sampler))
    graph.graph = cast(Any, graph._step)  # the very function that is captured otherwise
    return follow(world, graph, steps, given), witness.seen


def chi_square_z(counts: IntArray, law: FloatArray) -> float:
    """How many standard deviations the counts are from the law: Pearson's statistic through Wilson and Hilferty's cube
    root, which is normal to good accuracy; outcomes expected fewer than 5 times are pooled."""
    expected = law * counts.sum()
    rare = expected < 5
    observed = np.append(counts[~rare], counts[rare].sum()).astype(np.float64)
    wanted = np.append(expected[~rare], expected[rare].sum())
    if wanted[-1] < 5:  # too rare even together: pool them with the rarest of the rest
        least = int(np.argmin(wanted[:-1]))
        observed[least] += observed[-1]
        wanted[least] += wanted[-1]
        observed, wanted = observed[:-1], wanted[:-1]
    freedom = len(wanted) - 1
    statistic = float(((observed - wanted) ** 2 / wanted).sum())
    spread = 2 / (9 * freedom)
    return float(((statistic / freedom) ** (1 / 3) - (1 - spread)) / np.sqrt(spread))

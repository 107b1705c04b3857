"""The trajectories of one sampler on the tiny worlds, replayed as a graph and step by step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..api.samplers import Sampler
from .core import Study
from .worlds import Seen, Trajectory, World, eager, follow, world

if TYPE_CHECKING:
    from ..inference.generate import SamplerGraph

STEPS = {2: (1, 2, 5), 4: (1, 3, 4, 9), 16: (1, 5, 16, 24)}
"""By length: one step, fewer than tokens, as many, and more."""
SMALL, FEW = 4, 3


class SamplerStudy(Study):
    """A sampler, and its trajectories."""

    component: Sampler

    def world(self, length: int) -> World:
        return world(self.registry, length, self.component)

    def graph(self, length: int) -> SamplerGraph:
        from ..inference.generate import SamplerGraph

        place = self.world(length)
        return self.once(
            ("graph", length),
            lambda: SamplerGraph(self.component, place.batch, length, place.mask, **place.frequencies(self.component)),
        )

    def run(self, length: int, steps: int) -> Trajectory:
        """From texts in which some tokens are fixed."""
        place = self.world(length)
        return self.once(("run", length, steps), lambda: follow(place, self.graph(length), steps, place.given()))

    def runs(self) -> Iterator[tuple[str, Trajectory, World]]:
        """Each run, with its name in messages before and its world after it."""
        for length, counts in STEPS.items():
            for steps in counts:
                yield f"L = {length}, {steps} steps", self.run(length, steps), self.world(length)

    def eager(self) -> tuple[Trajectory, list[Seen]]:
        """Every step of one run called by itself, on the small world."""
        place = self.world(SMALL)
        return self.once("eager", lambda: eager(place, self.component, FEW, place.given()))

"""From the grid to cells: one training, likelihood or generation each, named by the hash of all that decides it.

A cell's content holds every setting with its default, never its place in the grid, so that finished cells are found
again by any run, in any order. What only labels a row (`labels`) is not part of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from ..api.families import Family
from ..api.metrics import Metric
from ..api.samplers import Sampler
from ..api.schedules import Schedule
from .store import content_hash

FORMAT = 3
"""Raised whenever the meaning of a number changes, so that older cells are not taken for newer ones."""

Kind = Literal["training", "likelihood", "generation", "judgement", "metric"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One unit of work. `needs` are the hashes of cells that must be finished before."""

    kind: Kind
    content: Mapping[str, Any]
    labels: Mapping[str, Any]
    needs: tuple[str, ...] = ()
    family: Family | None = None
    schedule: Schedule | None = None
    sampler: Sampler | None = None
    metric: Metric | None = None

    @cached_property
    def hash(self) -> str:
        return content_hash({"format": FORMAT, "kind": self.kind, **self.content})

    @property
    def what(self) -> str:
        """Kind and title: `generation mdlm …`, `judgement of mdlm …`."""
        return f"{self.kind}{' of' if self.kind in ('judgement', 'likelihood') else ''} {self.title}"

    @property
    def title(self) -> str:
        """One line for people: what, of which model, how."""
        parts = [self.labels.get(k) for k in ("metric", "control", "family", "schedule", "sampler", "estimator")]
        steps, seed = self.labels.get("steps"), self.labels.get("training_seed")
        text = " ".join(str(p) for p in dict.fromkeys(parts) if p)
        text += f" under {self.labels['evaluation_schedule']}" if self.labels.get("evaluation_schedule") else ""
        text += f" at {steps} steps" if steps else ""
        return text + (f" (training seed {seed})" if seed is not None else "")

"""From an experiment to its cells: all kinds, in an order in which each cell can be made."""

from __future__ import annotations

from .cells import Cell
from .experiment import Experiment
from .kinds import KINDS


def lay_out(experiment: Experiment) -> tuple[Cell, ...]:
    """The cells of an experiment, each once: cells of one hash are one cell."""
    cells: dict[str, Cell] = {}
    for kind in KINDS:
        for cell in list(kind.plan(experiment, list(cells.values()))):
            cells.setdefault(cell.hash, cell)
    return tuple(cells.values())

"""The kinds of cells, in the order in which they can be made. To measure something new, add a file and a line here.

A kind is a subclass of `Cell` with a class method `plan(experiment, planned)`, which gives its cells of an experiment.
"""

from __future__ import annotations

from ..cells import Cell
from .control import ControlCell, ControlLikelihoodCell
from .corpus import CorpusCell
from .generation import GenerationCell
from .judgement import JudgementCell
from .likelihood import LikelihoodCell
from .metric import MetricCell
from .sampler_likelihood import SamplerLikelihoodCell
from .speed import SpeedCell
from .training import TrainingCell

KINDS: list[type[Cell]] = [
    CorpusCell,
    TrainingCell,
    LikelihoodCell,
    ControlLikelihoodCell,
    SpeedCell,
    GenerationCell,
    SamplerLikelihoodCell,
    ControlCell,
    JudgementCell,
    MetricCell,
]


def kind_named(name: str) -> type[Cell] | None:
    """The kind of that name; None for one that this version does not know."""
    return next((kind for kind in KINDS if kind.kind == name), None)

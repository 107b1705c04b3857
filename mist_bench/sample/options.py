"""The options of `mist-bench sample`, checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..host.config import RunConfig, at_least, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """The options of `mist-bench sample`; None: chosen for the network at hand."""

    config: RunConfig
    """The network: corpus, tokenizer, model, training, and the first family, schedule and training seed."""
    written_for: str | None = None
    """The corpus that the length of `config` was written for, a preset's."""
    length_asked: bool = False
    """Whether the length of `config` was asked for."""
    corpus_asked: bool = False
    """Whether the corpus of `config` was asked for: with a checkpoint, it must be the text that it was trained on."""
    training_command: str = "mist-bench run"
    """What to type to train that network: the same options given to `run`."""
    checkpoint: str | None = None
    """The beginning of a checkpoint's hash, or a path; None: the network that `config` describes."""
    store: Path = Path("results/store")
    prompt: str = ""
    """Text before the generated text; each `___` in it is a blank to fill."""
    suffix: str = ""
    """Text after the generated text (infilling)."""
    sampler: str | None = None
    steps: int | None = None
    length: int | None = None
    temperature: float = 1.0
    nucleus: float = 1.0
    count: int = 1
    seed: int = 0
    watch: bool = False
    """Show the text emerging, step by step."""
    debug: bool = False

    def __post_init__(self) -> None:
        require(self.steps is None or self.steps >= 1, f"steps must be at least 1, given {self.steps}")
        require(self.length is None or self.length >= 2, f"length must be at least 2, given {self.length}")
        at_least(self, 1, "count")
        at_least(self, 0, "seed", "temperature")
        require(0 < self.nucleus <= 1, f"nucleus must be above 0 and at most 1, given {self.nucleus}")

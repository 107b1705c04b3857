"""The configuration of a run, as frozen dataclasses; `presets` reads them from files and from the command line.

The text under each field is its documentation: `mist-bench ls presets -v` and docs/presets.md show it.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from ..api.component import UserError
from ..api.families import NetworkSize
from .bounds import HOTTEST, LARGEST, LARGEST_SEED, LEAST_TARGET, MOST_STEPS


def require(holds: bool, message: str) -> None:
    if not holds:
        raise UserError(message)


def at_least(config: Any, low: float, *names: str, most: float = LARGEST) -> None:
    for name in names:
        value = getattr(config, name)
        require(value >= low, f"{name} must be at least {low}, given {value}")
        require(value <= most, f"{name} must be at most {most:g}, given {value}")


def _share(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        require(0 <= value < 1, f"{name} must be at least 0 and below 1, given {value}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of the transformer, the same for every family that is compared."""

    dim: int
    """Width of the residual stream; divisible by twice `heads`."""
    layers: int
    """Transformer blocks."""
    heads: int
    """Attention heads of a block."""
    feed_forward: int
    """Inner width of the feed-forward of a conditioned family; every other one's gives equal parameters."""
    conditioning_dim: int
    """Width of the conditioning of the adaptive layer norms."""
    local_heads: int = 0
    """Heads of a block that at first attend to a neighbour: prose is learned far sooner, long-range agreement later."""
    activation: Literal["gelu", "squared-relu", "swiglu"] = "gelu"
    """Activation of the feed-forward; a gated one (`swiglu`) is narrower, at equal parameters."""

    def __post_init__(self) -> None:
        at_least(self, 1, "dim", "layers", "heads", "feed_forward", "conditioning_dim")
        at_least(self, 0, "local_heads")
        require(self.local_heads <= self.heads, f"local_heads is at most heads ({self.heads}), not {self.local_heads}")
        even = self.dim % (2 * self.heads) == 0  # positions turn pairs of numbers within a head
        require(even, f"dim ({self.dim}) must be divisible by twice the heads ({self.heads})")

    def size(self) -> NetworkSize:
        """The same numbers as a family takes them."""
        return NetworkSize(**dataclasses.asdict(self))


HOW_IT_IS_READ = ("micro_batch", "devices")
"""Settings of a training that do not change the checkpoint's hash."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How every network of the run is trained: AdamW, linear warm-up, cosine decay."""

    train_steps: int
    """Optimiser steps."""
    batch_size: int
    """Sequences of a training step, as the optimiser sees it."""
    micro_batch: int = 0
    """Sequences that the device reads at once; their gradients are added up. 0: as many as fit."""
    devices: int = 1
    """Devices that share the sequences read at once, equally (`--devices`)."""
    learning_rate: float
    """Peak learning rate, reached after the warm-up."""
    warmup_steps: int
    """Steps of linear warm-up."""
    final_learning_rate_ratio: float = 0.1
    """Learning rate of the last step, as a share of the peak."""
    weight_decay: float
    """AdamW's decoupled weight decay."""
    beta1: float
    """AdamW's decay of the first moment."""
    beta2: float
    """AdamW's decay of the second moment."""
    gradient_clip: float
    """Largest global norm of the gradient."""
    ema_decay: float
    """Decay of the moving average of the parameters, which is evaluated; 0: the last parameters are."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the matrix products; `auto`: bfloat16 where the device is fast at it, else float32."""
    validate_every: int
    """Steps between two evaluations of the validation split."""
    checkpoint_every: int
    """Steps between two saved states, from which a stopped training resumes."""
    keep: Literal["last", "best"] = "last"
    """Weights that are measured: the `last` ones, or the `best` on the validation split (for many epochs)."""

    def __post_init__(self) -> None:
        at_least(self, 1, "train_steps", "batch_size", "devices", "validate_every", "checkpoint_every")
        at_least(self, 0, "warmup_steps", "weight_decay", "micro_batch")
        whole = self.micro_batch == 0 or self.batch_size % self.micro_batch == 0
        require(whole, f"micro_batch must divide batch_size ({self.batch_size}), given {self.micro_batch}")
        for name in ("batch_size", "micro_batch"):
            value = getattr(self, name)
            require(value % self.devices == 0, f"devices ({self.devices}) must divide {name}, given {value}")
        _share(self, "beta1", "beta2", "ema_decay")
        require(self.learning_rate > 0, f"learning_rate must be positive, given {self.learning_rate}")
        require(self.gradient_clip > 0, f"gradient_clip must be positive, given {self.gradient_clip}")
        ratio = self.final_learning_rate_ratio
        require(0 <= ratio <= 1, f"final_learning_rate_ratio must be from 0 to 1, given {ratio}")

    def identity(self) -> dict[str, Any]:
        """The settings that decide the network: those that only change the rounding are left out."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if name not in HOW_IT_IS_READ}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LikelihoodConfig:
    """How likelihoods are measured; sequences and mask draws are the same for every model."""

    sequences: int
    """Test sequences."""
    mask_draws: int
    """Mask draws of each sequence, for exact-k."""
    batch_size: int = 0
    """Sequences evaluated at once. 0: as many as fit and make it faster, found by measuring."""
    weighted_draws: int
    """Draws of each sequence for the bound weighted by a schedule; 0 leaves it out."""
    evaluation_schedules: tuple[str, ...] = ("linear", "cosine")
    """Schedules whose weights one checkpoint, the first, is evaluated under, to check that the estimators agree."""
    target_se: float = 0.0
    """Standard error wanted for exact-k, nats per token; then `mask_draws` is one block of up to 16. 0: no target."""
    chain_rule_sequences: int = 0
    """Test sequences that masked models read from left to right, at one evaluation a token; 0 leaves it out."""
    sampler_sequences: int = 0
    """Test sequences of which each sampler's own likelihood is measured, at its own steps; 0 leaves it out."""

    def __post_init__(self) -> None:
        at_least(self, 1, "sequences", "mask_draws")
        at_least(self, 0, "batch_size", "weighted_draws", "target_se", "chain_rule_sequences",
                 "sampler_sequences")  # fmt: skip
        wanted = self.target_se
        require(not 0 < wanted < LEAST_TARGET, f"target_se must be 0 or at least {LEAST_TARGET:g}, given {wanted}")
        _distinct(self, "evaluation_schedules")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How samples are drawn, judged and timed."""

    samples: int
    """Samples of a row, the same number for every row of a run."""
    batch_size: int = 0
    """Sequences generated at once, the same for all rows. 0: as many as fit and make it faster, found by measuring."""
    rounds: int
    """Timed rounds of all rows in turn; more where every row needs more batches for its samples."""
    nucleus: float = 1.0
    """Proposals come from the smallest set of tokens of at least this probability; 1 is all of them."""
    judge: str = "auto"
    """Who scores: a family that judges (`auto`: the first), of another training seed; `hf:NAME`, of the Hub; `none`."""
    judge_seed_offset: int = 1000
    """Added to the training seed to give the seed of the judge."""
    oracle_samples: int = 512
    """Samples of a row where no family is trained: evaluations are cheap (512: a valid rate within 2.2 points)."""
    prompt: int = 0
    """Tokens at the beginning of each sample that are given, those of a test sequence."""
    metrics: tuple[str, ...] = ()
    """Additional columns about the texts: `mist-bench ls metrics`; `none`: none."""

    def __post_init__(self) -> None:
        at_least(self, 1, "samples", "rounds", "judge_seed_offset", "oracle_samples")
        at_least(self, 0, "prompt", "batch_size")
        require(0 < self.nucleus <= 1, f"nucleus must be above 0 and at most 1, given {self.nucleus}")
        object.__setattr__(self, "metrics", tuple(spec for spec in dict.fromkeys(self.metrics) if spec != "none"))

    @property
    def judged_by_text(self) -> bool:
        """Whether a model of the Hub judges, which reads our texts rather than our tokens."""
        return self.judge.startswith(("hf:", "hf["))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The grid of a run and all its settings."""

    preset: str
    """Name of the preset."""
    corpus: str
    """The corpus: `mist-bench ls corpora`."""
    tokenizer: str
    """The tokenizer: `mist-bench ls tokenizers`."""
    length: int
    """Tokens of a sequence; a corpus with a length of its own (`tales`, `markov`) accepts no other."""
    families: tuple[str, ...]
    """Model families: `mist-bench ls families`."""
    schedules: tuple[str, ...]
    """Schedules that masked models are trained under: `mist-bench ls schedules`."""
    samplers: tuple[str, ...]
    """Samplers of masked models: `mist-bench ls samplers`; `all`: every one that has defaults."""
    steps: tuple[int, ...]
    """Denoising steps asked for."""
    temperatures: tuple[float, ...]
    """Sampling temperatures; 1 is the model's own law, 0 the most likely token."""
    training_seeds: tuple[int, ...]
    """Seeds of initialisation, data order and masks; each trains a network."""
    seeds: tuple[int, ...]
    """Seeds of generation."""
    model: ModelConfig
    """Section `[model]`."""
    training: TrainingConfig
    """Section `[training]`."""
    likelihood: LikelihoodConfig
    """Section `[likelihood]`."""
    generation: GenerationConfig
    """Section `[generation]`."""

    def __post_init__(self) -> None:
        at_least(self, 2, "length")
        _distinct(self, "families", "schedules", "samplers", "steps", "temperatures", "training_seeds", "seeds")
        for name, low, most in (
            ("steps", 1, MOST_STEPS), ("temperatures", 0, HOTTEST), ("training_seeds", 0, LARGEST_SEED),
            ("seeds", 0, LARGEST_SEED),
        ):  # fmt: skip
            for value in getattr(self, name):
                require(value >= low, f"{name} must be at least {low}, given {value}")
                require(value <= most, f"{name} must be at most {most:g}, given {value}")

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, as run.json keeps them."""
        return dataclasses.asdict(self)


def _distinct(config: Any, *names: str) -> None:
    """Drop repeated values, in the given order; none at all is an error."""
    for name in names:
        values = tuple(dict.fromkeys(getattr(config, name)))
        require(bool(values), f"{name} needs at least one value")
        object.__setattr__(config, name, values)

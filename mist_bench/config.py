"""The configuration of a run: frozen dataclasses, read from TOML presets, overridden by the command line.

The text under each field is its documentation: `mist-bench ls presets -v` and docs/presets.md show it.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from .interfaces import NetworkSize, UserError
from .specs import field_types, from_text, from_value, suggest, type_name

if TYPE_CHECKING:
    from .registry import Kind, Registry

PRESETS = Path(__file__).parent / "presets"
T = TypeVar("T")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise UserError(message)


def _at_least(config: Any, low: float, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _require(value >= low, f"{name} must be at least {low}, given {value}")


def _share(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _require(0 <= value < 1, f"{name} must be at least 0 and below 1, given {value}")


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
    """Inner width of the feed-forward of a conditioned family; the baseline's is wider, at equal parameters."""
    conditioning_dim: int
    """Width of what the adaptive layer norms are told."""
    local_heads: int = 0
    """Heads of a block that begin by looking at a neighbour: prose is learned far sooner, far agreement later."""

    def __post_init__(self) -> None:
        _at_least(self, 1, "dim", "layers", "heads", "feed_forward", "conditioning_dim")
        _at_least(self, 0, "local_heads")
        _require(self.local_heads <= self.heads, f"local_heads is at most heads ({self.heads}), not {self.local_heads}")
        even = self.dim % (2 * self.heads) == 0  # positions turn pairs of numbers within a head
        _require(even, f"dim ({self.dim}) must be divisible by twice the heads ({self.heads})")

    def size(self) -> NetworkSize:
        """The same numbers as a family takes them."""
        return NetworkSize(**dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How every network of the run is trained: AdamW, linear warm-up, cosine decay."""

    train_steps: int
    """Optimiser steps."""
    batch_size: int
    """Sequences of a training step."""
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
    """Decay of the moving average of the parameters, which is what gets evaluated; 0 evaluates the last ones."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the matrix products; `auto`: bfloat16 where the device is fast at it, else float32."""
    validate_every: int
    """Steps between two looks at the validation split."""
    checkpoint_every: int
    """Steps between two saved states, from which a stopped training goes on."""

    def __post_init__(self) -> None:
        _at_least(self, 1, "train_steps", "batch_size", "validate_every", "checkpoint_every")
        _at_least(self, 0, "warmup_steps", "weight_decay")
        _share(self, "beta1", "beta2", "ema_decay")
        _require(self.learning_rate > 0, f"learning_rate must be positive, given {self.learning_rate}")
        _require(self.gradient_clip > 0, f"gradient_clip must be positive, given {self.gradient_clip}")
        ratio = self.final_learning_rate_ratio
        _require(0 <= ratio <= 1, f"final_learning_rate_ratio must be from 0 to 1, given {ratio}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LikelihoodConfig:
    """How likelihoods are measured; sequences and mask draws are the same for every model."""

    sequences: int
    """Test sequences."""
    mask_draws: int
    """Mask draws of each sequence, for exact-k."""
    batch_size: int
    """Sequences of an evaluation."""
    weighted_draws: int
    """Draws of each sequence for the bound weighted by a schedule; 0 leaves it out."""
    evaluation_schedules: tuple[str, ...] = ("linear", "cosine")
    """Schedules whose weights each checkpoint is evaluated under, to check that the estimators agree."""
    target_se: float = 0.0
    """Standard error wanted for exact-k, nats per token; then `mask_draws` is one block of up to 16. 0: no target."""
    chain_rule_sequences: int = 0
    """Test sequences that masked models read from left to right, at one evaluation a token; 0 leaves it out."""

    def __post_init__(self) -> None:
        _at_least(self, 1, "sequences", "mask_draws", "batch_size")
        _at_least(self, 0, "weighted_draws", "target_se", "chain_rule_sequences")
        _distinct(self, "evaluation_schedules")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How samples are drawn, judged and timed."""

    samples: int
    """Samples of a row."""
    batch_size: int
    """Sequences generated at once; the same for all rows, so that times compare."""
    rounds: int
    """Timed repetitions; the table shows their median and interquartile range."""
    nucleus: float = 1.0
    """Proposals come from the smallest set of tokens of at least this probability; 1 is all of them."""
    judge: Literal["auto", "autoregressive", "none"] = "auto"
    """Who scores the samples; `auto` and `autoregressive`: a baseline of another training seed."""
    judge_seed_offset: int = 1000
    """What is added to the training seed for the judge."""
    oracle_samples: int = 512
    """Samples of a row of an untrained family, whose evaluations are cheap (512: a valid rate within 2.2 points)."""
    prompt: int = 0
    """Tokens at the beginning of each sample that are given, those of a test sequence."""

    def __post_init__(self) -> None:
        _at_least(self, 1, "samples", "batch_size", "rounds", "judge_seed_offset", "oracle_samples")
        _at_least(self, 0, "prompt")
        _require(0 < self.nucleus <= 1, f"nucleus must be above 0 and at most 1, given {self.nucleus}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The grid of a run and all its settings."""

    preset: str
    """The name of the preset it came from."""
    corpus: str
    """What is modelled: `mist-bench ls corpora`."""
    tokenizer: str
    """How text becomes tokens: `mist-bench ls tokenizers`."""
    length: int
    """Tokens of a sequence."""
    families: tuple[str, ...]
    """Kinds of models: `mist-bench ls families`."""
    schedules: tuple[str, ...]
    """Schedules that masked models are trained under: `mist-bench ls schedules`."""
    samplers: tuple[str, ...]
    """How masked models generate: `mist-bench ls samplers`; `all` is every one with its defaults."""
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
        _at_least(self, 2, "length")
        _distinct(self, "families", "schedules", "samplers", "steps", "temperatures", "training_seeds", "seeds")
        for name, low in (("steps", 1), ("temperatures", 0), ("training_seeds", 0), ("seeds", 0)):
            bad = [value for value in getattr(self, name) if value < low]
            _require(not bad, f"{name} must be at least {low}, given {bad[0] if bad else ''}")

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, as run.json keeps them."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """What `mist-bench sample` was asked for; None: the host's choice for the checkpoint at hand."""

    config: RunConfig
    """Which network: its corpus, tokenizer, model, training, and the first family, schedule and training seed."""
    checkpoint: str | None = None
    """The beginning of a checkpoint's hash, or a path; None: the network that `config` describes."""
    store: Path = Path("results/store")
    prompt: str = ""
    """Text before what is generated; each `___` in it is a blank to be filled."""
    suffix: str = ""
    """Text after what is generated (infilling)."""
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
        _require(self.steps is None or self.steps >= 1, f"steps must be at least 1, given {self.steps}")
        _require(self.length is None or self.length >= 2, f"length must be at least 2, given {self.length}")
        _at_least(self, 1, "count")
        _at_least(self, 0, "seed", "temperature")
        _require(0 < self.nucleus <= 1, f"nucleus must be above 0 and at most 1, given {self.nucleus}")


def _distinct(config: Any, *names: str) -> None:
    """Drop repeated values, in the given order; none at all is an error."""
    for name in names:
        values = tuple(dict.fromkeys(getattr(config, name)))
        _require(bool(values), f"{name} needs at least one value")
        object.__setattr__(config, name, values)


def preset_names() -> list[str]:
    """The presets that come with mist-bench."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def default_preset(device: str) -> str:
    """`quick` where tinygrad runs on the CPU, `austen` on a GPU. `device`: as tinygrad names it, e.g. `CUDA`."""
    return "quick" if device.upper().startswith(("CPU", "PYTHON", "NULL")) else "austen"


def load_preset(name_or_path: str) -> RunConfig:
    """A preset by name, or any TOML file by its path. Raises `UserError` for what is unknown or wrong in it."""
    is_path = name_or_path.endswith(".toml")
    path = Path(name_or_path) if is_path else PRESETS / f"{name_or_path}.toml"
    if not (path.is_file() if is_path else name_or_path in preset_names()):
        hint = "no such file" if is_path else suggest(name_or_path, preset_names())
        raise UserError(f"unknown preset {name_or_path!r}; {hint} (mist-bench ls presets)")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}") from error
    if "preset" in table:
        raise UserError(f"{path}: the preset is named by its file; remove the key 'preset'")
    return _build(RunConfig, {"preset": path.stem, **table}, str(path), "")


def _build(cls: type[T], table: Mapping[str, Any], source: str, section: str) -> T:
    """A dataclass from a TOML table, checked key by key."""
    types = field_types(cls)
    values = {}
    for key, value in table.items():
        values[key] = _value(types[_known(key, types, section, source)], value, source, f"{section}{key}")
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name not in table and field.default is dataclasses.MISSING:
            raise UserError(f"{source}: {section}{field.name} is missing")
    try:
        return cls(**values)
    except UserError as error:
        raise UserError(f"{source}: {section}{error}") from None


def _value(kind: Any, value: Any, source: str, key: str) -> Any:
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise UserError(f"{source}: {key} is a section; write [{key}]")
        return _build(kind, value, source, f"{key}.")  # type: ignore[arg-type]
    try:
        return from_value(value, kind)
    except ValueError:
        raise UserError(f"{source}: {key} is {type_name(kind)}, given {value!r}") from None


def _known(key: str, types: Mapping[str, Any], section: str, source: str) -> str:
    if key not in types:
        known = ", ".join(name for name in types if name != "preset")
        raise UserError(f"{source}: unknown key {section + key!r}; {suggest(key, types)} (keys: {known})")
    return key


def override(config: RunConfig, settings: Sequence[str] = (), **given: Any) -> RunConfig:
    """The configuration with what the command line gives: `--set SECTION.KEY=VALUE` texts, then fields by their name.

    A field may be given as text (`steps="5,10"`); None means not given. Raises `UserError` for what cannot be read.
    """
    for text in settings:
        section, key, value = _setting(text)
        if section:
            value = dataclasses.replace(getattr(config, section), **{key: value})
        config = dataclasses.replace(config, **{section or key: value})
    types = field_types(RunConfig)
    texts = {key: _read(value, types[key], key) for key, value in given.items() if isinstance(value, str)}
    return dataclasses.replace(config, **{k: v for k, v in (given | texts).items() if v is not None})


def _setting(text: str) -> tuple[str, str, Any]:
    """Section (or nothing), key and value of one `--set`, of the type that the field declares."""
    path, equals, value = text.partition("=")
    section, _, key = path.strip().rpartition(".")
    usage = f"cannot read --set {text!r}; write SECTION.KEY=VALUE, e.g. training.train_steps=200"
    types = field_types(RunConfig)
    if section:
        owner = types[_known(section, types, "", "--set")]
        if not isinstance(owner, type) or not dataclasses.is_dataclass(owner):
            raise UserError(usage)
        types = field_types(owner)
    kind = types[_known(key, types, f"{section}." if section else "", "--set")]
    if not equals or dataclasses.is_dataclass(kind) or (not section and key == "preset"):
        raise UserError(usage)
    return section, key, _read(value.strip(), kind, f"--set {path}")


def _read(text: str, kind: Any, what: str) -> Any:
    try:
        return from_text(text, kind)
    except ValueError:
        raise UserError(f"{what} is {type_name(kind)}, given {text!r}") from None


def resolve(config: RunConfig, registry: Registry) -> RunConfig:
    """Make every object that the run names, before anything is written or trained; the grid in its shortest form.

    Raises `UserError` for an unknown name or parameter. `confidence` and `confidence[score=proposal]` become one.
    """
    idle = not config.generation.prompt
    every = [s for s in registry.with_defaults("sampler") if not (idle and registry.get("sampler", s).needs_prompt)]
    named = [[s] if s != "all" else every for s in config.samplers]
    config = dataclasses.replace(config, samplers=tuple(s for names in named for s in names))
    registry.make("corpus", config.corpus)
    registry.make("tokenizer", config.tokenizer)
    grid: dict[Kind, str] = {"family": "families", "schedule": "schedules", "sampler": "samplers"}
    shortest = {field: tuple(registry.make(k, s).spec for s in getattr(config, field)) for k, field in grid.items()}
    for spec in config.likelihood.evaluation_schedules:
        registry.make("schedule", spec)
    return dataclasses.replace(config, **shortest)  # type: ignore[arg-type]

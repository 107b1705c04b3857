"""The network of `mist-bench sample`: the one that a configuration describes, or that of a checkpoint.

A checkpoint describes its network: its metadata are the content and the labels of its training.
"""

from __future__ import annotations

import dataclasses
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..api.component import UserError
from ..api.families import Family
from ..api.schedules import Schedule
from ..engine import device
from ..host.config import ModelConfig, RunConfig, TrainingConfig
from ..host.registry import Registry
from ..inference.causal import CausalEvaluator
from ..inference.masked import MaskedEvaluator
from ..inference.step import Needs
from ..run.experiment import Experiment
from ..run.kinds.training import MeasuredModel, TrainingCell, models
from ..run.store import Store, plain
from ..run.workbench import Parameters, Workbench
from .options import SampleOptions

HASH = re.compile(r"[0-9a-f]{1,16}")
SUFFIX, UNFINISHED = ".safetensors", "-partial"
SHOWN = 6
BATCH = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A network with its corpus and training schedule. `values` is None for one without parameters (the oracle)."""

    bench: Workbench
    family: Family
    schedule: Schedule
    values: Parameters | None
    hash: str

    @property
    def causal(self) -> bool:
        return self.family.causal

    @property
    def title(self) -> str:
        names = [self.family.spec, f"under {self.schedule.spec}" if self.family.uses_schedule else ""]
        data = f"on {self.bench.experiment.corpus.spec} by {self.bench.experiment.tokenizer.spec}"
        return " ".join(part for part in (*names, data, f"({self.hash})" if self.hash else "") if part)

    def evaluator(self, needs: Needs) -> MaskedEvaluator | CausalEvaluator:
        """The evaluator of the network. Raises `UserError` if the checkpoint's parameters do not fit the network."""
        evaluator: MaskedEvaluator | CausalEvaluator
        try:
            if self.causal:
                evaluator = self.bench.causal(self.family, self.values or {})
            else:
                evaluator = self.bench.masked(self.family, self.values, needs=needs)
        except (KeyError, ValueError) as error:
            raise _misfit(self.hash) from error
        if self.values is not None and self.values.keys() != evaluator.model.parameters.keys():
            raise _misfit(self.hash)
        return evaluator


def _misfit(hash: str) -> UserError:
    return UserError(
        f"checkpoint {hash} is a checkpoint of another configuration: its parameters do not fit the network that it "
        "describes; train it again with mist-bench run --rerun all"
    )


def find(registry: Registry, options: SampleOptions) -> Network:
    """The network that was asked for. Raises `UserError` if it is missing or not as its checkpoint describes it."""
    if options.checkpoint is not None:
        hash, values, metadata = _load(Store(options.store), options.checkpoint)
        asked = options.config.corpus if options.corpus_asked else None
        config = _described(options.config, hash, metadata, asked)
        options = dataclasses.replace(options, config=config, written_for=None)
        model = _model(registry, options)
        _same(hash, metadata["content"], model.training.content if model.training else {}, metadata["labels"])
        return _network(model, Store(options.store), values, hash)
    model, store = _model(registry, options), Store(options.store)
    if model.training is None:
        return _network(model, store, None, "")
    return _network(model, store, _trained(store, model.training, options), model.training.hash)


def _model(registry: Registry, options: SampleOptions) -> MeasuredModel:
    """The first model of the configuration, in an experiment of its own."""
    config = options.config
    generation = dataclasses.replace(
        config.generation, batch_size=min(options.count, BATCH), nucleus=options.nucleus, judge="none", metrics=(),
        prompt=0,
    )
    first = dataclasses.replace(
        config, families=config.families[:1], schedules=config.schedules[:1], generation=generation, samplers=("all",),
        training_seeds=config.training_seeds[:1],
    )  # fmt: skip
    experiment = Experiment.of(
        first, registry, device.name(), device.precision_name(config.training.precision),
        written_for=options.written_for, length_asked=options.length_asked,
    )  # fmt: skip
    return models(experiment)[0]


def _network(model: MeasuredModel, store: Store, values: Parameters | None, hash: str) -> Network:
    experiment = model.experiment
    return Network(bench=Workbench(experiment, store), family=model.family, hash=hash, values=values,
                   schedule=model.schedule or experiment.schedules[0])  # fmt: skip


def _trained(store: Store, training: TrainingCell, options: SampleOptions) -> Parameters:
    found = store.load_checkpoint(training.hash)
    if found is None:
        raise UserError(
            f"the store '{store.path}' has no checkpoint of {training.title}; train it: {options.training_command}"
        )
    return found[0]


def _load(store: Store, given: str) -> tuple[str, Parameters, dict[str, Any]]:
    """Hash, parameters and metadata of a checkpoint, by the beginning of its hash or by its path."""
    path = Path(given)
    if path.suffix == SUFFIX or path.is_file() or len(path.parts) > 1:
        return _load_file(path)
    folder = store.path / "checkpoints"
    finished = sorted(p.stem for p in folder.glob(f"*{SUFFIX}") if not p.stem.endswith(UNFINISHED))
    matching = [hash for hash in finished if hash.startswith(given.lower())] if HASH.fullmatch(given.lower()) else []
    if len(matching) > 1:
        raise UserError(f"checkpoint {given!r} is the beginning of {_list(matching)}; give more of the hash")
    if not matching:
        raise UserError(f"unknown checkpoint {given!r}; in the store '{store.path}': {_list(finished)}")
    found = store.load_checkpoint(matching[0])
    if found is None:
        raise UserError(f"checkpoint {matching[0]} is damaged and was set aside; train it again with mist-bench run")
    return matching[0], *found


def _list(hashes: list[str]) -> str:
    more = f" and {len(hashes) - SHOWN} more" if len(hashes) > SHOWN else ""
    return (", ".join(hashes[:SHOWN]) or "none; train a network first: mist-bench run") + more


def _load_file(path: Path) -> tuple[str, Parameters, dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"no checkpoint file '{path}'; give its path, or the beginning of a hash in the store")
    try:
        with safe_open(path, framework="np") as file:
            hash = str((file.metadata() or {})["hash"])
    except (SafetensorError, KeyError, OSError):
        raise UserError(f"'{path}' is damaged, or no checkpoint of mist-bench") from None
    with tempfile.TemporaryDirectory() as folder:
        # a store of this one file, by a link: what the store would rename if it is damaged is the link
        link = Store(folder).checkpoint_path(hash)
        link.parent.mkdir()
        link.symlink_to(path.resolve())
        found = Store(folder).load_checkpoint(hash)
    if found is None:
        raise UserError(f"'{path}' is damaged; train that network again with mist-bench run")
    return hash, *found


def _described(config: RunConfig, hash: str, metadata: Mapping[str, Any], asked: str | None) -> RunConfig:
    """The configuration with the network that the metadata describe. `asked`: the corpus that was asked for, which may
    be the same text at another place."""
    if "content" not in metadata and "curve" in metadata:
        raise UserError(f"checkpoint {hash} is of an unfinished training; the same mist-bench run goes on with it")
    try:
        content, labels = metadata["content"], metadata["labels"]
        schedule = (labels["schedule"],) if labels["schedule"] else config.schedules[:1]
        return dataclasses.replace(
            config, corpus=asked or labels["corpus"], tokenizer=labels["tokenizer"], families=(labels["family"],),
            schedules=schedule, training_seeds=(content["training_seed"],), length=content["length"],
            model=ModelConfig(**content["model"]), training=TrainingConfig(**content["training"]),
        )  # fmt: skip
    except (KeyError, TypeError, UserError) as error:
        raise UserError(f"checkpoint {hash} does not say which network it holds; train it again") from error


def _same(hash: str, then: Mapping[str, Any], now: Mapping[str, Any], labels: Mapping[str, Any]) -> None:
    """Check that the names in a checkpoint still mean what they meant in training; only the device may differ."""
    for key, value in plain(now).items():
        if key != "device" and then.get(key) != value:
            what = f"{key} {labels[key]!r}" if labels.get(key) else key
            raise UserError(f"checkpoint {hash} is a checkpoint of another configuration: its {what} has changed since")

"""Presets from TOML, and the changes that the command line makes in them; every key is checked."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..api.component import UserError
from .config import RunConfig
from .values import field_types, from_text, from_value, suggest, wanted

PRESETS = Path(__file__).parent / "presets"
GPUS = ("CUDA", "NV", "AMD", "HIP", "METAL")
FLAGS = {
    "families": "--family", "schedules": "--schedule", "samplers": "--sampler", "temperatures": "--temperature",
    "training_seeds": "--training-seed", "seeds": "--seed",
}  # fmt: skip
"""Options whose name differs from that of their field."""
T = TypeVar("T")


def preset_names() -> list[str]:
    """The presets that come with mist-bench."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def default_preset(device: str) -> str:
    """`austen` on a GPU, else `quick`. `device`: as tinygrad names it, e.g. `CUDA`.

    What may be a CPU or a laptop's small GPU (OpenCL, WebGPU) counts as none.
    """
    return "austen" if device.upper().split(":")[0] in GPUS else "quick"


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


def from_table(table: Mapping[str, Any], source: str) -> RunConfig:
    """The configuration that `to_dict` gave. Raises `UserError`, which begins with `source`."""
    return _build(RunConfig, table, source, "")


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
        raise UserError(f"{source}: {key} is {wanted(kind, in_file=True)}, given {value!r}") from None


def _known(key: str, types: Mapping[str, Any], section: str, source: str) -> str:
    if key not in types:
        known = [name for name in types if name != "preset"]
        raise UserError(f"{source}: unknown key {section + key!r}; {suggest(key, known, 'keys')}")
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
    texts = {k: _read(v, types[k], FLAGS.get(k, f"--{k}")) for k, v in given.items() if isinstance(v, str)}
    return dataclasses.replace(config, **{k: v for k, v in (given | texts).items() if v is not None})


def asked(settings: Sequence[str], key: str) -> bool:
    """Whether a `--set KEY=VALUE` of this key of the grid, such as `length`, is among the settings."""
    return any(_setting(text)[:2] == ("", key) for text in settings)


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
        raise UserError(f"{what} takes {wanted(kind)}; given {text!r}") from None
    except UserError as error:
        raise UserError(f"{what}: {error}") from None


def sections() -> list[tuple[str, type]]:
    """The parts of a preset: the grid (no section name), then each section with its dataclass."""
    types: dict[str, type] = field_types(RunConfig)
    return [("", RunConfig), *((key, types[key]) for key in types if dataclasses.is_dataclass(types[key]))]


def setting_keys(cls: type) -> list[str]:
    """The keys of a section that hold a value."""
    return [key for key, kind in field_types(cls).items() if not dataclasses.is_dataclass(kind) and key != "preset"]


def field_docs(cls: type) -> dict[str, str]:
    """The text under each field of a dataclass, read from its source."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    docs = {}
    for item, below in itertools.pairwise(getattr(tree, "body", [])):
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and isinstance(below, ast.Expr):
            docs[item.target.id] = inspect.cleandoc(str(ast.literal_eval(below.value)))
    return docs


def preset_row(name: str) -> dict[str, Any]:
    """A preset: its name, the comment at the head of its file, and all its values."""
    first = (PRESETS / f"{name}.toml").read_text(encoding="utf-8").partition("\n")[0]
    return {"name": name, "summary": first.lstrip("# "), "values": load_preset(name).to_dict()}


def plain_text(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, tuple):
        return ",".join(map(plain_text, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)

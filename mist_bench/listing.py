"""What `mist-bench ls` and `mist-bench plugins` print; `python -m mist_bench.listing` writes docs/presets.md."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
import re
from typing import Any

from .api.component import Component, UserError
from .host.presets import PRESETS, field_docs, load_preset, preset_names, sections, setting_keys
from .host.registry import PLURALS, Kind, Registry
from .host.values import field_types, suggest, type_name

Row = dict[str, Any]


def component_row(registry: Registry, kind: Kind, name: str) -> Row:
    """One plugin object as plain values: name, parameters, what its docstring begins with, paper, where it is from."""
    cls: type[Component] = registry.get(kind, name)
    types = field_types(cls)
    parameters = [
        {
            "name": field.name,
            "type": type_name(types[field.name]),
            "default": field.metadata.get("spec") if field.default is dataclasses.MISSING else field.default,
            "required": field.default is dataclasses.MISSING and "spec" not in field.metadata,
            "doc": field.metadata.get("doc", ""),
        }
        for field in dataclasses.fields(cls)
    ]
    written = cls.__doc__ or ""
    if written.startswith(f"{cls.__name__}("):  # what @dataclass makes up where there is no docstring
        written = ""
    summary, plugin = _summary(written), registry.origin(kind, name).name
    return {"name": name, "parameters": parameters, "summary": summary, "source": cls.source, "plugin": plugin}


def _summary(written: str) -> str:
    """The first line of a docstring; where no sentence ends there, its first sentence."""
    paragraph = inspect.cleandoc(written).partition("\n\n")[0]
    first = paragraph.partition("\n")[0]
    return first if first.endswith(".") else re.split(r"(?<=\.)\s+(?=[^a-z])", " ".join(paragraph.split()))[0]


def preset_row(name: str) -> Row:
    """A preset: its name, the comment at the head of its file, and all its values."""
    first = (PRESETS / f"{name}.toml").read_text(encoding="utf-8").partition("\n")[0]
    return {"name": name, "summary": first.lstrip("# "), "values": load_preset(name).to_dict()}


def list_kind(registry: Registry, plural: str, *, verbose: bool, as_json: bool) -> None:
    """Print `ls samplers` and its like. Raises `UserError` for a kind that there is none of."""
    kinds = {many: kind for kind, many in PLURALS.items()}
    if not plural:
        raise UserError(f"list what? mist-bench ls KIND, one of: {', '.join([*kinds, 'presets'])}")
    if plural not in kinds and plural != "presets":
        raise UserError(f"unknown kind {plural!r}; {suggest(plural, [*kinds, 'presets'])} (mist-bench ls KIND)")
    if plural == "presets":
        rows = [preset_row(name) for name in preset_names()]
    else:
        rows = [component_row(registry, kinds[plural], name) for name in registry.names(kinds[plural])]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if not rows:
        print("none")
        return
    if verbose:
        print("\n\n".join(_block(row) for row in rows))
        return
    titles = [row["name"] + _signature(row) for row in rows]
    width = min(max(map(len, titles), default=0), 40)
    for row, title in zip(rows, titles, strict=True):
        print(f"{title:<{width}}  {row['summary']}")


def _signature(row: Row) -> str:
    shown = [p["name"] if p["required"] else f"{p['name']}={_plain(p['default'])}" for p in row.get("parameters", [])]
    return f"[{','.join(shown)}]" if shown else ""


def _plain(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, tuple):
        return ",".join(map(_plain, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _block(row: Row) -> str:
    """The long form of a row: every parameter, or every value of a preset, with its documentation."""
    lines = [f"{row['name']}{_signature(row)}", f"    {row['summary']}"]
    if "values" in row:
        for section, cls in sections():
            values = row["values"][section] if section else row["values"]
            lines += [f"    [{section}]"] if section else []
            docs = field_docs(cls)
            lines += [f"    {key} = {_plain(values[key])}  ({docs[key]})" for key in setting_keys(cls)]
        return "\n".join(lines)
    for parameter in row["parameters"]:
        default = "needed" if parameter["required"] else f"default {_plain(parameter['default']) or 'empty'}"
        lines.append(f"    {parameter['name']}: {parameter['type']}, {default}. {parameter['doc']}".rstrip(". "))
    lines += [f"    source: {row['source']}"] if row["source"] else []
    return "\n".join([*lines, f"    plugin: {row['plugin']}"])


def list_plugins(registry: Registry, *, as_json: bool) -> None:
    """Print every plugin with its hooks, and what went wrong with it."""
    if as_json:
        print(json.dumps([dataclasses.asdict(plugin) for plugin in registry.plugins()], indent=2))
        return
    for owner, group in itertools.groupby(registry.plugins(), key=lambda p: (p.distribution, p.version)):
        print(" ".join(owner).strip() or "loose files")
        for plugin in group:
            hooks = ", ".join(hook.removeprefix("mist_bench_") for hook in plugin.hooks) or "no hooks"
            print(f"    {plugin.entry_point or plugin.file}: {hooks}")
            for failure in plugin.failures:
                print(f"        problem: {failure}")


HEAD = """# Presets

A preset is a TOML file with every setting of a run: `mist-bench run --preset NAME`, or `--preset FILE.toml` for one of
your own (copy one of `mist_bench/presets/`). Without `--preset`, a run on the CPU takes `quick` and a run on a GPU
`austen`. The command line wins: `--steps 5,10` replaces the grid's steps, and `--set training.train_steps=200` any key.
An unknown key is an error. A corpus with a length of its own (`tales`, `markov`) is read at that length under its own
tokenizer, `word`: `--corpus markov` takes it in place of the preset's, and `--set length=N` with another N is an error
(`--corpus "markov[length=N]"` is another world). `mist-bench ls presets -v` prints this page for each preset.

"""


def presets_page() -> str:
    """The text of docs/presets.md, made from the dataclasses and the presets."""
    rows = [preset_row(name) for name in preset_names()]
    lines = [HEAD + "\n".join(f"- `{row['name']}`: {row['summary']}" for row in rows), ""]
    for section, cls in sections():
        title, owner = (f"`[{section}]`", section) if section else ("The grid", "")
        columns = ["key", "meaning", "type", *(row["name"] for row in rows)]
        lines += [f"## {title}", "", inspect.cleandoc(cls.__doc__ or ""), ""]
        lines += [_line(columns), _line("---" for _ in columns)]
        types, docs = field_types(cls), field_docs(cls)
        for key in setting_keys(cls):
            values = [_plain((row["values"][owner] if owner else row["values"])[key]) for row in rows]
            lines.append(_line([f"`{key}`", docs[key], type_name(types[key]).replace("|", "\\|"), *values]))
        lines.append("")
    return "\n".join(lines)


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    (PRESETS.parent.parent / "docs" / "presets.md").write_text(presets_page(), encoding="utf-8")

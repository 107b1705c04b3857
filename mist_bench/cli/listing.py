"""Output of `mist-bench ls` and `mist-bench plugins`."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
import re
from typing import Any

from ..api.component import Component, UserError
from ..host.presets import (
    field_docs,
    plain_text,
    preset_names,
    preset_row,
    sections,
    setting_keys,
)
from ..host.registry import PLURALS, Kind, Registry
from ..host.values import field_types, suggest, type_name

Description = dict[str, Any]


def describe_component(registry: Registry, kind: Kind, name: str) -> Description:
    """A plugin class as plain values: name, parameters, summary of its docstring, paper, and the plugin it is from."""
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
    if written.startswith(f"{cls.__name__}("):  # the text that @dataclass generates without a docstring
        written = ""
    summary, plugin = _summary(written), registry.origin(kind, name).name
    return {"name": name, "parameters": parameters, "summary": summary, "source": cls.source, "plugin": plugin}


def _summary(written: str) -> str:
    """The first line of a docstring, or its first sentence if that is longer."""
    paragraph = inspect.cleandoc(written).partition("\n\n")[0]
    first = paragraph.partition("\n")[0]
    return first if first.endswith(".") else re.split(r"(?<=\.)\s+(?=[^a-z])", " ".join(paragraph.split()))[0]


def list_kind(registry: Registry, plural: str, *, verbose: bool, as_json: bool) -> None:
    """Print `mist-bench ls KIND`. Raises `UserError` for an unknown kind."""
    kinds = {many: kind for kind, many in PLURALS.items()}
    if not plural:
        raise UserError(f"no kind given; type mist-bench ls KIND, one of: {', '.join([*kinds, 'presets'])}")
    if plural not in kinds and plural != "presets":
        raise UserError(f"unknown kind {plural!r}; {suggest(plural, [*kinds, 'presets'])} (mist-bench ls KIND)")
    if plural == "presets":
        rows = [preset_row(name) for name in preset_names()]
    else:
        rows = [describe_component(registry, kinds[plural], name) for name in registry.names(kinds[plural])]
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


def _signature(row: Description) -> str:
    """The parameters with their defaults, `[score=proposal]`."""
    parameters = row.get("parameters", [])
    shown = [p["name"] if p["required"] else f"{p['name']}={plain_text(p['default'])}" for p in parameters]
    return f"[{','.join(shown)}]" if shown else ""


def _block(row: Description) -> str:
    """The text of `ls -v`: every parameter of a class, or every value of a preset, with its documentation."""
    lines = [f"{row['name']}{_signature(row)}", f"    {row['summary']}"]
    if "values" in row:
        for section, cls in sections():
            values = row["values"][section] if section else row["values"]
            lines += [f"    [{section}]"] if section else []
            docs = field_docs(cls)
            lines += [f"    {key} = {plain_text(values[key])}  ({docs[key]})" for key in setting_keys(cls)]
        return "\n".join(lines)
    for parameter in row["parameters"]:
        default = "required" if parameter["required"] else f"default {plain_text(parameter['default']) or 'empty'}"
        lines.append(f"    {parameter['name']}: {parameter['type']}, {default}. {parameter['doc']}".rstrip(". "))
    lines += [f"    source: {row['source']}"] if row["source"] else []
    return "\n".join([*lines, f"    plugin: {row['plugin']}"])


def list_plugins(registry: Registry, *, as_json: bool) -> None:
    """Print every plugin with its hooks and its errors."""
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

"""The host names no plugin: what it needs of one it finds by a fact, so that any plugin can take its place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import mist_bench
from mist_bench.host.registry import BASES, Registry

ROOT = Path(mist_bench.__file__).parent
ABOUT_PLUGINS = {"pages", "testing"}
"""Folders that are about particular plugins: pages of numbers about the built-ins, and the conformance kit."""
OTHER_MEANINGS = {
    "margin": "field of a View", "entropy": "field of a View and header of a column",
    "austen": "preset", "tinystories": "size of the benchmarks", "gpt2": "size of the benchmarks",
}  # fmt: skip
ALLOWED = {
    "host/config.py": {"linear", "cosine"},  # the default of a setting, which a preset may replace
    "api/tokenizers.py": {"byte"},  # messages that name a way out
    "hub/datasets.py": {"file"},
}


def strings(tree: ast.Module) -> Iterator[str]:
    """Every string of a file but its documentation."""
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


def names_in(text: str, names: set[str]) -> set[str]:
    """A string that is a plugin's name, and the names that it advises to type."""
    advised = set(re.findall(r"--(?:family|corpus|tokenizer|sampler|schedule|launcher) ([a-z][a-z0-9-]*)", text))
    return ({text} | advised) & names


def test_no_string_of_the_host_is_the_name_of_a_plugin():
    registry = Registry.discover()
    names = {name for kind in BASES for name in registry.names(kind)} - set(OTHER_MEANINGS)
    assert {"mdlm", "autoregressive", "oracle", "confidence", "word", "local", "tales"} <= names
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        if path.relative_to(ROOT).parts[0] in ABOUT_PLUGINS or file == "cli/scaffold.py":
            continue  # the scaffold's next steps are an example of a command
        named = {name for text in strings(ast.parse(path.read_text())) for name in names_in(text, names)}
        if named := named - ALLOWED.get(file, set()):
            found[file] = named
    assert not found


def test_the_search_finds_them():
    names = {"mdlm", "word"}
    assert names_in("mdlm", names) == {"mdlm"} and names_in("take --family mdlm or so", names) == {"mdlm"}
    assert names_in("a word of mdlm", names) == set()
    assert list(strings(ast.parse('"""doc"""\nx = "mdlm"'))) == ["mdlm"]

"""Which folder may import which: the table, and every import of the package held against it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import mist_bench

ROOT = Path(mist_bench.__file__).parent
ARROWS = {
    "api": "",
    "engine": "api",
    "host": "api",
    "network": "api engine",
    "hub": "api",
    "data": "api engine",
    "inference": "api engine",
    "training": "api engine host",
    "measure": "api engine data inference",
    "run": "api engine host hub data inference training measure",
    "report": "api engine measure run",
    "bench": "api engine measure run report",
    "sample": "api engine host data inference run report",
    "pages": "api engine host data inference measure",
    "testing": "api engine host data inference measure",
    "cli": "api engine host network hub data inference training measure run report bench sample pages testing",
}


def imports(path: Path) -> Iterator[str]:
    """The modules of ours that a file imports, with dots, as far as they are files: also within functions."""
    package = ["mist_bench", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            parts = [*start, *(node.module or "").split(".")] if node.module else start
            if parts[:1] == ["mist_bench"]:
                yield from (".".join([*parts, name.name]) for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] == "mist_bench")


def files() -> dict[str, Path]:
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}


def arrows() -> Iterator[tuple[str, str]]:
    """(file, imported file), both as `folder.module`."""
    known = files()
    for name, path in known.items():
        for target in imports(path):
            inside = target.removeprefix("mist_bench").lstrip(".")
            found = next((k for k in (inside, inside.rpartition(".")[0]) if k in known), None)
            found = found or next((k for k in (f"{inside}.__init__", f"{inside.rpartition('.')[0]}.__init__") if k in known), None)
            if found not in (None, name, "__init__"):
                yield name, found


def test_the_table_names_the_folders_that_there_are():
    assert {path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file()} == set(ARROWS)


def test_no_folder_imports_what_it_may_not():
    wrong = [f"{file} imports {target}" for file, target in arrows() if "." in file and "." in target
             for folder, other in [(file.split(".")[0], target.split(".")[0])]
             if folder != other and other not in ARROWS[folder].split()]  # fmt: skip
    assert not wrong


def test_no_circle_of_files():
    links: dict[str, set[str]] = {}
    for file, target in arrows():
        if not target.endswith("__init__"):
            links.setdefault(file, set()).add(target)
    while links:
        ends = {target for targets in links.values() for target in targets} - set(links)
        before = len(links)
        links = {file: left for file, targets in links.items() if (left := targets - ends)}
        assert len(links) < before, f"a circle among {sorted(links)}"

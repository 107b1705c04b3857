"""`mist-bench new`: writes a plugin file that already runs, as a beginning."""

from __future__ import annotations

import sys
from pathlib import Path
from string import Template

from ..api.component import UserError
from ..host.registry import NAME, PLURALS, Kind, Registry
from ..host.values import suggest

TEMPLATES = Path(__file__).parent / "templates"
SUFFIX = ".py.txt"
RUN: dict[Kind, str] = {
    "sampler": "--family oracle --corpus markov --schedule linear --sampler {name},random --steps 2,4",
    "schedule": "--schedule {name},linear",
    "tokenizer": "--corpus austen --tokenizer {name}",
}
"""Arguments of the first run with the new plugin."""


def new(kind: str, name: str, registry: Registry, folder: Path) -> Path:
    """Write NAME.py and return its path.

    Raises `UserError` for a kind without a template, for a name that is not valid, is taken or hides a module of
    Python's, and if the file exists.
    """
    template, path = _template(kind), folder / f"{name.replace('-', '_')}.py"
    plural = PLURALS[template]
    if not NAME.fullmatch(name):
        raise UserError(f"cannot call a {kind} {name!r}; a name is lower-case letters, digits, - and _")
    if name in registry.names(template):
        origin = registry.origin(template, name).name
        raise UserError(f"{kind} {name!r} exists already, from {origin}; choose another name (mist-bench ls {plural})")
    if path.stem in sys.stdlib_module_names:
        raise UserError(f"{path.name} would hide Python's own module {path.stem!r}; choose another name")
    title = "".join(part.capitalize() for part in path.stem.split("_"))
    text = Template((TEMPLATES / f"{kind}{SUFFIX}").read_text(encoding="utf-8")).substitute(name=name, title=title)
    try:
        with path.open("x", encoding="utf-8") as file:  # never overwrites
            file.write(text)
    except FileExistsError:
        raise UserError(f"{path.name} exists already; choose another name, or remove it first") from None
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def _template(kind: str) -> Kind:
    for known in RUN:
        if kind == known:
            return known
    raise UserError(f"no template for {kind!r}; {suggest(kind, RUN)} (mist-bench new KIND NAME)")


def next_steps(kind: str, name: str, path: Path) -> str:
    """What to type next."""
    run = RUN[_template(kind)].format(name=name)
    return (
        f"{path.name} is a {kind} that already runs. Edit it, and type:\n"
        f"    mist-bench check {path.name}\n"
        f"    mist-bench run --plugin {path.name} {run}\n"
        f"    mist-bench ls {PLURALS[_template(kind)]} -v --plugin {path.name}"
    )
